"""Geometry against formulas, SciPy, MONAI and VoxelMorph."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.networks.blocks import Warp
from scipy import linalg, ndimage
from torch import Tensor

from lddr.warping import (
    affine_displacement,
    compose,
    compose_with_affine,
    identity_grid,
    integrate_velocity,
    invert,
    jacobian,
    jacobian_determinant,
    resize_displacement,
    warp,
    warp_labels,
)

SIZE = (9, 12, 7)  # three different sides, so that swapped axes show
sizes = st.tuples(*[st.integers(2, 9)] * 3)
MATRIX_1 = torch.tensor([[[0.9, 0.1, 0.0], [-0.05, 1.1, 0.08], [0.02, 0.0, 0.95]]])
MATRIX_2 = torch.tensor([[[1.0, -0.12, 0.03], [0.1, 0.92, 0.0], [0.0, 0.07, 1.05]]])
SHIFT_1, SHIFT_2 = torch.tensor([[0.7, -0.4, 0.3]]), torch.tensor([[-0.5, 0.6, 0.2]])


def random_field(size: tuple[int, ...], amplitude: float, seed: int = 0, batch: int = 1) -> Tensor:
    noise = np.random.default_rng(seed).uniform(-amplitude, amplitude, (batch, 3, *size))
    return torch.from_numpy(noise).float()


def with_scipy(image: Tensor, displacement: Tensor, order: int = 1) -> np.ndarray:
    """The pull-back of one channel of one volume, border repeated, by SciPy."""
    grid = np.indices(displacement.shape[2:])
    return ndimage.map_coordinates(
        image[0, 0].numpy(), grid + displacement[0].numpy(), order=order, mode="nearest", output=np.float32
    )


def points(size: tuple[int, ...]) -> Tensor:
    """Voxel indices made by NumPy, `[1, 3, D, H, W]`."""
    return torch.from_numpy(np.indices(size)).float().unsqueeze(0)


def stays_inside(displacement: Tensor) -> Tensor:
    """Where x + u(x) does not leave the grid, `[1, D, H, W]`."""
    there = points(tuple(displacement.shape[2:])) + displacement
    last = torch.tensor(displacement.shape[2:]).view(1, 3, 1, 1, 1) - 1
    return ((there >= 0) & (there <= last)).all(dim=1)


def affine_by_hand(matrix: Tensor, shift: Tensor, x: Tensor) -> Tensor:
    """A (x - c) + c + b, with c the centre of the grid on which x lives."""
    centre = (torch.tensor(x.shape[2:]).view(1, 3, 1, 1, 1) - 1) / 2
    rotated = (matrix[0] @ (x - centre).flatten(2)[0]).view(x.shape)
    return rotated + centre + shift.view(1, 3, 1, 1, 1)


def test_identity_grid_holds_the_index_of_each_voxel() -> None:
    assert torch.equal(identity_grid(SIZE), points(SIZE))


def test_warp_of_a_linear_image_is_the_formula() -> None:
    x = points(SIZE)
    slope = torch.tensor([2.0, -3.0, 0.5]).view(1, 3, 1, 1, 1)
    image = (slope * x).sum(1, keepdim=True)
    field = random_field(SIZE, 2.5)
    expected = (slope * (x + field)).sum(1, keepdim=True)
    inside = stays_inside(field)
    assert inside.float().mean() > 0.3
    torch.testing.assert_close(warp(image, field)[:, 0][inside], expected[:, 0][inside], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("amplitude", [0.8, 20.0])  # the second throws most points outside
def test_warp_agrees_with_scipy_and_monai(rng: np.random.Generator, amplitude: float) -> None:
    image = torch.from_numpy(rng.random((1, 1, *SIZE))).float()
    field = random_field(SIZE, amplitude)
    ours = warp(image, field)
    np.testing.assert_allclose(ours[0, 0], with_scipy(image, field), atol=2e-5)
    torch.testing.assert_close(ours, Warp("bilinear", "border")(image, field), atol=2e-5, rtol=0)


def test_warp_agrees_with_voxelmorph_inside(rng: np.random.Generator) -> None:
    voxelmorph = pytest.importorskip("voxelmorph")
    image = torch.from_numpy(rng.random((2, 1, *SIZE))).float()
    field = random_field(SIZE, 1.5, batch=2)
    theirs = voxelmorph.nn.modules.SpatialTransformer()(image, field)
    for ours, other, displacement in zip(warp(image, field), theirs, field, strict=True):
        inside = stays_inside(displacement[None])[0]  # outside, VoxelMorph takes zero
        torch.testing.assert_close(ours[0][inside], other[0][inside], atol=2e-5, rtol=0)


def test_warp_keeps_batch_entries_and_channels_apart(rng: np.random.Generator) -> None:
    images = torch.from_numpy(rng.random((3, 2, *SIZE))).float()
    fields = random_field(SIZE, 1.5, batch=3)
    together = warp(images, fields)
    for i in range(3):
        for channel in range(2):
            alone = with_scipy(images[i : i + 1, channel : channel + 1], fields[i : i + 1])
            np.testing.assert_allclose(together[i, channel], alone, atol=2e-5)


def test_warp_onto_another_grid(rng: np.random.Generator) -> None:
    image = torch.from_numpy(rng.random((1, 1, *SIZE))).float()
    field = random_field((5, 6, 11), 3.0)
    result = warp(image, field)
    assert result.shape == (1, 1, 5, 6, 11)
    np.testing.assert_allclose(result[0, 0], with_scipy(image, field), atol=2e-5)


@given(size=sizes, axis=st.integers(0, 2), shift=st.integers(-2, 2))
def test_warp_by_whole_voxels_shifts_and_repeats_the_border(size: tuple[int, ...], axis: int, shift: int) -> None:
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, *size))).float()
    field = torch.zeros(1, 3, *size)
    field[:, axis] = shift
    index = (torch.arange(size[axis]) + shift).clamp(0, size[axis] - 1)
    torch.testing.assert_close(warp(image, field), image.index_select(axis + 2, index), atol=1e-5, rtol=0)


def test_warp_has_the_right_gradients() -> None:
    size = (4, 3, 5)
    image = torch.rand(1, 1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    field = random_field(size, 0.3).double()
    field = field.sign() * (field.abs() + 0.1)  # away from whole voxels, where the interpolation has a corner
    assert torch.autograd.gradcheck(warp, (image.requires_grad_(), field.requires_grad_()), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@given(size=sizes, seed=st.integers(0, 99), amplitude=st.floats(0, 6))
def test_label_warp_never_invents_a_label(mode: str, size: tuple[int, ...], seed: int, amplitude: float) -> None:
    values = np.array([0, 3, 7, 250])
    labels = torch.from_numpy(np.random.default_rng(seed).choice(values, (1, 1, *size)).astype(np.uint8))
    warped = warp_labels(labels, random_field(size, amplitude, seed), mode)
    assert warped.dtype == labels.dtype
    assert warped.shape == labels.shape
    assert set(warped.unique().tolist()) <= set(labels.unique().tolist())


def test_label_warp_agrees_with_scipy(rng: np.random.Generator) -> None:
    values = np.array([0, 3, 7])
    labels = torch.from_numpy(rng.choice(values, (1, 1, *SIZE)).astype(np.int16))
    field = random_field(SIZE, 1.5)
    np.testing.assert_array_equal(warp_labels(labels, field, "nearest")[0, 0], with_scipy(labels, field, order=0))
    share = np.stack([with_scipy((labels == v).float(), field) for v in values])
    clear = np.diff(np.sort(share, axis=0)[-2:], axis=0)[0] > 1e-4  # a tie may fall to either side
    assert clear.mean() > 0.95
    linear = warp_labels(labels, field, "linear")[0, 0].numpy()
    np.testing.assert_array_equal(linear[clear], values[share.argmax(axis=0)][clear])


def test_label_warp_modes_differ_and_ties_go_to_the_smaller_label() -> None:
    labels = torch.tensor([2, 1, 5, 5]).view(1, 1, 4, 1, 1)
    half = torch.zeros(1, 3, 4, 1, 1)
    half[:, 0] = 0.5
    assert warp_labels(labels, half, "linear").flatten().tolist() == [1, 1, 5, 5]
    square = torch.tensor([[7, 2], [2, 9]], dtype=torch.uint8).view(1, 1, 2, 2, 1)
    inward = torch.zeros(1, 3, 2, 2, 1)
    inward[:, :2, 0, 0] = 0.4  # 0.36 of the voxel lies in label 7, the nearest; 0.48 in the two voxels of label 2
    found = [warp_labels(square, inward, mode)[0, 0, 0, 0, 0].item() for mode in ("nearest", "linear")]
    assert found == [7, 2]
    with pytest.raises(ValueError, match="'nearest' or 'linear', not 'cubic'"):
        warp_labels(labels, half, "cubic")


def test_affine_displacement_is_the_formula() -> None:
    expected = affine_by_hand(MATRIX_1, SHIFT_1, points(SIZE)) - points(SIZE)
    torch.testing.assert_close(affine_displacement(MATRIX_1, SHIFT_1, SIZE), expected, atol=1e-5, rtol=1e-5)


def test_affine_displacement_of_a_batch() -> None:
    both = affine_displacement(torch.cat([MATRIX_1, MATRIX_2]), torch.cat([SHIFT_1, SHIFT_2]), SIZE)
    torch.testing.assert_close(both[1:], affine_displacement(MATRIX_2, SHIFT_2, SIZE))


def test_compose_is_the_first_map_after_the_second() -> None:
    first, second = affine_displacement(MATRIX_1, SHIFT_1, SIZE), affine_displacement(MATRIX_2, SHIFT_2, SIZE)
    x = points(SIZE)
    expected = affine_by_hand(MATRIX_1, SHIFT_1, affine_by_hand(MATRIX_2, SHIFT_2, x)) - x
    inside = stays_inside(second).expand(3, -1, -1, -1)
    assert inside.float().mean() > 0.5
    torch.testing.assert_close(compose(first, second)[0][inside], expected[0][inside], atol=2e-5, rtol=1e-5)
    swapped = compose(second, first)
    assert (swapped[0] - expected[0])[inside].abs().max() > 0.1, (
        "the two maps must not commute, or the test says nothing"
    )


def test_compose_does_what_two_warps_do(smooth_field: Callable[..., Tensor]) -> None:
    size = (20, 24, 22)
    image = sum(
        torch.sin(points(size)[:, i : i + 1] / (4 + i)) for i in range(3)
    )  # smooth: blurring twice costs little
    first, second = smooth_field(size, 2.0, seed=1), smooth_field(size, 2.0, seed=2)
    twice = warp(warp(image, first), second)
    torch.testing.assert_close(warp(image, compose(first, second)), twice, atol=0.04, rtol=0)
    assert (warp(image, compose(second, first)) - twice).abs().max() > 0.1


def test_compose_with_affine_equals_resampling_inside(smooth_field: Callable[..., Tensor]) -> None:
    affine, field = affine_displacement(MATRIX_1, SHIFT_1, SIZE), smooth_field(SIZE, 1.5)
    resampled = compose(affine, field)
    inside = stays_inside(field).expand(3, -1, -1, -1)
    assert inside.float().mean() > 0.9
    exact = compose_with_affine(MATRIX_1, affine, field)
    torch.testing.assert_close(exact[0][inside], resampled[0][inside], atol=2e-5, rtol=1e-5)


def test_compose_with_affine_is_exact_beyond_the_border() -> None:
    affine = affine_displacement(MATRIX_1, SHIFT_1, SIZE)
    field = random_field(SIZE, 8.0)
    x = points(SIZE)
    expected = affine_by_hand(MATRIX_1, SHIFT_1, x + field) - x
    torch.testing.assert_close(compose_with_affine(MATRIX_1, affine, field), expected, atol=2e-5, rtol=1e-5)
    assert (compose(affine, field) - expected).abs().max() > 0.5, (
        "resampling clamps at the border; that is why this exists"
    )


def test_jacobian_of_a_polynomial_field() -> None:
    """u = s [x^2, xy, 0] has the determinant (1 + 2 s x)(1 + s x): second-order differences are exact for it."""
    s = 0.05
    x, y, _ = points(SIZE)[0]
    field = s * torch.stack([x**2, x * y, torch.zeros_like(x)]).unsqueeze(0)
    matrix = jacobian(field)[0]
    one, zero = torch.ones_like(x), torch.zeros_like(x)
    expected = [[1 + 2 * s * x, zero, zero], [s * y, 1 + s * x, zero], [zero, zero, one]]
    for i in range(3):
        for j in range(3):
            torch.testing.assert_close(matrix[i, j], expected[i][j], atol=1e-5, rtol=1e-5)
    determinant = (1 + 2 * s * x) * (1 + s * x)
    torch.testing.assert_close(jacobian_determinant(field)[0], determinant, atol=1e-5, rtol=1e-5)


def test_jacobian_determinant_of_an_affine_map_is_its_own() -> None:
    field = affine_displacement(torch.cat([MATRIX_1, MATRIX_2]), torch.cat([SHIFT_1, SHIFT_2]), SIZE)
    determinant = jacobian_determinant(field)
    for got, matrix in zip(determinant, (MATRIX_1, MATRIX_2), strict=True):
        expected = np.linalg.det(matrix[0].double().numpy())
        np.testing.assert_allclose(got, np.full(SIZE, expected), atol=1e-5)


@pytest.mark.parametrize("new", [(17, 23, 13), (5, 4, 6), (9, 30, 3)])
def test_resized_displacement_is_the_same_motion(new: tuple[int, int, int]) -> None:
    """A linear field stays exactly linear: u'(y) = r u(y / r), with r the ratio of the numbers of intervals."""
    slope, shift = MATRIX_1[0] - torch.eye(3), SHIFT_1.view(3, 1, 1, 1)
    field = torch.einsum("ij,jdhw->idhw", slope, points(SIZE)[0]) + shift
    ratio = torch.tensor([(b - 1) / (a - 1) for a, b in zip(SIZE, new, strict=True)]).view(3, 1, 1, 1)
    expected = ratio * (torch.einsum("ij,jdhw->idhw", slope, points(new)[0] / ratio) + shift)
    torch.testing.assert_close(resize_displacement(field[None], new)[0], expected, atol=1e-5, rtol=1e-5)


def test_inverse_of_a_translation() -> None:
    shift = torch.tensor([1.25, -0.5, 2.0]).view(1, 3, 1, 1, 1)
    inverse, residual = invert(shift.expand(1, 3, *SIZE))
    torch.testing.assert_close(inverse, -shift.expand(1, 3, *SIZE))
    assert residual.max() < 1e-5


def test_inverse_of_a_smooth_field_undoes_it_from_both_sides(smooth_field: Callable[..., Tensor]) -> None:
    size = (24, 22, 26)
    field = smooth_field(size, 2.0, sigma=8)
    inverse, residual = invert(field)
    assert residual.shape == (1, *size)
    assert residual.max() < 1e-4
    there = points(size) + inverse  # and back, with SciPy's interpolation
    back = np.stack([ndimage.map_coordinates(field[0, i].numpy(), there[0], order=1, mode="nearest") for i in range(3)])
    np.testing.assert_allclose(back, -inverse[0], atol=1e-4)
    assert compose(inverse, field).abs().max() < 0.1  # the other side: exact up to interpolating the inverse
    assert field.abs().max() > 1.9


def test_inverse_admits_that_a_fold_has_none() -> None:
    x = points(SIZE)
    field = torch.zeros_like(x)
    field[:, 0] = -2.2 * (x[:, 0] - 4) * (x[:, 0] > 2) * (x[:, 0] < 6)  # turns the middle over
    assert (jacobian_determinant(field) <= 0).any()
    assert invert(field)[1].max() > 0.5


def test_velocity_and_its_negative_undo_each_other(smooth_field: Callable[..., Tensor]) -> None:
    velocity = smooth_field((24, 22, 26), 3.0, sigma=8)
    forward, backward = integrate_velocity(velocity), integrate_velocity(-velocity)
    assert forward.abs().max() > 2
    assert compose(forward, backward).abs().max() < 0.1
    assert jacobian_determinant(forward).min() > 0


def test_affine_velocity_is_the_matrix_exponential() -> None:
    size = (21, 23, 19)
    generator_matrix = np.array(
        [[-0.1, 0.3, 0.0], [-0.3, -0.15, 0.05], [0.1, 0.0, -0.2]]
    )  # turns and shrinks: stays inside
    centre = (torch.tensor(size).view(1, 3, 1, 1, 1) - 1) / 2
    offset = points(size) - centre
    velocity = torch.einsum("ij,bjdhw->bidhw", torch.from_numpy(generator_matrix).float(), offset)
    exact = torch.from_numpy(linalg.expm(generator_matrix) - np.eye(3)).float()
    expected = torch.einsum("ij,bjdhw->bidhw", exact, offset)
    middle = (slice(None), slice(None), *[slice(5, -5)] * 3)  # nearer the border the rotation passes outside
    # 2^-7 of the velocity is taken as a straight step, so the error is of the order of |L x| |L| / 2^8.
    torch.testing.assert_close(integrate_velocity(velocity)[middle], expected[middle], atol=0.01, rtol=0)
    euler_error = (velocity - expected)[middle].abs().max()
    assert euler_error > 0.3, "one straight step must be visibly wrong, or the test says nothing"
