"""Quick resampling and percentiles give what SciPy's and NumPy's own, which are slow, give."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from lddr.data import grid
from lddr.data.grid import grid_affine, normalise, percentile, to_grid
from lddr.data.nifti import Scan


def scan_of(array: np.ndarray, affine: np.ndarray | None = None) -> Scan:
    affine = np.eye(4) if affine is None else affine
    return Scan(array, affine, "scan", affine, array.shape)


def by_scipy(scan: Scan, affine: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """One blur and one interpolation of the whole volume."""
    to_scan = np.linalg.inv(scan.affine) @ affine
    matrix, offset = to_scan[:3, :3], to_scan[:3, 3]
    blurred = ndimage.gaussian_filter(scan.array, np.maximum(np.linalg.norm(matrix, axis=1) - 1, 0) / 2, mode="nearest")
    return ndimage.affine_transform(blurred, matrix, offset, size, order=1, mode="constant")


ORDERS = [lambda a: a, np.asfortranarray, lambda a: np.ascontiguousarray(a.transpose(1, 2, 0)).transpose(2, 0, 1)]


@pytest.mark.parametrize("order", ORDERS, ids=["C", "Fortran", "mixed"])
@pytest.mark.parametrize("spacing", [(0.7, 0.7, 0.7), (1.0, 2.0, 3.1), (2.3, 0.4, 5.7)])
def test_a_grid_along_the_axes_gets_the_values_of_scipy(rng, spacing, order):
    scan = scan_of(order(rng.random((31, 26, 40), dtype=np.float32)), np.diag([1.1, 1.3, 0.9, 1]))
    size = (16, 19, 17)
    affine = grid_affine(scan, size, spacing)
    affine[:3, 3] += 0.37
    found = to_grid(scan, affine, size)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.abs(found - by_scipy(scan, affine, size)).max() < 1e-6
    mirrored = scan_of(scan.array[::-1, :, ::-1], scan.affine)
    assert np.abs(to_grid(mirrored, affine, size) - by_scipy(mirrored, affine, size)).max() < 1e-6


def test_a_grid_across_the_axes_still_goes_the_long_way(rng):
    scan = scan_of(rng.random((20, 22, 24), dtype=np.float32))
    turn = np.array([[0.8, -0.6, 0, 8], [0.6, 0.8, 0, -4], [0, 0, 1, 2], [0, 0, 0, 1.0]])
    affine = turn @ np.diag([2.0, 2, 2, 1])
    assert np.array_equal(to_grid(scan, affine, (16, 16, 16)), by_scipy(scan, affine, (16, 16, 16)))


def test_a_rounding_error_does_not_lose_the_outermost_voxels(rng):
    """An oblique affine and its inverse put the last plane a billionth of a voxel outside, where SciPy gives 0."""
    turn = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = turn @ np.diag([1.1, 0.7, 1.9]), rng.normal(0, 500, 3)
    scan = scan_of(1 + rng.random((17, 18, 19), dtype=np.float32), affine)
    assert np.array_equal(to_grid(scan, affine @ np.eye(4), scan.array.shape), scan.array)
    shifted = affine @ np.array([[1, 0, 0, -3.0], [0, 1, 0, -2], [0, 0, 1, -1], [0, 0, 0, 1]])
    assert np.array_equal(to_grid(scan, shifted, (24, 24, 24))[3:20, 2:20, 1:20], scan.array)


def test_the_same_scan_gives_the_same_bits_on_any_number_of_threads(rng):
    scan = scan_of(rng.random((64, 64, 64), dtype=np.float32))
    affine, before = grid_affine(scan, (24, 24, 24), 2.4), torch.get_num_threads()
    found = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        found.append(to_grid(normalise(scan), affine, (24, 24, 24)))
    torch.set_num_threads(before)
    assert np.array_equal(found[0], found[1])
    assert np.array_equal(found[0], found[2])


@given(
    seed=st.integers(0, 1000),
    size=st.sampled_from([1, 2, 7, 1000, 70_000, 200_001]),
    share=st.sampled_from([0, 0.1, 2, 5, 50, 98, 99.99, 100]),
    kind=st.sampled_from(["uniform", "mostly zero", "few values", "sorted", "heavy tails"]),
)
def test_a_percentile_is_that_of_numpy_to_the_last_bit(seed, size, share, kind):
    rng = np.random.default_rng(seed)
    values = {
        "uniform": lambda: rng.random(size),
        "mostly zero": lambda: np.where(rng.random(size) < 0.7, 0, rng.random(size)),
        "few values": lambda: rng.integers(0, 5, size).astype(float),
        "sorted": lambda: np.sort(rng.normal(size=size)),
        "heavy tails": lambda: rng.standard_cauchy(size),
    }[kind]()
    for array in (values.astype(np.float32), values):
        assert percentile(array.reshape(1, -1), share) == np.percentile(array, [share])[0]


def test_a_sample_that_misleads_is_noticed(monkeypatch):
    """Every value that the sample sees is 0, as in a scan whose slices are empty in step with it."""
    values = np.tile(np.r_[0, np.arange(1, 8)], 2**16).astype(np.float32)
    assert (values[:: values.size // 2**16] == 0).all()
    assert percentile(values, 50) == np.percentile(values, [50])[0]


def test_a_large_image_is_scaled_between_its_percentiles_to_the_last_bit(rng):
    array = np.asfortranarray(rng.gamma(2, 100, (60, 61, 62)).astype(np.float32))
    low, high = np.percentile(array, [5, 98])
    found = normalise(scan_of(array)).array
    assert np.array_equal(found, np.clip((array - low) / (high - low), 0, 1).astype(np.float32))
    assert found.flags.f_contiguous


def test_labels_and_whole_numbers_are_not_blurred(rng):
    values = rng.integers(0, 5, (20, 20, 20)).astype(np.int16)
    scan = scan_of(values)
    affine = grid_affine(scan, (16, 16, 16), 2.0)
    assert set(np.unique(grid.to_grid(scan, affine, (16, 16, 16), labels=True))) <= set(range(5))
