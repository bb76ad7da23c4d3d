"""The cascade with stems whose answers are known in advance, so that the composed map can be worked out on paper."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from lddr.cascade import RecursiveCascade
from lddr.networks import LDR, LightAffine
from lddr.warping import compose, warp

SIZE = (15, 18, 13)
MATRIX = torch.tensor([[[0.95, 0.1, 0.0], [-0.05, 1.05, 0.08], [0.02, 0.0, 0.9]]])
SHIFT = torch.tensor([[0.7, -0.4, 0.3]])
CENTRE = (torch.tensor(SIZE).view(1, 3, 1, 1, 1) - 1) / 2
POINTS = torch.from_numpy(np.indices(SIZE)).float().unsqueeze(0)


class Known(nn.Module):
    """A dense stem that returns the same field whatever it sees, and keeps what it saw."""

    def __init__(self, field: Tensor) -> None:
        super().__init__()
        self.field, self.seen = field, []

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        self.seen.append((moving, fixed))
        return self.field.expand(len(moving), -1, -1, -1, -1)


class KnownAffine(nn.Module):
    """An affine stem that returns the same map whatever it sees."""

    def __init__(self, matrix: Tensor = MATRIX, shift: Tensor = SHIFT) -> None:
        super().__init__()
        self.matrix, self.shift = matrix, shift

    def forward(self, moving: Tensor, fixed: Tensor) -> tuple[Tensor, Tensor]:
        return self.matrix.expand(len(moving), -1, -1), self.shift.expand(len(moving), -1)


def affine_map(x: Tensor) -> Tensor:
    """A (x - c) + c + b."""
    return torch.einsum("ij,bjdhw->bidhw", MATRIX[0], x - CENTRE) + CENTRE + SHIFT.view(1, 3, 1, 1, 1)


def look_up(field: Tensor, x: Tensor) -> Tensor:
    """`field` at the positions x, by SciPy."""
    values = [ndimage.map_coordinates(f.numpy(), x[0].numpy(), order=1, mode="nearest") for f in field[0]]
    return torch.from_numpy(np.stack(values)).unsqueeze(0)


@pytest.fixture
def images() -> tuple[Tensor, Tensor]:
    moving, fixed = torch.rand(2, 1, 1, *SIZE, generator=torch.Generator().manual_seed(0))
    return moving, fixed


@pytest.fixture
def fields(smooth_field: Callable[..., Tensor]) -> list[Tensor]:
    return [smooth_field(SIZE, 2.0, seed=seed) for seed in (1, 2, 3)]


def test_the_total_is_the_steps_followed_one_after_the_other(
    images: tuple[Tensor, Tensor], fields: list[Tensor]
) -> None:
    """phi(x) = affine(x3 + u1(x3)), where x2 = x + u3(x) and x3 = x2 + u2(x2): the last stem moves a point first."""
    result = RecursiveCascade(KnownAffine(), [Known(f) for f in fields])(*images)
    x = POINTS + fields[2]
    x = x + look_up(fields[1], x)
    x = x + look_up(fields[0], x)
    # Composing fields interpolates sums of fields, which differs a little from following a single point.
    torch.testing.assert_close(POINTS + result.displacement, affine_map(x), atol=0.2, rtol=0)
    assert (result.displacement - (affine_map(x) - POINTS)).abs().mean() < 0.01
    deformation = compose(compose(fields[0], fields[1]), fields[2])
    expected = affine_map(POINTS + deformation) - POINTS
    torch.testing.assert_close(result.displacement, expected, atol=1e-5, rtol=1e-5)


def test_translations_add_up_through_the_affine_matrix(images: tuple[Tensor, Tensor]) -> None:
    steps = [torch.tensor(s).view(1, 3, 1, 1, 1).expand(1, 3, *SIZE) for s in ([1.0, 0, 0], [0, -2.0, 0.5])]
    result = RecursiveCascade(KnownAffine(), [Known(s) for s in steps])(*images)
    expected = affine_map(POINTS + torch.tensor([1.0, -2.0, 0.5]).view(1, 3, 1, 1, 1)) - POINTS
    torch.testing.assert_close(result.displacement, expected, atol=1e-5, rtol=1e-5)


def test_the_affine_part_is_exact_beyond_the_border(images: tuple[Tensor, Tensor]) -> None:
    away = torch.tensor([30.0, -40.0, 25.0]).view(1, 3, 1, 1, 1).expand(1, 3, *SIZE)
    result = RecursiveCascade(KnownAffine(), [Known(away)])(*images)
    torch.testing.assert_close(result.displacement, affine_map(POINTS + away) - POINTS, atol=1e-4, rtol=1e-5)


def test_every_warped_image_comes_from_the_original(images: tuple[Tensor, Tensor], fields: list[Tensor]) -> None:
    moving, fixed = images
    stems = [Known(f) for f in fields]
    result = RecursiveCascade(KnownAffine(), stems)(moving, fixed)
    assert torch.equal(result.warped[-1], warp(moving, result.displacement))
    once = ndimage.map_coordinates(moving[0, 0].numpy(), affine_map(POINTS)[0].numpy(), order=1, mode="nearest")
    np.testing.assert_allclose(result.warped[0][0, 0], once, atol=1e-5)
    first = affine_map(POINTS + fields[0])
    once = ndimage.map_coordinates(moving[0, 0].numpy(), first[0].numpy(), order=1, mode="nearest")
    np.testing.assert_allclose(result.warped[1][0, 0], once, atol=1e-5)


def test_each_stem_sees_what_the_ones_before_it_left(images: tuple[Tensor, Tensor], fields: list[Tensor]) -> None:
    stems = [Known(f) for f in fields]
    result = RecursiveCascade(KnownAffine(), stems)(*images)
    assert len(result.warped) == 4
    assert len(result.flows) == 3
    for stem, seen, flow, field in zip(stems, result.warped[:-1], result.flows, fields, strict=True):
        (moving, fixed), *rest = stem.seen
        assert not rest
        assert torch.equal(moving, seen)
        assert torch.equal(fixed, images[1])
        assert torch.equal(flow, field)
    torch.testing.assert_close(result.affine_flow, affine_map(POINTS) - POINTS, atol=1e-5, rtol=1e-5)
    assert torch.equal(result.matrix, MATRIX)


def test_repeats_are_the_same_stem_listed_again(images: tuple[Tensor, Tensor], fields: list[Tensor]) -> None:
    a, b = Known(fields[0]), Known(fields[1])
    repeated = RecursiveCascade(KnownAffine(), [a, b])(*images, repeats=2)
    listed = RecursiveCascade(KnownAffine(), [a, a, b, b])(*images)
    assert len(repeated.flows) == 4
    assert torch.equal(repeated.displacement, listed.displacement)
    assert not torch.equal(repeated.displacement, RecursiveCascade(KnownAffine(), [a, b])(*images).displacement)


def test_without_an_affine_stem_the_images_start_as_they_lie(
    images: tuple[Tensor, Tensor], fields: list[Tensor]
) -> None:
    result = RecursiveCascade(None, [Known(fields[0])])(*images)
    assert torch.equal(result.warped[0], images[0])
    torch.testing.assert_close(result.displacement, fields[0])
    assert torch.equal(result.matrix, torch.eye(3).unsqueeze(0))
    assert result.affine_flow.abs().max() == 0


def test_without_dense_stems_the_affine_map_is_all(images: tuple[Tensor, Tensor]) -> None:
    result = RecursiveCascade(KnownAffine(), [])(*images)
    torch.testing.assert_close(result.displacement, affine_map(POINTS) - POINTS, atol=1e-5, rtol=1e-5)
    assert torch.equal(result.warped[-1], warp(images[0], result.displacement))


def test_a_batch_is_registered_entry_by_entry() -> None:
    torch.manual_seed(0)
    model = RecursiveCascade(LightAffine(4), [LDR(4), LDR(4)]).eval()
    for parameter in model.parameters():
        parameter.data.mul_(2)
    moving, fixed = torch.rand(2, 3, 1, 16, 18, 20, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        together, alone = model(moving, fixed), model(moving[2:], fixed[2:])
    torch.testing.assert_close(together.displacement[2:], alone.displacement, atol=1e-5, rtol=1e-3)


class Brightness(nn.Module):
    """A dense stem that moves everything by the mean brightness of what it sees."""

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        return moving.mean().expand(len(moving), 3, *SIZE)


def test_a_stem_also_learns_through_what_later_stems_see(images: tuple[Tensor, Tensor]) -> None:
    shift = torch.full((1, 3, 1, 1, 1), 0.3, requires_grad=True)
    result = RecursiveCascade(None, [Known(shift.expand(1, 3, *SIZE)), Brightness()])(*images)
    (gradient,) = torch.autograd.grad(result.flows[1].sum(), shift)
    assert gradient.abs().min() > 0


def test_the_last_image_alone_teaches_every_stem() -> None:
    torch.manual_seed(0)
    model = RecursiveCascade(LightAffine(4), [LDR(4), LDR(4), LDR(4)])
    moving, fixed = torch.rand(2, 1, 1, 16, 18, 20, generator=torch.Generator().manual_seed(0))
    (model(moving, fixed).warped[-1] - fixed).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name
