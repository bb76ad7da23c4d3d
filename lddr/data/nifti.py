"""Read a scan from a NIfTI file, checked; write one so that it is never half there."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import nibabel as nib
import numpy as np
from isal import igzip

from lddr.data.header import near, place_of, without_shear
from lddr.data.volume_file import read_volume
from lddr.errors import InputError
from lddr.files import atomic_write

WHOLE = 1e-3  # a label that is this near to a whole number is it: a mask of 0 and 255, scaled by 1/255, reads 1.0000001
QUICK = 1  # of gzip's levels: a field of floats gets hardly smaller with more, and takes many times as long


@dataclass(frozen=True)
class Scan:
    """A volume and where it lies in the scanner.

    Attributes:
        array: `[X, Y, Z]`, axes towards Right, Anterior, Superior (as nearly as an oblique scan allows).
        affine: `[4, 4]`, voxel index -> millimetres in RAS space.
        path: the file it came from, for messages.
        file_affine: the same of the file, before its axes were put in RAS order.
        file_shape: the shape as the file has it.
        same_in_itk: whether ITK and ANTs, given the file, put its voxels in the same place; see `lddr.data.header`.
    """

    array: np.ndarray
    affine: np.ndarray
    path: str
    file_affine: np.ndarray
    file_shape: tuple[int, ...]
    same_in_itk: bool = True

    @property
    def spacing(self) -> np.ndarray:
        """Millimetres between voxels along each axis, `[3]`."""
        return nib.affines.voxel_sizes(self.affine)


def read_image(path: str | Path) -> Scan:
    """Read an intensity image; chapter 01 does it step by step.

    Args:
        path: a `.nii` or `.nii.gz` file, or one of a pair `.hdr` and `.img`, with one 3-D volume (trailing axes of
            length 1 are dropped).

    Returns:
        A `Scan`, float32 (scale factors are applied in float64, and the result is rounded once), in RAS order.

    Raises:
        InputError: missing, damaged, not NIfTI; colours; not 3-D; empty, flat, NaN or infinite; no usable affine.
    """
    scan, slope, inter = _load(path)
    array = _scaled(scan.array, slope, inter)
    low, high = array.min(), array.max()
    if not np.isfinite([low, high]).all():
        bad = array.size - np.count_nonzero(np.isfinite(array))
        raise InputError(f"{path}: {bad} of {array.size} voxels are NaN or infinite; expected finite intensities.")
    if low == high:
        raise InputError(f"{path}: all voxels are {low:g}; expected a scan with contrast.")
    return replace(scan, array=array)


def read_labels(path: str | Path, image: Scan | None = None, most: int = 32767) -> Scan:
    """Read a map of integer labels.

    Args:
        path: see `read_image`; a volume of whole numbers, but for a thousandth.
        image: the scan it belongs to; if given, shapes and affines must agree.
        most: the largest label it may hold.

    Returns:
        A `Scan`, int16, in RAS order.

    Raises:
        InputError: as `read_image`; also values that are not whole numbers from 0 to `most`, or another shape or affine
            than the image's.
    """
    scan, slope, inter = _load(path)
    array = scan.array
    if array.dtype.kind == "f" or (slope, inter) != (1, 0):
        scaled = _scaled(array, slope, inter)  # a float32 is exact to 2^24, labels end below 2^15
        array = np.rint(scaled)
        with np.errstate(invalid="ignore"):
            apart = np.abs(scaled - array).max()
        if not apart <= WHOLE:  # NaN is not, either
            found = f"{path}: expected whole numbers as labels, found other values (is this an intensity image?)."
            raise InputError(found)
    if array.min() < 0 or array.max() > most:
        raise InputError(f"{path}: expected labels from 0 to {most}, found {array.min():.0f} to {array.max():.0f}.")
    if image is not None:
        same_place = np.allclose(scan.affine, image.affine, atol=1e-2)  # headers hold float32, or shorter
        if not same_place or array.shape != image.array.shape:
            found = f"{path}: the labels have shape {scan.file_shape}, their image {image.path} has {image.file_shape}"
            raise InputError(f"{found}{'' if same_place else ', and their affines differ'}.")
    return replace(scan, array=array.astype(np.int16))


@np.errstate(over="ignore", invalid="ignore")  # of a header's numbers that `place_of` refuses or announces
def _load(path: str | Path) -> tuple[Scan, float, float]:
    """Load the stored numbers of a file in RAS order, without copying them, and what they are to be scaled by."""
    header, stored = read_volume(path)
    slope, inter = _scaling(header, path)
    affine, same_in_itk = place_of(header, stored.shape, path)
    order = nib.io_orientation(affine)
    turned = nib.apply_orientation(stored, order)
    turned_affine = affine @ nib.orientations.inv_ornt_aff(order, stored.shape)
    scan = Scan(turned, turned_affine, str(path), affine, stored.shape, same_in_itk)
    return scan, slope, inter


def _scaling(header: nib.AnalyzeHeader, path: str | Path) -> tuple[float, float]:
    """Read what stored numbers are to be multiplied by, and what is to be added."""
    try:
        slope, inter = header.get_slope_inter()
    except nib.spatialimages.HeaderDataError:
        raise InputError(f"{path}: the header is damaged, its scale factors are not finite.") from None
    return 1.0 if slope is None else slope, inter or 0.0


def _scaled(stored: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """Scale stored numbers, float32."""
    if (slope, inter) == (1, 0):
        forward = min(stored.strides) > 0  # a copy for PyTorch, which takes no axis that runs backwards
        with np.errstate(over="ignore"):  # too large for a float32 becomes infinite, and is refused
            return stored.astype(np.float32, copy=not forward)
    return by_planes(stored, lambda plane: plane * np.float64(slope) + inter)


def by_planes(array: np.ndarray, compute: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Compute a volume in float64 and round it to float32 once, plane by plane, to spare memory; axes run forwards."""
    result = np.empty_like(array, dtype=np.float32)
    slowest = int(np.argmax(np.abs(array.strides)))
    with np.errstate(over="ignore", invalid="ignore"):
        for plane, into in zip(np.moveaxis(array, slowest, 0), np.moveaxis(result, slowest, 0), strict=True):
            into[...] = compute(plane)
    return result


@dataclass(frozen=True)
class Field:
    """A volume of vectors, as a file has it.

    Attributes:
        array: `[X, Y, Z, ...]` float32, the axes in the file's own order.
        affine: `[4, 4]`, voxel index -> millimetres in RAS space.
        same_in_itk: see `Scan`.
        intent, name: what the vectors are, by NIfTI's code and in words.
    """

    array: np.ndarray
    affine: np.ndarray
    same_in_itk: bool
    intent: int
    name: str


def read_field(path: str | Path) -> Field:
    """Read a volume of vectors, such as a displacement.

    Raises:
        InputError: as `read_image`, but for the number of axes; also vectors that are not finite.
    """
    header, stored = read_volume(path, vectors=True)
    affine, same_in_itk = place_of(header, stored.shape[:3], path)
    array = _scaled(stored, *_scaling(header, path))
    if not np.isfinite([array.min(), array.max()]).all():
        raise InputError(f"{path}: some vectors are NaN or infinite; expected finite ones.")
    name = bytes(header["intent_name"]).rstrip(b"\0").decode("ascii", "replace")
    return Field(array, affine, same_in_itk, int(header["intent_code"]), name)


def write_nifti(
    path: str | Path, array: np.ndarray, affine: np.ndarray, intent: str | None = None, name: str = ""
) -> None:
    """Write a volume or a field, whole or not at all.

    Both forms of the affine are written. A qform cannot express shear, so one that would differ from the sform is
    left out: whatever reads the file puts its voxels in the same place, or (ITK) refuses it.

    Args:
        path: where; ends in `.nii.gz`.
        array, affine: `[X, Y, Z, ...]`, and `[4, 4]`, voxel index -> millimetres in RAS space.
        intent, name: NIfTI's intent, for example "vector", and its name, 15 letters at most.

    Raises:
        InputError: the folder cannot be written to.
    """
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=int(near(affine, without_shear(affine), array.shape)))
    image.header.set_intent(intent or "none", name=name)
    image.header.set_slope_inter(1, 0)
    image.header["vox_offset"] = image.header.single_vox_offset
    with atomic_write(path) as part, part.open("wb") as raw:
        with igzip.IGzipFile("", "wb", QUICK, raw, mtime=0) as packed:  # no name and no date: the same bytes again
            packed.write(image.header.binaryblock + bytes(4))  # the four say that no extension follows
            packed.write(np.ascontiguousarray(array.T))  # as it lies in memory; nibabel would copy it piece by piece
