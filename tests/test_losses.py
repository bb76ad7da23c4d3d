"""Losses against NumPy, neurite, formulas on paper, and the things a similarity must not care about."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from lddr.losses import corrcoef, corrcoef_loss, covariance, orthogonality, smoothness, volume_change

SIZE = (5, 7, 6)


def images(seed: int = 0, batch: int = 2) -> tuple[Tensor, Tensor]:
    """Two images per volume that have something, but not everything, in common."""
    rng = np.random.default_rng(seed)
    a = rng.random((batch, 1, *SIZE))
    b = 0.5 * a + 0.5 * rng.random(a.shape)
    return torch.from_numpy(a).float(), torch.from_numpy(b).float()


def rotation(seed: int = 0) -> NDArray[np.float64]:
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return q * np.sign(np.linalg.det(q))


def as_batch(*matrices: NDArray[np.float64]) -> Tensor:
    return torch.from_numpy(np.stack(matrices))


def test_corrcoef_is_numpy_s_for_each_pair() -> None:
    a, b = images(batch=3)
    expected = [np.corrcoef(x.flatten(), y.flatten())[0, 1] for x, y in zip(a.double(), b.double(), strict=True)]
    assert len(set(np.round(expected, 6))) == 3
    np.testing.assert_allclose(corrcoef(a, b), expected, atol=2e-5)
    np.testing.assert_allclose(corrcoef(a.double(), b.double(), eps=0), expected, atol=1e-12)


def test_covariance_is_numpy_s() -> None:
    a, b = (x.double() for x in images())
    expected = [np.cov(x.flatten(), y.flatten(), bias=True)[0, 1] for x, y in zip(a, b, strict=True)]
    np.testing.assert_allclose(covariance(a, b), expected, rtol=1e-12)


@given(gain=st.floats(0.2, 5), offset=st.floats(-2, 2), seed=st.integers(0, 99))
def test_corrcoef_ignores_gain_and_offset(gain: float, offset: float, seed: int) -> None:
    a, b = images(seed)
    torch.testing.assert_close(corrcoef(gain * a + offset, b), corrcoef(a, b), atol=3e-4, rtol=0)
    torch.testing.assert_close(corrcoef(a, gain * b + offset), corrcoef(a, b), atol=3e-4, rtol=0)


def test_corrcoef_knows_the_sign() -> None:
    a, b = images()
    torch.testing.assert_close(corrcoef(1 - a, b), -corrcoef(a, b))
    torch.testing.assert_close(corrcoef(a, a), torch.ones(2), atol=1e-4, rtol=0)
    assert corrcoef_loss(a, a) < 1e-4
    assert corrcoef_loss(1 - a, a) > 2 - 1e-4


def test_corrcoef_loss_is_the_mean_over_the_batch() -> None:
    a, b = images(batch=3)
    each = torch.stack([corrcoef_loss(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(corrcoef_loss(a, b), each.mean())


@pytest.mark.parametrize("level", [0.0, 0.3, 1.0])
def test_a_flat_image_gives_zero_and_a_finite_gradient(level: float) -> None:
    flat = torch.full((2, 1, *SIZE), level, requires_grad=True)
    other = images()[1].requires_grad_()
    for a, b in [(flat, other), (other, flat), (flat, flat)]:
        value = corrcoef(a, b)
        assert value.abs().max() < 1e-3
        for gradient in torch.autograd.grad(value.sum(), {a, b}):
            assert torch.isfinite(gradient).all()


def test_gradients_are_right() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(2, 1, 3, 4, 3, dtype=torch.float64, generator=generator, requires_grad=True) for _ in range(2))
    field = torch.rand(2, 3, 3, 4, 3, dtype=torch.float64, generator=generator, requires_grad=True)
    matrix = as_batch(rotation(0) + 0.1, rotation(1) * 1.2).requires_grad_()
    assert torch.autograd.gradcheck(corrcoef_loss, (a, b))
    assert torch.autograd.gradcheck(smoothness, (field,))
    assert torch.autograd.gradcheck(orthogonality, (matrix,))
    assert torch.autograd.gradcheck(volume_change, (matrix,))


def test_the_centred_form_keeps_its_digits_where_the_textbook_form_loses_them() -> None:
    a, b = (0.9 + 2e-4 * x for x in images(batch=1))  # a bright image of little contrast
    exact = covariance(a.double(), b.double()).item()
    textbook = ((a * b).mean() - a.mean() * b.mean()).item()
    assert abs(covariance(a, b).item() / exact - 1) < 1e-2
    assert abs(textbook / exact - 1) > 1


def test_smoothness_is_the_loop_on_paper() -> None:
    field = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 3, 4, 5)))
    u = field.numpy()
    total = 0.0
    for b, c, i, j, k in np.ndindex(u.shape):
        for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
            there = (b, c, i + step[0], j + step[1], k + step[2])
            if all(n < m for n, m in zip(there, u.shape, strict=True)):
                total += (u[there] - u[b, c, i, j, k]) ** 2
    expected = total / 2 / (3 * 3 * 4 * 5) / 2  # half; per voxel and channel; mean of two fields
    np.testing.assert_allclose(smoothness(field), expected, rtol=1e-12)


def test_smoothness_agrees_with_neurite_up_to_its_way_of_averaging() -> None:
    """neurite (VoxelMorph's library) averages each axis over its own number of differences, then over the axes."""
    modules = pytest.importorskip("neurite.nn.modules")
    size = (8, 8, 8)  # equal sides: one factor for all axes
    field = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, *size)))
    theirs = modules.SpatialGradient("l2")(field)
    np.testing.assert_allclose(smoothness(field), 3 / 2 * 7 / 8 * theirs, rtol=1e-12)


def test_smoothness_does_not_price_a_translation_and_prices_a_ramp_by_its_slope() -> None:
    assert smoothness(torch.full((1, 3, *SIZE), 2.5)) == 0
    ramp = torch.zeros(1, 3, 4, 5, 6)
    ramp[:, 1] = 0.5 * torch.arange(6)
    assert smoothness(ramp).item() == pytest.approx(0.5**2 / 2 * (5 / 6) / 3)  # one of three channels, 5 of 6 steps


def test_rotations_cost_nothing() -> None:
    matrices = as_batch(np.eye(3), rotation(0), rotation(1))
    assert abs(orthogonality(matrices).item()) < 1e-8
    assert volume_change(matrices).item() < 1e-20


def test_scalings_cost_what_the_formula_says() -> None:
    scale = np.diag([2.0, 1.0, 0.5])
    assert volume_change(as_batch(2 * np.eye(3))).item() == pytest.approx((8 - 1) ** 2 / 2)
    assert volume_change(as_batch(scale, rotation())).item() == pytest.approx(0, abs=1e-12)
    # Squared singular values 4, 1, 1/4: s1 = s2 = 5.25, s3 = 1, so 5.25 + 5.25 - 6, as e -> 0.
    assert orthogonality(as_batch(scale), eps=0).item() == pytest.approx(4.5)
    assert orthogonality(as_batch(scale, rotation()), eps=0).item() == pytest.approx(4.5 / 2)


def test_orthogonality_is_its_eigenvalue_form() -> None:
    e = 1e-5
    matrices = [
        rotation(i) @ np.diag(np.random.default_rng(i).uniform(0.6, 1.6, 3)) @ rotation(i + 9) for i in range(4)
    ]
    costs = []
    for matrix in matrices:
        x, y, z = np.linalg.eigvalsh(matrix.T @ matrix + e * np.eye(3))
        s1, s2, s3 = x + y + z, x * y + y * z + z * x, x * y * z
        costs.append(s1 + (1 + e) ** 2 * s2 / s3 - 6 * (1 + e))
    assert orthogonality(as_batch(*matrices)).item() == pytest.approx(np.mean(costs), rel=1e-9)
    assert min(costs) > 0
