"""Where voxels lie: units, guesses and contradictions of a header, and what nibabel, ITK and ANTs make of our files."""

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lddr.data.header import without_shear
from lddr.data.nifti import read_image, read_labels, write_nifti
from lddr.errors import InputError

SHAPE = (24, 20, 16)


@pytest.fixture
def volume(rng):
    return rng.random(SHAPE, dtype=np.float32)


def turned(angles=(0.3, -0.2, 0.5), spacing=(1.0, 1.5, 2.5), shear=0.0) -> np.ndarray:
    """An oblique affine about the origin; with a shear it is what a tilted gantry makes."""
    x, y, z = (np.array([np.cos(a), np.sin(a)]) for a in angles)
    about_x = np.array([[1, 0, 0], [0, x[0], -x[1]], [0, x[1], x[0]]])
    about_y = np.array([[y[0], 0, y[1]], [0, 1, 0], [-y[1], 0, y[0]]])
    about_z = np.array([[z[0], -z[1], 0], [z[1], z[0], 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_x @ about_y @ about_z @ np.diag(spacing)
    affine[1, 2] += shear
    affine[:3, 3] = 10, -20, 30
    return affine


def saved(
    path: Path, array: np.ndarray, sform=None, qform=None, unit: str = "mm", kind: type = nib.Nifti1Image
) -> Path:
    """Write a file by nibabel with one form of the affine, with both, or with none."""
    image = kind(array, None)
    image.header.set_zooms(nib.affines.voxel_sizes(np.eye(4) if sform is None else sform))
    image.set_sform(sform, code=int(sform is not None))
    if qform is not None:
        image.set_qform(qform, code=1)
    image.header.set_xyzt_units(unit)
    nib.save(image, path)
    return path


def by_itk(path: Path) -> np.ndarray:
    """The affine by which ITK reads a file, for RAS millimetres; ITK itself counts to Left and Posterior."""
    itk = pytest.importorskip("itk", reason="the extra 'baselines' (itk-elastix) is not installed")
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) @ np.diag(np.array(image.GetSpacing()))
    affine[:3, 3] = np.array(image.GetOrigin())
    return np.diag([-1, -1, 1, 1]) @ affine


def by_ants(path: Path) -> np.ndarray:
    """The same for ANTs."""
    ants = pytest.importorskip("ants", reason="the extra 'baselines' (antspyx) is not installed")
    image = ants.image_read(str(path))
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = image.direction @ np.diag(image.spacing), image.origin
    return np.diag([-1, -1, 1, 1]) @ affine


def warnings(capsys) -> list[str]:
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize(("unit", "millimetres"), [("meter", 1000), ("micron", 0.001), ("mm", 1), ("unknown", 1)])
def test_units_become_millimetres_as_in_itk(tmp_path, volume, unit, millimetres):
    path = saved(tmp_path / "a.nii.gz", volume, turned(spacing=np.array([1.0, 1.5, 2.5]) / millimetres), unit=unit)
    scan = read_image(path)
    assert np.allclose(scan.spacing, [1, 1.5, 2.5], rtol=1e-5)
    assert np.allclose(scan.file_affine, by_itk(path), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(("spacing", "side"), [(0.001, "0.024"), (1000.0, "2.4e+04")])
def test_a_size_that_no_body_has_is_announced(tmp_path, volume, capsys, spacing, side):
    path = saved(tmp_path / "a.nii.gz", volume, np.diag([spacing] * 3 + [1]), unit="unknown")
    assert np.allclose(read_image(path).spacing, spacing)
    words = f"{path}: the longest side of the volume is {side} mm; if it is not, correct the header's unit."
    assert warnings(capsys) == [f"lddr: warning: {words}"]


@pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.AnalyzeImage])
def test_a_guessed_orientation_is_nibabels_announced_and_written_as_one_for_all(tmp_path, volume, capsys, kind):
    """ITK guesses that the second axis runs to Posterior: so it is told, and what we write leaves nothing to guess."""
    path = tmp_path / ("a.img" if kind is nib.AnalyzeImage else "a.nii")
    image = kind(volume, None)
    image.header.set_zooms((1, 1.5, 2.5))
    nib.save(image, path)
    scan = read_image(path)
    assert np.allclose(scan.file_affine, nib.load(path).affine)
    assert nib.aff2axcodes(scan.file_affine) == ("L", "A", "S")
    assert not scan.same_in_itk
    assert not np.allclose(by_itk(path)[:3, :3], scan.file_affine[:3, :3]), "else nobody needs to be told"
    words = "the header does not say which side is which; taken: Left, Anterior, Superior, as nibabel does."
    assert warnings(capsys) == [f"lddr: warning: {path}: {words} ITK and ANTs take Left, Posterior, Superior."]
    write_nifti(tmp_path / "b.nii.gz", volume, scan.file_affine)
    again = read_image(tmp_path / "b.nii.gz")
    assert np.array_equal(again.array, scan.array)
    assert again.same_in_itk
    for reader in (by_itk, by_ants):
        assert np.allclose(reader(tmp_path / "b.nii.gz"), scan.file_affine, atol=1e-5)
    assert warnings(capsys) == []


def test_an_orientation_that_is_known_is_read_without_a_word_as_itk_and_ants_read_it(tmp_path, volume, capfd):
    affine = turned()
    for forms in ({"sform": affine}, {"qform": affine, "sform": affine}):
        path = saved(tmp_path / "a.nii.gz", volume, **forms)
        scan = read_image(path)
        assert scan.same_in_itk
        assert capfd.readouterr().err == ""
        for place in (nib.load(path).affine, by_itk(path), by_ants(path)):
            assert np.allclose(scan.file_affine, place, atol=1e-4)
    image = nib.Nifti1Image(volume, None)
    image.set_qform(affine, code=1)
    nib.save(image, path)
    assert np.allclose(read_image(path).file_affine, affine, atol=1e-5)
    assert capfd.readouterr().err == ""


def test_two_affines_in_one_header_are_announced_and_not_the_same_in_itk(tmp_path, volume, capsys):
    path = saved(tmp_path / "a.nii.gz", volume, sform=turned(), qform=turned((0.3, -0.2, 0.6)))
    scan = read_image(path)
    assert np.allclose(scan.file_affine, turned(), atol=1e-5)
    assert not scan.same_in_itk
    words = f"{path}: the header puts the voxels in two places (sform and qform); taken: the sform."
    assert warnings(capsys) == [f"lddr: warning: {words}"]


def test_voxel_sizes_beside_a_matrix_that_has_others_are_announced(tmp_path, volume, capsys):
    path = saved(tmp_path / "a.nii", volume, sform=turned())
    data = bytearray(path.read_bytes())
    data[80:92] = np.array([2, 2, 2], "<f4").tobytes()  # ITK takes the spacing from here
    path.write_bytes(data)
    scan = read_image(path)
    assert np.allclose(scan.spacing, [1, 1.5, 2.5])
    assert not scan.same_in_itk
    words = f"{path}: the header has two sets of voxel sizes (pixdim and sform); taken: those of the sform."
    assert warnings(capsys) == [f"lddr: warning: {words}"]


@given(
    angles=st.tuples(*[st.floats(-3.1, 3.1)] * 3),
    spacing=st.tuples(*[st.floats(0.3, 5.0)] * 3),
    shear=st.sampled_from([0.0, 0.0, 1e-5, 1e-3, 0.1, 1.0]),
    mirrored=st.booleans(),
)
def test_both_forms_of_what_we_write_agree_or_the_qform_is_left_out(tmp_path_factory, angles, spacing, shear, mirrored):
    affine = turned(angles, spacing, shear)
    affine[:3, 0] *= -1 if mirrored else 1
    if abs(np.linalg.det(affine[:3, :3] / nib.affines.voxel_sizes(affine))) < 0.1:
        return  # sheared flat
    path = tmp_path_factory.mktemp("written") / "a.nii.gz"
    write_nifti(path, np.zeros(SHAPE, np.float32), affine)
    header = nib.load(path).header
    assert int(header["sform_code"]) == 1
    assert np.allclose(header.get_sform(), affine, rtol=1e-5, atol=1e-5)
    corners = np.array([[i, j, k, 1] for i in (0, 23) for j in (0, 19) for k in (0, 15)])
    apart = np.linalg.norm(corners @ (header.get_qform() - affine).T, axis=1).max()
    if header["qform_code"]:
        assert apart <= 0.1 * min(spacing) + 1e-3
    else:
        assert apart > 0.09 * min(nib.affines.voxel_sizes(affine))
    assert int(header["qform_code"]) == 1 or shear >= 1e-3
    assert np.allclose(header["pixdim"][1:4], nib.affines.voxel_sizes(affine), rtol=1e-5)


def test_a_sheared_volume_is_written_as_it_is_and_itk_refuses_it_rather_than_read_it_elsewhere(tmp_path, volume):
    itk = pytest.importorskip("itk", reason="the extra 'baselines' (itk-elastix) is not installed")
    affine = turned(shear=0.4)
    path = tmp_path / "a.nii.gz"
    write_nifti(path, volume, affine)
    assert np.allclose(nib.load(path).affine, affine, atol=1e-5)
    assert int(nib.load(path).header["qform_code"]) == 0
    with pytest.raises(RuntimeError, match="orthonormal"):
        itk.imread(str(path))
    assert not read_image(path).same_in_itk
    assert np.linalg.norm((without_shear(affine) - affine)[:3, :3]) > 0.1


def spoilt(path: Path, place: int, values: list[float], form: str = "<f4") -> Path:
    data = bytearray(path.read_bytes())
    new = np.array(values, form).tobytes()
    data[place : place + len(new)] = new
    path.write_bytes(data)
    return path


FLAT = [1, 0, 0, 0, 0, 1, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("place", "values", "words"),
    [
        (280, [np.nan] * 12, "the header's affine is not usable, so voxel sizes are unknown."),
        (280, [0.0] * 12, "the header's affine is not usable, so voxel sizes are unknown."),
        (280, FLAT, "the header's affine is not usable, so voxel sizes are unknown."),
        (280, [np.inf] + [0.0] * 11, "the header's affine is not usable, so voxel sizes are unknown."),
    ],
)
def test_an_affine_that_spans_no_space_is_refused(tmp_path, volume, place, values, words):
    path = spoilt(saved(tmp_path / "a.nii", volume, turned()), place, values)
    with pytest.raises(InputError) as problem:
        read_image(path)
    assert str(problem.value) == f"{path}: {words}"


def test_damaged_quaternions_sizes_and_codes_are_refused(tmp_path, volume):
    image = nib.Nifti1Image(volume, None)
    image.set_qform(turned(), code=1)
    nib.save(image, tmp_path / "q.nii")
    whole = (tmp_path / "q.nii").read_bytes()
    for place, values in ((256, [2.0]), (76, [3.0]), (80, [-1.0]), (80, [0.0]), (80, [np.nan])):
        (tmp_path / "q.nii").write_bytes(whole)
        with pytest.raises(InputError, match="the header's affine is not usable"):
            read_image(spoilt(tmp_path / "q.nii", place, values))
    (tmp_path / "q.nii").write_bytes(whole)
    with pytest.raises(InputError, match=r"its sform and qform codes are \[0, 77\]; expected 0 to 5"):
        read_image(spoilt(tmp_path / "q.nii", 252, [77], "<i2"))
    (tmp_path / "q.nii").write_bytes(whole)
    assert np.allclose(read_image(spoilt(tmp_path / "q.nii", 76, [0.0])).file_affine, turned(), atol=1e-5), "0 is 1"


def test_voxels_of_a_micrometre_are_a_scan_too(tmp_path, volume):
    path = saved(tmp_path / "a.nii.gz", volume, np.diag([1.0, 1, 1, 1]), unit="micron")
    scan = read_image(path)
    assert np.allclose(scan.spacing, 1e-3)
    labels = saved(tmp_path / "l.nii.gz", (volume > 0.5).astype(np.uint8), np.diag([1.0, 1, 1, 1]), unit="micron")
    assert np.array_equal(read_labels(labels, scan).array, volume > 0.5)
