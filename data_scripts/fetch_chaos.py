"""Get the liver MR scans (CHAOS challenge, T2-SPIR) from their publisher; make NIfTI files of them.

    python data_scripts/fetch_chaos.py --root FOLDER

The archive is 891 MB: the training sets, version 1.03 (Zenodo record 3431873; doi:10.5281/zenodo.3362844 stands for all
versions). It stays in FOLDER; if you have it already, put it there first. Run this again after an interruption: an
archive that came whole and scans that are complete are kept. CT and T1-DUAL scans are left out.

A scan keeps the voxels of its slices: nothing is resampled, cropped or clipped. Its place comes from the DICOM headers.
Licence of the scans: CC BY-NC-SA 4.0 (Kavur et al. 2021, Medical Image Analysis 69:101950).
"""

import io
import re
import sys
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from download import exit_code, fetch, parser_of
from PIL import Image

from lddr.data.liver import FOLDER
from lddr.data.nifti import write_nifti
from lddr.errors import InputError

try:
    import pydicom
except ImportError:
    print("This script reads DICOM and needs pydicom: run 'make env', or pip install 'lddr[data]'.", file=sys.stderr)
    sys.exit(2)

ARCHIVE = "CHAOS_Train_Sets.zip"
URL = f"https://zenodo.org/records/3431873/files/{ARCHIVE}"
MD5 = "df21053002a1cc86df918a87da3b2c19"
ARCHIVE_SPACE, SCANS_SPACE = 1.0e9, 0.2e9  # bytes, with room to spare
MEMBER = re.compile(r"Train_Sets/MR/(\d+)/T2SPIR/(DICOM_anon|Ground)/[^/.][^/]*\.(dcm|png)")
# The grey values of each organ in the masks, as the challenge gives them; the place in the list is the label.
ORGANS = [
    ("background", 0, 0),
    ("liver", 55, 70),
    ("right kidney", 110, 135),
    ("left kidney", 175, 200),
    ("spleen", 240, 255),
]
UNKNOWN = 255
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class Slice(NamedTuple):
    """One DICOM slice.

    Attributes:
        name: in the archive.
        number: its InstanceNumber.
        pixels: `[rows, columns]`.
        position: of the first pixel's centre, `[3]`, mm, LPS.
        right, down: the way from a pixel to the next in its row, and in its column, `[3]`, mm, LPS.
    """

    name: str
    number: int
    pixels: np.ndarray
    position: np.ndarray
    right: np.ndarray
    down: np.ndarray


def find_series(archive: zipfile.ZipFile) -> dict[str, tuple[list[str], list[str]]]:
    """List the names of each patient's T2-SPIR slices and masks, patients by number, names in order.

    Raises:
        InputError: there are none.
    """
    series: dict[str, tuple[list[str], list[str]]] = {}
    for name in sorted(archive.namelist()):
        if found := MEMBER.fullmatch(name):
            patient, place, ending = found.groups()
            if (place, ending) in (("DICOM_anon", "dcm"), ("Ground", "png")):
                series.setdefault(patient, ([], []))[ending == "png"].append(name)
    if not series:
        raise InputError(f"{archive.filename}: expected Train_Sets/MR/*/T2SPIR in this archive, found none.")
    return dict(sorted(series.items(), key=lambda item: int(item[0])))


def read_slice(archive: zipfile.ZipFile, name: str) -> Slice:
    """Read one DICOM slice; where its header has a rescale slope, it is applied.

    Raises:
        InputError: not DICOM, cut short, or without the tags that are needed.
    """
    content = archive.read(name)
    try:
        header = pydicom.dcmread(io.BytesIO(content))
        directions = np.array(header.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = (float(s) for s in header.PixelSpacing)
        pixels = header.pixel_array * float(header.get("RescaleSlope", 1)) + float(header.get("RescaleIntercept", 0))
        position = np.array(header.ImagePositionPatient, float).reshape(3)
        right, down = directions[0] * between_columns, directions[1] * between_rows
        return Slice(name, int(header.InstanceNumber), pixels, position, right, down)
    except Exception as error:  # pydicom raises errors of many types for files that are not what they should be
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
        raise InputError(f"{name}: this is not a DICOM slice that can be used ({reason}).") from None


def read_mask(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Read one mask as labels, `[rows, columns]`, uint8.

    Raises:
        InputError: not PNG, another size than `shape`, or a grey value that stands for no organ.
    """
    content = archive.read(name)
    try:
        grey = np.asarray(Image.open(io.BytesIO(content)))
    except (OSError, SyntaxError, ValueError):
        raise InputError(f"{name}: this is not a PNG image, or it is damaged.") from None
    if grey.shape != shape or grey.dtype != np.uint8:
        raise InputError(
            f"{name}: expected {shape} grey values of 8 bits, as its slice has; found {grey.shape}, {grey.dtype}."
        )
    table = np.full(256, UNKNOWN, np.uint8)
    for label, (_, low, high) in enumerate(ORGANS):
        table[low : high + 1] = label
    labels = table[grey]
    if (labels == UNKNOWN).any():
        known = ", ".join(f"{low} to {high} ({organ})" for organ, low, high in ORGANS)
        raise InputError(f"{name}: found the grey value {grey[labels == UNKNOWN][0]}; expected {known}.")
    return labels


def pair(slices: list[Slice], masks: list[str], place: str) -> dict[str, str]:
    """Which mask belongs to which slice, by name.

    In CHAOS a mask has the name of its slice. Where names differ, the first mask belongs to the slice with the lowest
    InstanceNumber, and so on.

    Raises:
        InputError: not as many masks as slices.
    """
    if len(slices) != len(masks):
        raise InputError(
            f"{place}: expected one mask for each slice, found {len(slices)} slices and {len(masks)} masks."
        )
    by_stem = {PurePosixPath(m).stem: m for m in masks}
    if {PurePosixPath(s.name).stem for s in slices} == set(by_stem):
        return {s.name: by_stem[PurePosixPath(s.name).stem] for s in slices}
    in_order = sorted(slices, key=lambda s: s.number)
    return {s.name: m for s, m in zip(in_order, sorted(masks), strict=True)}


def stack(slices: list[Slice], place: str) -> tuple[list[Slice], np.ndarray]:
    """Put slices in order along their normal, and find where the volume lies.

    Returns:
        The slices, and `[4, 4]`: (column, row, slice) -> millimetres in RAS space.

    Raises:
        InputError: fewer than two slices, or slices that do not make a regular volume.
    """
    if len(slices) < 2:
        raise InputError(f"{place}: expected two slices or more, found {len(slices)}.")
    first = slices[0]
    for s in slices:
        if s.pixels.shape != first.pixels.shape:
            raise InputError(
                f"{s.name}: expected {first.pixels.shape} pixels as in {first.name}, found {s.pixels.shape}."
            )
        if not np.allclose([s.right, s.down], [first.right, first.down], atol=1e-3):
            raise InputError(f"{s.name}: expected the orientation and pixel size of {first.name}, found others.")
    slices = sorted(slices, key=lambda s: s.position @ np.cross(first.right, first.down))
    positions = np.array([s.position for s in slices])
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    off = np.linalg.norm(np.diff(positions, axis=0) - step, axis=1)
    if off.max() > 0.01 * np.linalg.norm(step):
        where = np.argmax(off)
        found = np.linalg.norm(positions[where + 1] - positions[where])
        raise InputError(
            f"{slices[where + 1].name}: expected a slice every {np.linalg.norm(step):.2f} mm, within 1 %; "
            f"found it {found:.2f} mm from the one before, or out of line."
        )
    affine = np.eye(4)
    affine[:3] = np.column_stack([first.right, first.down, step, positions[0]])
    return slices, LPS_TO_RAS @ affine


def check_places(labels: np.ndarray, affine: np.ndarray, place: str) -> None:
    """Check that the organs lie where they do in a body: masks in the wrong order, or mirrored, would show here.

    Args:
        labels: `[X, Y, Z]`.
        affine: `[4, 4]`, voxel index -> millimetres in RAS space.
        place: for the message.

    Raises:
        InputError: the middle of the liver is not right of the spleen's, or not above a kidney's.
    """
    present = [label for label in range(1, len(ORGANS)) if (labels == label).any()]
    middle = {label: affine[:3, :3] @ np.argwhere(labels == label).mean(0) for label in present}
    liver, kidneys, spleen = 1, (2, 3), 4
    if liver in middle:
        for other, axis, side in [(spleen, 0, "right of"), *((kidney, 2, "above") for kidney in kidneys)]:
            if other in middle and middle[liver][axis] <= middle[other][axis]:
                raise InputError(
                    f"{place}: expected the liver {side} the {ORGANS[other][0]}, found it elsewhere, so slices and "
                    "masks are not in the same order."
                )


def convert(archive: zipfile.ZipFile, names: list[str], masks: list[str], patient: str, folder: Path) -> None:
    """Write one patient's `image_N.nii.gz` and `label_N.nii.gz`, the labels last.

    Raises:
        InputError: slices or masks that cannot be used, or a folder that cannot be written to.
    """
    place = f"Train_Sets/MR/{patient}/T2SPIR"
    slices = [read_slice(archive, name) for name in names]
    mask_of = pair(slices, masks, place)
    slices, affine = stack(slices, place)
    image = np.stack([s.pixels.T for s in slices], axis=-1)
    whole = (image == np.rint(image)).all() and np.abs(image).max() < 2**15
    labels = np.stack([read_mask(archive, mask_of[s.name], s.pixels.shape).T for s in slices], axis=-1)
    check_places(labels, affine, place)
    write_nifti(folder / f"image_{patient}.nii.gz", image.astype(np.int16 if whole else np.float32), affine)
    write_nifti(folder / f"label_{patient}.nii.gz", labels, affine)


def convert_all(path: Path, folder: Path) -> tuple[int, list[InputError]]:
    """Convert every patient who is not there yet; one who cannot be converted does not stop the others.

    Returns:
        How many patients are in place, and what was wrong with the others.

    Raises:
        InputError: the archive is damaged.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, problems = 0, []
    try:
        with zipfile.ZipFile(path) as archive:
            for patient, (names, masks) in find_series(archive).items():
                try:
                    if not all((folder / f"{kind}_{patient}.nii.gz").exists() for kind in ("image", "label")):
                        convert(archive, names, masks, patient, folder)
                    count += 1
                except InputError as problem:
                    problems.append(problem)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InputError(f"{path}: the archive is damaged or cut short ({error}); delete it, run this again.") from None
    finally:
        for part in folder.glob(".*.part.nii.gz"):  # of a file that was being written when the script was stopped
            part.unlink()
    return count, problems


def main(arguments: list[str] | None = None) -> int:
    """Fetch, convert, say what comes next; 0, or 2 with a sentence for each problem."""
    parser = parser_of(__doc__)
    parser.add_argument("--url", default=URL, help="another address of the same archive")
    parser.add_argument("--md5", default=MD5, help="its MD5 sum")
    options = parser.parse_args(arguments)
    root = options.root
    space = SCANS_SPACE if (root / ARCHIVE).exists() else ARCHIVE_SPACE + SCANS_SPACE

    def work() -> int:
        archive = fetch(root, options.url, options.md5, ARCHIVE, space)
        count, problems = convert_all(archive, root / FOLDER)
        print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
        print(f"{root / FOLDER}: {count} patients in place.")
        print(f"Next: export LDDR_DATA={root.resolve()}")
        return 2 if problems else 0

    return exit_code(work, f"{root}: the scans could not be written")


if __name__ == "__main__":
    sys.exit(main())
