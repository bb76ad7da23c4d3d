"""From files to cohorts: orientation, grids, normalisation, pairs, the split, and files that must be refused."""

import gzip
import re

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lddr.data.cohort import evaluation_pairs
from lddr.data.grid import check_extent, grid_affine, normalise, read_on_grids, to_grid
from lddr.data.hippocampus import split_ids
from lddr.data.nifti import read_image, read_labels, write_nifti
from lddr.data.registry import load_cohort
from lddr.errors import InputError
from lddr.train.sampling import random_pairs


def save(path, array, affine=None):
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


@pytest.fixture
def volume(rng):
    return rng.random((7, 9, 11), dtype=np.float32)


@pytest.mark.parametrize("codes", ["LPS", "SAR", "AIR", "RAS"])
def test_whatever_the_order_on_disk_arrays_come_in_ras(tmp_path, volume, codes):
    ras = nib.Nifti1Image(volume, np.diag([2.0, 3, 4, 1]))
    orientation = nib.orientations.axcodes2ornt(codes)
    turned = ras.as_reoriented(nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), orientation))
    nib.save(turned, tmp_path / "scan.nii.gz")
    scan = read_image(tmp_path / "scan.nii.gz")
    assert np.array_equal(scan.array, volume)
    assert np.allclose(scan.affine, ras.affine)
    assert np.allclose(scan.spacing, [2, 3, 4])
    assert scan.file_shape == turned.shape
    assert np.allclose(scan.file_affine, turned.affine)


def test_trailing_axes_of_length_one_are_dropped(tmp_path, volume):
    assert read_image(save(tmp_path / "a.nii.gz", volume[..., None, None])).array.shape == (7, 9, 11)


def test_writing_and_reading_gives_the_volume_back_and_leaves_no_temporary_file(tmp_path, volume):
    affine = np.array([[0, -2, 0, 5], [1.5, 0, 0, -3], [0, 0, 3, 1], [0, 0, 0, 1.0]])
    write_nifti(tmp_path / "a.nii.gz", volume, affine)
    image = nib.load(tmp_path / "a.nii.gz")
    assert np.array_equal(image.get_fdata(dtype=np.float32), volume)
    assert np.allclose(image.affine, affine)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]


def test_equal_spacing_moves_voxels_without_interpolating(tmp_path, volume):
    scan = read_image(save(tmp_path / "a.nii.gz", volume, np.diag([1.0, 1, 1, 1])))
    size = (12, 12, 12)
    grid = to_grid(scan, grid_affine(scan, size, 1.0), size)
    assert np.array_equal(np.sort(grid[grid > 0]), np.sort(volume[volume > 0].ravel()))
    start = np.argwhere(grid > 0).min(axis=0)
    assert np.array_equal(grid[tuple(slice(s, s + n) for s, n in zip(start, volume.shape, strict=True))], volume)
    assert (np.abs(start - (np.array(size) - volume.shape) / 2) <= 0.5).all()


@pytest.mark.parametrize("spacing", [0.5, 1.0, 2.0])
def test_a_linear_image_stays_the_same_function_of_millimetres(tmp_path, spacing):
    """Resampling an image whose grey value IS a position must return that position, wherever the grid lies."""
    rotation = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation @ np.diag([1, 1, 2]), [10, -20, 30]
    index = np.indices((24, 24, 16)).reshape(3, -1)
    position = (affine[:3, :3] @ index + affine[:3, 3:])[0].reshape(24, 24, 16).astype(np.float32)
    scan = read_image(save(tmp_path / "a.nii.gz", position, affine))
    size = (8, 8, 8)
    grid = grid_affine(scan, size, spacing)
    expected = (grid[:3, :3] @ np.indices(size).reshape(3, -1) + grid[:3, 3:])[0].reshape(size)
    assert np.allclose(to_grid(scan, grid, size), expected, atol=1e-3)
    assert np.allclose(nib.affines.voxel_sizes(grid), spacing)
    middle = scan.affine @ [*(np.array(scan.array.shape) - 1) / 2, 1]
    assert np.abs(grid @ [3.5, 3.5, 3.5, 1] - middle).max() <= scan.spacing.max()


@given(gain=st.floats(0.1, 1e4), offset=st.floats(-1e3, 1e3))
def test_normalising_forgets_gain_and_offset(gain, offset):
    array = np.linspace(0, 1, 1000, dtype=np.float64).reshape(10, 10, 10)
    scans = [_scan(array), _scan(gain * array + offset)]
    a, b = (normalise(scan).array for scan in scans)
    assert np.allclose(a, b, atol=1e-4)
    assert a.min() == 0
    assert a.max() == 1


def _scan(array):
    from lddr.data.nifti import Scan

    return Scan(array, np.eye(4), "scan", np.eye(4), array.shape)


def test_labels_on_another_grid_are_labels_of_the_nearest_voxel(tmp_path):
    values = np.random.default_rng(0).choice([0, 3, 7], (8, 9, 10)).astype(np.int16)
    write_nifti(tmp_path / "labels.nii.gz", values, np.eye(4))
    scan = read_labels(tmp_path / "labels.nii.gz")
    grid = grid_affine(scan, (10, 10, 10), 0.7)
    found = to_grid(scan, grid, (10, 10, 10), labels=True)
    assert set(np.unique(found)) <= {0, 3, 7}
    index = np.rint(np.linalg.inv(scan.affine) @ grid @ np.array([4, 5, 6, 1])).astype(int)
    assert found[4, 5, 6] == scan.array[tuple(index[:3])]


def test_normalising_shrugs_off_one_bright_voxel_and_a_flat_volume():
    array = np.linspace(0, 1, 8000).reshape(20, 20, 20)
    spike = array.copy()
    spike[0, 0, 0] = 1e6
    assert np.abs(normalise(_scan(spike)).array - normalise(_scan(array)).array)[1:].max() < 0.01
    assert (normalise(_scan(np.full((4, 4, 4), 3.0))).array == 0).all()


def test_ring_and_all_pairs():
    assert evaluation_pairs(3) == [(0, 1), (1, 2), (2, 0)]
    assert evaluation_pairs(3, "all") == [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)]
    with pytest.raises(InputError, match="at least two subjects, found 1"):
        evaluation_pairs(1)
    with pytest.raises(InputError, match="'ring', 'all' or.* 'couples', not 'some' of 3"):
        evaluation_pairs(3, "some")


def test_random_pairs_never_pair_a_subject_with_itself_and_reach_everyone(generator):
    moving, fixed = random_pairs(5, 4000, generator)
    assert (moving != fixed).all()
    counts = torch.zeros(5, 5).index_put((moving, fixed), torch.ones(4000), accumulate=True)
    assert counts[~torch.eye(5, dtype=bool)].min() > 120  # 200 expected each


def test_hippocampus_split_is_disjoint_and_large_enough():
    parts = [set(split_ids(name)) for name in ("train", "validation", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert len(parts[2]) >= 40
    assert len(parts[1]) >= 20
    with pytest.raises(InputError, match="one of train, validation, test, not 'training'"):
        split_ids("training")


def test_hippocampus_leaves_out_what_is_not_on_disk(tmp_path, volume):
    names = split_ids("test")[:2]
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "Task04_Hippocampus" / folder).mkdir(parents=True)
        for name in names:
            array = (volume > 0.5).astype(np.uint8) if folder == "labelsTr" else volume
            save(tmp_path / "Task04_Hippocampus" / folder / f"{name}.nii.gz", array)
    cohort = load_cohort("hippocampus", "test", tmp_path)
    assert cohort.ids == tuple(names)
    assert cohort.size == (48, 64, 48)
    assert cohort.images.dtype == torch.float32
    assert cohort.labels.sum() == 2 * (volume > 0.5).sum()
    with pytest.raises(InputError, match="none of the subjects of the train split is there"):
        load_cohort("hippocampus", "train", tmp_path)


def test_sets_that_are_not_there_are_refused_in_a_sentence(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="expected the folders imagesTr and labelsTr"):
        load_cohort("hippocampus", "test", tmp_path)
    monkeypatch.delenv("LDDR_DATA", raising=False)
    with pytest.raises(InputError, match="set LDDR_DATA to the folder"):
        load_cohort("hippocampus", "test")


def test_real_hippocampi_fit_the_grid_whole(real_data):
    cohort = load_cohort("hippocampus", "test", real_data)
    assert len(cohort) == 50
    assert cohort.images.amax(dim=(1, 2, 3, 4)).min() == 1
    for name, labels in zip(cohort.ids, cohort.labels, strict=True):
        original = nib.load(real_data / "Task04_Hippocampus" / "labelsTr" / f"{name}.nii.gz").get_fdata()
        for value in cohort.label_names:
            assert (labels == value).sum() == (original == value).sum()


def nan(volume):
    volume = volume.copy()
    volume[1, 2, 3] = np.nan
    return volume


def spoil_affine(file: bytes) -> bytes:
    """Overwrite the three rows of the header's affine with NaN."""
    return file[:280] + np.full(12, np.nan, "<f4").tobytes() + file[328:]


BAD = {
    "text named .nii.gz": (
        lambda p, v: p.write_text("not a scan"),
        "this is not a NIfTI file (expected .nii or .nii.gz).",
    ),
    "empty file": (lambda p, v: p.write_bytes(b""), "this is not a NIfTI file (expected .nii or .nii.gz)."),
    "cut short": (
        lambda p, v: p.write_bytes(save(p, v).read_bytes()[:-300]),
        "the file is damaged or cut short; copy or download it again.",
    ),
    "gzip of text": (
        lambda p, v: p.write_bytes(gzip.compress(b"hello" * 200)),
        "this is not a NIfTI file (expected .nii or .nii.gz).",
    ),
    "2-D": (lambda p, v: save(p, v[0]), "expected a 3-D volume, found 2-D with shape (9, 11)."),
    "4-D": (lambda p, v: save(p, np.stack([v, v], -1)), "expected a 3-D volume, found 4-D with shape (7, 9, 11, 2)."),
    "zero size": (lambda p, v: save(p, v[:, :0]), "the volume is empty (shape (7, 0, 11))."),
    "flat": (lambda p, v: save(p, 0 * v), "all voxels are 0; expected a scan with contrast."),
    "NaN": (lambda p, v: save(p, nan(v)), "1 of 693 voxels are NaN or infinite; expected finite intensities."),
    "infinite": (lambda p, v: save(p, v / 0), "693 of 693 voxels are NaN or infinite; expected finite intensities."),
    "no affine": (
        lambda p, v: p.write_bytes(gzip.compress(spoil_affine(gzip.decompress(save(p, v).read_bytes())))),
        "the header's affine is not usable, so voxel sizes are unknown.",
    ),
    "absent": (lambda p, v: None, "there is no such file."),
    "colours": (
        lambda p, v: save(p, np.zeros(v.shape, [("R", "u1"), ("G", "u1"), ("B", "u1")])),
        "the voxels are of the type [('R', 'u1'), ('G', 'u1'), ('B', 'u1')]; expected one real number each.",
    ),
    "complex": (
        lambda p, v: save(p, v.astype(np.complex64)),
        "the voxels are of the type complex64; expected one real number each.",
    ),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_bad_images_get_one_sentence_that_names_the_file(tmp_path, volume, case):
    make, sentence = BAD[case]
    path = tmp_path / "scan.nii.gz"
    make(path, volume)
    with pytest.raises(InputError) as problem:
        read_image(path)
    assert str(problem.value) == f"{path}: {sentence}"


def test_labels_must_be_whole_numbers_and_of_their_image_s_shape(tmp_path, volume):
    image = read_image(save(tmp_path / "image.nii.gz", volume))
    with pytest.raises(InputError, match="expected whole numbers as labels"):
        read_labels(tmp_path / "image.nii.gz")
    labels = save(tmp_path / "labels.nii.gz", np.ones((7, 9, 12), np.uint8))
    with pytest.raises(InputError, match=r"the labels have shape \(7, 9, 12\), their image .* has \(7, 9, 11\)"):
        read_labels(labels, image)


@pytest.mark.parametrize(
    ("values", "most", "found"),
    [([0, 40000], 32767, "0 to 40000"), ([-1, 2], 32767, "-1 to 2"), ([0, 300], 255, "0 to 300")],
)
def test_labels_that_would_not_fit_are_refused_and_not_changed(tmp_path, values, most, found):
    array = np.zeros((4, 5, 6), np.int32)
    array[0, 0, :2] = values
    path = save(tmp_path / "labels.nii.gz", array)
    with pytest.raises(InputError, match=re.escape(f"{path}: expected labels from 0 to {most}, found {found}.")):
        read_labels(path, most=most)
    array[0, 0, :2] = 0, most
    assert np.array_equal(read_labels(save(path, array), most=most).array, array)


def test_a_cohort_refuses_labels_beyond_a_byte_and_does_not_change_them(tmp_path, volume):
    image = save(tmp_path / "image.nii.gz", volume)
    labels = (volume > 0.5).astype(np.int16)
    for value in (255, 256):  # 256 would become background
        path = save(tmp_path / "labels.nii.gz", value * labels)
        grids = ([(image, path)], (16, 16, 16), lambda image, _: grid_affine(image, (16, 16, 16), 1.0))
        if value > 255:
            with pytest.raises(InputError, match=f"{re.escape(str(path))}: expected labels from 0 to 255"):
                read_on_grids(*grids)
        else:
            assert (read_on_grids(*grids)[1] == value).sum() == labels.sum()


def test_labels_must_lie_where_their_image_does(tmp_path, volume):
    """Whatever the order of the axes on disk, and a rounded header is near enough."""
    affine = np.array([[0.0, -2, 0, 50], [1.5, 0, 0, -30], [0, 0, 3, 10], [0, 0, 0, 1]])
    image = read_image(save(tmp_path / "image.nii.gz", volume, affine))
    labels = nib.Nifti1Image((volume > 0.5).astype(np.uint8), affine + 1e-3 * np.eye(4))
    turned = labels.as_reoriented(nib.orientations.axcodes2ornt("PSR"))
    nib.save(turned, tmp_path / "labels.nii.gz")
    assert turned.shape != image.file_shape
    assert np.array_equal(read_labels(tmp_path / "labels.nii.gz", image).array, image.array > 0.5)
    shifted = affine.copy()
    shifted[0, 3] += 2  # one voxel to the right
    path = save(tmp_path / "labels.nii.gz", (volume > 0.5).astype(np.uint8), shifted)
    sentence = f"{path}: the labels have shape (7, 9, 11), their image {image.path} has (7, 9, 11), and their affines "
    with pytest.raises(InputError, match=re.escape(sentence + "differ.")):
        read_labels(path, image)
    cropped = save(tmp_path / "labels.nii.gz", np.ones((6, 9, 11), np.uint8), affine)  # (9, 6, 11) once in RAS order
    with pytest.raises(InputError, match=r"have shape \(6, 9, 11\), their image .* has \(7, 9, 11\)"):
        read_labels(cropped, image)


def test_a_scan_of_another_extent_is_refused(tmp_path, volume):
    scan = read_image(save(tmp_path / "a.nii.gz", volume, np.diag([20.0, 20, 20, 1])))
    with pytest.raises(InputError, match="covers 140 x 180 x 220 mm, the model works on 16 x 16 x 16 mm"):
        check_extent(scan, (16, 16, 16), 1.0)


def test_an_unwritable_place_is_a_sentence_and_leaves_nothing(tmp_path, volume):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_nifti(tmp_path / "file" / "a.nii.gz", volume, np.eye(4))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
