"""The liver MR script against a local server and a small archive laid out as the publisher's: whole, damaged, cut."""

import hashlib
import io
import os
import zipfile
from pathlib import Path

import fetch_chaos
import nibabel as nib
import numpy as np
import pydicom
import pytest
from PIL import Image

ROWS, COLUMNS, SLICES = 12, 16, 6
BETWEEN_ROWS, BETWEEN_COLUMNS, BETWEEN_SLICES = 1.25, 1.5, 8.0
CORNER = np.array([-10.0, -20.0, -30.0])
AXIAL = np.array([[1.0, 0, 0], [0, 1, 0]])
TURN = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
OBLIQUE = AXIAL @ TURN.T
# Label: where it lies (slices counted from the feet, rows from the front, columns from the patient's right).
BLOCKS = {
    1: np.s_[3:6, 2:9, 1:8],
    2: np.s_[0:2, 8:11, 2:5],
    3: np.s_[0:2, 8:11, 11:14],
    4: np.s_[3:5, 6:10, 11:15],
}
GREY = np.array([0, 63, 126, 189, 252], np.uint8)


def pixels(seed: int) -> np.ndarray:
    """`[slices, rows, columns]`, from the feet up."""
    return np.random.default_rng(seed).integers(0, 1000, (SLICES, ROWS, COLUMNS)).astype(np.uint16)


def labels() -> np.ndarray:
    volume = np.zeros((SLICES, ROWS, COLUMNS), np.uint8)
    for label, block in BLOCKS.items():
        volume[block] = label
    return volume


def position(k: float, row: float, column: float, axes: np.ndarray) -> np.ndarray:
    """A pixel's place, mm, LPS, as equation C.7.6.2.1-1 of the DICOM standard has it."""
    in_slice = axes[0] * BETWEEN_COLUMNS * column + axes[1] * BETWEEN_ROWS * row
    return CORNER + in_slice + np.cross(*axes) * BETWEEN_SLICES * k


def dicom(array: np.ndarray, number: int, place: np.ndarray, axes: np.ndarray, **tags) -> bytes:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = pydicom.uid.MRImageStorage
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid(entropy_srcs=[str(number)])
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.Dataset()
    data.file_meta = meta
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.SeriesInstanceUID = "1.2.3"
    data.Modality, data.InstanceNumber = "MR", number
    data.ImagePositionPatient = [f"{v:.6f}" for v in place]
    data.ImageOrientationPatient = [f"{v:.6f}" for v in axes.ravel()]
    data.PixelSpacing = [BETWEEN_ROWS, BETWEEN_COLUMNS]
    data.Rows, data.Columns = array.shape
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    data.PixelData = array.tobytes()
    for tag, value in tags.items():
        setattr(data, tag, value)
    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, data, enforce_file_format=True)
    return buffer.getvalue()


def png(grey: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    return buffer.getvalue()


def series(
    patient: int, axes: np.ndarray, head_first: bool = False, same_names: bool = True, **tags
) -> dict[str, bytes]:
    """A patient's T2-SPIR files; numbers run from the feet up, or from the head down."""
    files, place = {}, f"Train_Sets/MR/{patient}/T2SPIR"
    for k in range(SLICES):
        number = SLICES - k if head_first else k + 1
        slice_ = dicom(pixels(patient)[k], number, position(k, 0, 0, axes), axes, **tags)
        # Names that say nothing about the order must not matter: only the numbers do.
        name = f"IMG-0002-{number:05d}" if same_names else f"slice-{(number * 5) % 7}"
        files[f"{place}/DICOM_anon/{name}.dcm"] = slice_
        files[f"{place}/Ground/IMG-0002-{number:05d}.png"] = png(GREY[labels()[k]])
    return files


def whole() -> dict[str, bytes]:
    """Patient 1 straight, 20 oblique and numbered from the head, 3 with T1 alone; and files to leave alone."""
    return {
        **series(20, OBLIQUE, head_first=True),
        **series(1, AXIAL),
        "Train_Sets/MR/3/T1DUAL/DICOM_anon/InPhase/IMG-0004-00002.dcm": b"left alone",
        "Train_Sets/MR/3/T1DUAL/Ground/IMG-0004-00002.png": b"left alone",
        "Train_Sets/CT/1/DICOM_anon/i0000,0000b.dcm": b"left alone",
        "Train_Sets/MR/1/T2SPIR/Ground/._IMG-0002-00001.png": b"left alone",
        "Train_Sets/MR/../../T2SPIR/DICOM_anon/evil.dcm": b"left alone",
    }


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


@pytest.fixture
def server(server):
    """The one of conftest.py, with the archive."""
    server.content = zipped(whole())
    return server


def run(server, root, md5=None):
    md5 = md5 or hashlib.md5(server.content).hexdigest()
    url = f"http://127.0.0.1:{server.server_port}/CHAOS_Train_Sets.zip"
    return fetch_chaos.main(["--root", str(root), "--url", url, "--md5", md5])


def files(root):
    return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p.suffix != ".zip")


def expected(*patients):
    return sorted(f"CHAOS_MR_T2SPIR/{kind}_{p}.nii.gz" for kind in ("image", "label") for p in patients)


def sentences(error):
    """What was printed to stderr beside pooch's progress bar."""
    return [line for line in error.splitlines() if line.strip() and "B/s" not in line]


def load(root, kind, patient):
    return nib.load(root / "CHAOS_MR_T2SPIR" / f"{kind}_{patient}.nii.gz")


@pytest.mark.parametrize(("patient", "axes"), [(1, AXIAL), (20, OBLIQUE)])
def test_voxels_labels_and_places_are_those_of_the_slices(server, tmp_path, patient, axes):
    assert run(server, tmp_path) == 0
    assert files(tmp_path) == expected(1, 20)
    image, label = load(tmp_path, "image", patient), load(tmp_path, "label", patient)
    np.testing.assert_array_equal(image.get_fdata(), pixels(patient).transpose(2, 1, 0))
    np.testing.assert_array_equal(label.get_fdata(), labels().transpose(2, 1, 0))
    assert (image.get_data_dtype(), label.get_data_dtype()) == (np.int16, np.uint8)
    for written in (image, label):
        for index in [(0, 0, 0), (COLUMNS - 1, 3, 2), (5, ROWS - 1, SLICES - 1)]:
            column, row, k = index
            place = position(k, row, column, axes) * [-1, -1, 1]
            np.testing.assert_allclose(nib.affines.apply_affine(written.affine, index), place, atol=1e-4)
    np.testing.assert_allclose(image.header.get_zooms(), [BETWEEN_COLUMNS, BETWEEN_ROWS, BETWEEN_SLICES], atol=1e-4)
    np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)


def test_itk_reads_the_same_volume_from_the_same_slices(server, tmp_path):
    itk = pytest.importorskip("itk", reason="the extra 'baselines' (itk-elastix) is not installed")
    assert run(server, tmp_path) == 0
    for patient, axes in [(1, AXIAL), (20, OBLIQUE)]:
        names = []
        for name, content in sorted(series(patient, axes, head_first=patient == 20).items()):
            if name.endswith(".dcm"):
                names.append(str(tmp_path / f"{patient}-{Path(name).name}"))
                Path(names[-1]).write_bytes(content)
        theirs = itk.imread(names[::-1] if patient == 20 else names, itk.SS)
        ours = itk.imread(str(tmp_path / "CHAOS_MR_T2SPIR" / f"image_{patient}.nii.gz"), itk.SS)
        np.testing.assert_array_equal(itk.array_from_image(ours), itk.array_from_image(theirs))
        for property_ in ("GetOrigin", "GetSpacing"):
            np.testing.assert_allclose(getattr(ours, property_)(), getattr(theirs, property_)(), atol=1e-4)
        directions = [itk.array_from_matrix(i.GetDirection()) for i in (ours, theirs)]
        np.testing.assert_allclose(*directions, atol=1e-5)


def test_the_package_reads_what_was_written(server, tmp_path):
    from lddr.data.nifti import read_image, read_labels

    assert run(server, tmp_path) == 0
    folder = tmp_path / "CHAOS_MR_T2SPIR"
    image = read_image(folder / "image_20.nii.gz")
    label = read_labels(folder / "label_20.nii.gz", image)
    assert np.unique(label.array).tolist() == [0, 1, 2, 3, 4]
    middle = {n: label.affine[:3, :3] @ np.argwhere(label.array == n).mean(0) for n in (1, 2, 3, 4)}
    assert middle[2][0] > middle[3][0]  # the right kidney is on the right
    assert middle[1][2] > max(middle[2][2], middle[3][2])


def test_a_rescale_slope_is_applied(server, tmp_path):
    server.content = zipped(series(1, AXIAL, RescaleSlope="0.5", RescaleIntercept="-3"))
    assert run(server, tmp_path) == 0
    image = load(tmp_path, "image", 1)
    np.testing.assert_allclose(image.get_fdata(), pixels(1).transpose(2, 1, 0) * 0.5 - 3)
    assert image.get_data_dtype() == np.float32


@pytest.mark.parametrize("head_first", [False, True])
def test_masks_with_other_names_follow_the_instance_numbers(server, tmp_path, head_first):
    server.content = zipped(series(1, AXIAL, head_first=head_first, same_names=False))
    assert run(server, tmp_path) == 0
    np.testing.assert_array_equal(load(tmp_path, "label", 1).get_fdata(), labels().transpose(2, 1, 0))


def test_a_second_run_downloads_and_writes_nothing(server, tmp_path, capsys):
    assert run(server, tmp_path) == 0
    assert "2 patients in place." in capsys.readouterr().out
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    assert run(server, tmp_path) == 0
    assert server.asked == 1
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)} == before


def test_a_run_that_was_stopped_goes_on_where_it_was(server, tmp_path, monkeypatch):
    replace = os.replace

    def stopped(part, path):
        if "label_20" in str(path):
            raise KeyboardInterrupt
        replace(part, path)

    monkeypatch.setattr(os, "replace", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(server, tmp_path)
    assert files(tmp_path) == sorted([*expected(1), "CHAOS_MR_T2SPIR/image_20.nii.gz"])
    before = (tmp_path / expected(1)[0]).stat().st_mtime_ns
    monkeypatch.undo()
    (tmp_path / "CHAOS_MR_T2SPIR" / ".image_20.nii.gz.part.nii.gz").write_bytes(b"of a run that was killed")
    assert run(server, tmp_path) == 0
    assert files(tmp_path) == expected(1, 20)
    assert (tmp_path / expected(1)[0]).stat().st_mtime_ns == before
    assert server.asked == 1


def test_a_transfer_cut_short_leaves_nothing_and_the_next_run_succeeds(server, tmp_path, capsys):
    server.cut = 1000
    assert run(server, tmp_path) == 2
    assert "no download" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    server.cut = None
    assert run(server, tmp_path) == 0


def test_another_checksum_is_refused_in_a_sentence(server, tmp_path, capsys):
    assert run(server, tmp_path, md5="0" * 32) == 2
    assert "has another MD5 sum than expected; run this again." in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_no_server_is_one_sentence(tmp_path, capsys):
    assert fetch_chaos.main(["--root", str(tmp_path), "--url", "http://127.0.0.1:9/a.zip", "--md5", "0" * 32]) == 2
    assert "no download (ConnectionError). Is there a network?" in capsys.readouterr().err


def test_a_full_disk_is_said_before_anything_is_fetched(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fetch_chaos, "ARCHIVE_SPACE", 1e18)
    assert run(server, tmp_path) == 2
    assert "MB are free" in capsys.readouterr().err
    assert server.asked == 0


def test_an_archive_already_there_needs_less_room(server, tmp_path, monkeypatch):
    (tmp_path / "CHAOS_Train_Sets.zip").write_bytes(server.content)
    monkeypatch.setattr(fetch_chaos, "ARCHIVE_SPACE", 1e18)
    assert run(server, tmp_path) == 0
    assert server.asked == 0


def test_a_folder_that_cannot_be_made_is_one_sentence(server, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert run(server, tmp_path / "file" / "data") == 2
    assert "could not be written" in capsys.readouterr().err


@pytest.mark.parametrize("damage", ["truncated", "one bit", "no zip"])
def test_a_damaged_archive_is_one_sentence(server, tmp_path, capsys, damage):
    content = server.content
    middle = content.index(b"IMG-0002-00001.png") + 60
    server.content = {
        "truncated": content[: len(content) // 2],
        "one bit": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "no zip": b"<html>an error page</html>",
    }[damage]
    assert run(server, tmp_path) == 2
    (sentence,) = sentences(capsys.readouterr().err)
    assert "CHAOS_Train_Sets.zip: the archive is damaged or cut short" in sentence
    assert not [name for name in files(tmp_path) if ".part" in name]


def test_an_archive_of_something_else_is_one_sentence(server, tmp_path, capsys):
    server.content = zipped({"Train_Sets/CT/1/DICOM_anon/i0.dcm": b""})
    assert run(server, tmp_path) == 2
    assert "expected Train_Sets/MR/*/T2SPIR in this archive, found none." in capsys.readouterr().err


PLACE = "Train_Sets/MR/1/T2SPIR"
SECOND, MASK = f"{PLACE}/DICOM_anon/IMG-0002-00002.dcm", f"{PLACE}/Ground/IMG-0002-00002.png"


def axial(k: float, array: np.ndarray | None = None, axes: np.ndarray = AXIAL, **tags) -> bytes:
    return dicom(pixels(1)[1] if array is None else array, 2, position(k, 0, 0, AXIAL), axes, **tags)


TILTED = np.array([[1, 0, 0], [0, 0.8, 0.6]])
WRONG = {
    "no mask": ({MASK: None}, f"{PLACE}: expected one mask for each slice, found 6 slices and 5 masks."),
    "mask size": ({MASK: png(np.zeros((ROWS, 9), np.uint8))}, f"{MASK}: expected (12, 16) grey values of 8 bits"),
    "mask colour": ({MASK: png(np.zeros((ROWS, COLUMNS, 3), np.uint8))}, f"{MASK}: expected (12, 16) grey values"),
    "mask grey": (
        {MASK: png(np.full((ROWS, COLUMNS), 100, np.uint8))},
        f"{MASK}: found the grey value 100; expected 0",
    ),
    "mask cut": (
        {MASK: png(pixels(2)[0].astype(np.uint8))[:100]},
        f"{MASK}: this is not a PNG image, or it is damaged.",
    ),
    "no png": ({MASK: b""}, f"{MASK}: this is not a PNG image, or it is damaged."),
    "slice size": ({SECOND: axial(1, np.zeros((ROWS, 9), np.uint16))}, f"{SECOND}: expected (12, 16) pixels as in"),
    "slice tilted": ({SECOND: axial(1, axes=TILTED)}, f"{SECOND}: expected the orientation and pixel size"),
    "pixel size": ({SECOND: axial(1, PixelSpacing=[2, 2])}, f"{SECOND}: expected the orientation and pixel size"),
    "slice distance": ({SECOND: axial(1.05)}, "expected a slice every 8.00 mm, within 1 %"),
    "slice twice": ({SECOND: axial(0)}, "expected a slice every 8.00 mm, within 1 %"),
    "no dicom": ({SECOND: b"x"}, f"{SECOND}: this is not a DICOM slice that can be used ("),
    "slice cut": ({SECOND: axial(1)[:-50]}, f"{SECOND}: this is not a DICOM slice that can be used ("),
    "no position": (
        {SECOND: axial(1, ImagePositionPatient=None)},
        f"{SECOND}: this is not a DICOM slice that can be used",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_with_a_patient_is_one_sentence_and_the_others_are_converted(server, tmp_path, capsys, wrong):
    changes, sentence = WRONG[wrong]
    server.content = zipped({name: c for name, c in (whole() | changes).items() if c is not None})
    assert run(server, tmp_path) == 2
    printed = capsys.readouterr()
    assert sentence in printed.err
    assert [line.startswith(PLACE) for line in sentences(printed.err)] == [True]
    assert "1 patients in place." in printed.out
    assert files(tmp_path) == expected(20)


def test_one_slice_is_no_volume(server, tmp_path, capsys):
    first = {name: c for name, c in series(1, AXIAL).items() if "00001." in name}
    server.content = zipped(first)
    assert run(server, tmp_path) == 2
    assert f"{PLACE}: expected two slices or more, found 1." in capsys.readouterr().err


def test_a_small_unevenness_of_slices_is_let_pass(server, tmp_path):
    server.content = zipped(whole() | {SECOND: axial(1.005)})
    assert run(server, tmp_path) == 0


@pytest.mark.parametrize(("flip", "sentence"), [(0, "above the right kidney"), (2, "right of the spleen")])
def test_masks_in_the_wrong_order_or_mirrored_are_noticed(server, tmp_path, capsys, flip, sentence):
    flipped = GREY[np.flip(labels(), flip)]
    masks = {f"{PLACE}/Ground/IMG-0002-{k + 1:05d}.png": png(flipped[k]) for k in range(SLICES)}
    server.content = zipped(whole() | masks)
    assert run(server, tmp_path) == 2
    assert f"{PLACE}: expected the liver {sentence}" in capsys.readouterr().err
    assert files(tmp_path) == expected(20)


def test_every_grey_value_of_the_challenge_has_its_label(tmp_path):
    grey = np.array([[0, 55, 63, 70, 110, 126, 135, 175, 189, 200, 240, 252, 255]], np.uint8)
    with zipfile.ZipFile(io.BytesIO(zipped({"mask.png": png(grey)}))) as archive:
        found = fetch_chaos.read_mask(archive, "mask.png", grey.shape)
    assert found.tolist() == [[0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]]
