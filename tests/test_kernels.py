"""The compiled loops against the definitions of `lddr.warping`, and against SciPy in float64."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage
from torch import Tensor, nn

from lddr.cascade import RecursiveCascade
from lddr.kernels import fused, off
from lddr.networks import LDR, LightAffine
from lddr.warping import compose, displacement_with_affine, integrate_velocity, warp, warp_labels, warp_with_affine

sides = st.tuples(*[st.integers(1, 9)] * 3)
seeds = st.integers(0, 10**6)


def draw(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, scale, shape)).float()


def both(function: Callable[..., Any], *words: Any, **more: Any) -> tuple[Any, Any]:
    """What the loops give, and the definition."""
    with off():
        defined = function(*words, **more)
    return function(*words, **more), defined


class Counting:
    """Counts how often compiled loops run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from lddr.kernels.compiled import Kernel

        self.calls, run = 0, Kernel.__call__

        def counted(kernel: Kernel, *words: Any) -> None:
            self.calls += 1
            run(kernel, *words)

        monkeypatch.setattr(Kernel, "__call__", counted)


@pytest.fixture
def counting(monkeypatch: pytest.MonkeyPatch) -> Counting:
    return Counting(monkeypatch)


@given(size=sides, target=sides, batch=st.integers(1, 2), channels=st.integers(1, 3), far=st.booleans(), seed=seeds)
def test_warp_is_the_definition(size, target, batch, channels, far, seed) -> None:
    image, field = draw(seed, batch, channels, *size), draw(seed + 1, batch, 3, *target, scale=50 if far else 1)
    found, defined = both(warp, image, field)
    assert found.shape == defined.shape
    torch.testing.assert_close(found, defined, atol=1e-4, rtol=0)


@given(size=sides, target=sides, seed=seeds)
def test_compose_is_the_definition(size, target, seed) -> None:
    found, defined = both(compose, draw(seed, 2, 3, *size), draw(seed + 1, 2, 3, *target, scale=2))
    torch.testing.assert_close(found, defined, atol=1e-4, rtol=0)


@given(
    size=sides, coarse=sides, channels=st.integers(1, 2), kind=st.sampled_from(["none", "same", "coarse"]), seed=seeds
)
def test_an_affine_map_and_a_displacement_in_one_pass(size, coarse, channels, kind, seed) -> None:
    field = {"none": None, "same": draw(seed, 2, 3, *size), "coarse": draw(seed, 2, 3, *coarse)}[kind]
    matrix, shift = torch.eye(3) + draw(seed + 1, 2, 3, 3, scale=0.1), draw(seed + 2, 2, 3)
    image = draw(seed + 3, 2, channels, *size)
    torch.testing.assert_close(*both(warp_with_affine, image, matrix, shift, field), atol=1e-4, rtol=0)
    torch.testing.assert_close(*both(displacement_with_affine, matrix, shift, field, size), atol=1e-4, rtol=0)


def test_the_one_pass_gives_the_bits_of_two() -> None:
    image, field = draw(0, 1, 1, 9, 8, 7), draw(1, 1, 3, 9, 8, 7)
    affine = 1.1 * torch.eye(3)[None], torch.ones(1, 3)
    total = displacement_with_affine(*affine, field, (9, 8, 7))
    assert torch.equal(warp_with_affine(image, *affine, field), warp(image, total))


def test_a_warp_of_whole_voxels_is_exact() -> None:
    image, field = draw(0, 1, 1, 6, 7, 8), torch.zeros(1, 3, 6, 7, 8)
    assert torch.equal(warp(image, field), image)
    field[:, 2] = 3
    assert torch.equal(warp(image, field)[..., :5], image[..., 3:])


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 1e30, -3e38, 2.0**31, 2.0**40])
@pytest.mark.parametrize("size", [(5, 6, 7), (1, 6, 1)])
def test_no_displacement_reads_outside_the_image(size, bad) -> None:
    image, field = torch.rand(1, 3, *size), torch.zeros(1, 3, *size)
    field[:, 1] = bad
    for function in (warp, compose):
        found, defined = both(function, image, field)
        torch.testing.assert_close(found, defined, equal_nan=True)
    labels = (9 * image).to(torch.int16)
    for mode in ("nearest", "linear"):
        found, defined = both(warp_labels, labels, field, mode)
        assert torch.equal(found, defined)
    image.requires_grad_()
    field.requires_grad_()
    for gradient in torch.autograd.grad(warp(image, field).sum(), (image, field)):
        assert torch.isfinite(gradient).all()
    volume, eye = image[0, 0].detach().numpy(), np.eye(4)
    u = field[0].detach().numpy()
    assert (fused.pull(volume, size, eye, u, eye, fill=-7) == -7).all()
    assert (fused.pull(labels[0, 0].numpy(), size, eye, u, eye, fill=-7, nearest=True) == -7).all()


@pytest.mark.parametrize("size", [(2, 3, 4), (1, 3, 4), (2, 1, 4), (2, 3, 1), (1, 1, 1)])
def test_memory_beside_the_image_is_not_even_read(size) -> None:
    n = int(np.prod(size))
    memory = torch.full((3 * n,), float("nan"))
    memory[n : 2 * n] = torch.rand(n)
    image, field = memory[n : 2 * n].view(1, 1, *size), 9 * torch.randn(1, 3, 20, 5, 5)
    assert warp(image, field).isfinite().all()
    leaf = field.requires_grad_()
    assert torch.autograd.grad(warp(image, leaf).sum(), leaf)[0].isfinite().all()


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int16, torch.int64])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_labels_are_those_of_the_definition(kind, mode) -> None:
    labels = (draw(0, 2, 1, 9, 12, 7, scale=3).round() - 1).to(kind)
    found, defined = both(warp_labels, labels, draw(1, 2, 3, 8, 7, 9, scale=2), mode)
    assert found.dtype == kind
    assert len(found.unique()) > (1 if kind == torch.bool else 5)
    assert torch.equal(found, defined)


def test_equal_shares_go_to_the_smaller_label() -> None:
    """As the book says; by the definition, rounding may decide."""
    labels = torch.tensor([7, 2, 2, 7, 5, 7]).view(1, 1, 1, 1, 6)
    field = torch.zeros(1, 3, 1, 1, 6)
    field[:, 2] = 0.5
    assert warp_labels(labels, field).flatten().tolist() == [2, 2, 2, 5, 5, 7]


def gradients(function: Callable, inputs: tuple[Tensor, ...], weight: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad((function(*inputs) * weight).sum(), inputs)


@pytest.mark.parametrize("function", [warp, compose])
@pytest.mark.parametrize(("size", "target"), [((9, 12, 7), (8, 7, 9)), ((1, 5, 6), (4, 5, 6)), ((6, 1, 1), (3, 3, 3))])
def test_gradients_are_those_of_the_definition(function, size, target) -> None:
    field = draw(1, 2, 3, *target, scale=3)
    index = torch.from_numpy(np.indices(target)).float()
    places = field + index
    near = (places - places.round()).abs() < 0.02  # at the border of a cell the derivative jumps
    inputs = (draw(0, 2, 3, *size).requires_grad_(), (field + 0.1 * near).requires_grad_())
    weight = draw(2, 2, 3, *target)
    found = gradients(function, inputs, weight)
    with off():
        defined = gradients(function, inputs, weight)
    for ours, theirs in zip(found, defined, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def affine_inputs(size: tuple[int, int, int], kind: str) -> tuple[Tensor, ...]:
    """A, b and perhaps a displacement, which all learn; places well inside the cells of a grid."""
    matrix = torch.eye(3) + torch.diag_embed(draw(0, 2, 3, scale=1e-3))
    field = {"none": (), "same": [0.1 * draw(2, 2, 3, *size).tanh()], "coarse": [0.1 * draw(3, 2, 3, 3, 2, 4).tanh()]}
    return tuple(x.requires_grad_() for x in (matrix, 0.4 + 0.1 * draw(1, 2, 3).tanh(), *field[kind]))


@pytest.mark.parametrize("kind", ["none", "same", "coarse"])
def test_gradients_with_an_affine_map_are_those_of_the_definition(kind) -> None:
    size = (9, 8, 7)
    image, maps = draw(4, 2, 2, *size).requires_grad_(), affine_inputs(size, kind)
    by_warp = (lambda *words: warp_with_affine(*words), (image, *maps), draw(5, 2, 2, *size))
    by_field = (lambda A, b, u=None: displacement_with_affine(A, b, u, size), maps, draw(6, 2, 3, *size))
    for case in (by_warp, by_field):
        found = gradients(*case)
        with off():
            defined = gradients(*case)
        for ours, theirs in zip(found, defined, strict=True):
            torch.testing.assert_close(ours, theirs, atol=2e-3, rtol=1e-4)


@pytest.mark.parametrize("kind", ["none", "same", "coarse"])
def test_second_derivatives_with_an_affine_map(kind) -> None:
    size = (6, 5, 7)

    def twice() -> tuple[Tensor, ...]:
        image, maps = draw(4, 2, 1, *size).requires_grad_(), affine_inputs(size, kind)
        field = displacement_with_affine(*maps, *[None] * (3 - len(maps)), size)
        total = warp_with_affine(image, *maps).square().sum() + field.square().sum()
        first = torch.autograd.grad(total, (image, *maps), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (image, *maps))

    for ours, theirs in zip(*both(twice), strict=True):
        assert theirs.abs().max() > 1
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-3)


def test_a_displacement_first_asked_for_without_a_graph_can_still_be_differentiated() -> None:
    model = RecursiveCascade(LightAffine(4), [LDR(4)])
    result = model(*torch.rand(2, 1, 1, 16, 16, 16))
    with torch.no_grad():
        assert result.displacement.shape == result.affine_flow.shape == (1, 3, 16, 16, 16)
    result.displacement.square().sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def test_gradients_by_finite_differences() -> None:
    """The loops know float32 only, so the steps are large; within a cell the warp is linear in each coordinate."""
    image, field, weight = draw(0, 1, 2, 5, 6, 4), 0.3 + 0.2 * torch.rand(1, 3, 5, 6, 4), draw(1, 1, 2, 5, 6, 4)
    leaves = (image.requires_grad_(), field.requires_grad_())
    found = gradients(warp, leaves, weight)
    for leaf, gradient, step in zip(leaves, found, (1.0, 0.05), strict=True):
        for place in np.random.default_rng(0).integers(0, leaf.numel(), 20):
            change = torch.zeros(leaf.numel())
            change[place] = step
            change = change.view_as(leaf)
            pair = [[x + s * change if x is leaf else x for x in leaves] for s in (1, -1)]
            high, low = ((warp(*words) * weight).sum() for words in pair)
            assert ((high - low) / (2 * step) - gradient.flatten()[place]).abs() < 2e-3


def test_only_the_gradients_asked_for_are_computed(counting) -> None:
    image, field = torch.rand(1, 1, 4, 5, 6), torch.rand(1, 3, 4, 5, 6).requires_grad_()
    warp(image, field).sum().backward()
    assert counting.calls == 2


@pytest.mark.parametrize("function", [warp, compose])
def test_second_derivatives_are_those_of_the_definition(function) -> None:
    def twice() -> tuple[Tensor, ...]:
        image, field = draw(0, 1, 3, 5, 6, 4).requires_grad_(), draw(1, 1, 3, 5, 6, 4).requires_grad_()
        first = torch.autograd.grad(function(image, field).square().sum(), (image, field), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), (image, field))

    for ours, theirs in zip(*both(twice), strict=True):
        assert theirs.abs().max() > 1
        torch.testing.assert_close(ours, theirs, atol=1e-3, rtol=1e-3)


def test_second_derivatives_of_a_field_composed_with_itself() -> None:
    def twice() -> Tensor:
        velocity = draw(0, 1, 3, 5, 6, 4).requires_grad_()
        (first,) = torch.autograd.grad(integrate_velocity(velocity, 2).square().sum(), velocity, create_graph=True)
        return torch.autograd.grad(first.square().sum(), velocity)[0]

    ours, theirs = both(twice)
    torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-3)


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_what_the_loops_cannot_do_goes_by_the_definition(counting) -> None:
    image, field = torch.rand(1, 1, 4, 5, 6), torch.rand(1, 3, 4, 5, 6)
    with off():
        expected = warp(image, field)
    assert counting.calls == 0
    torch.testing.assert_close(warp(image.double(), field.double()).float(), expected, atol=1e-5, rtol=0)
    assert warp(image.to("meta"), field.to("meta")).device.type == "meta"
    torch.testing.assert_close(torch.vmap(warp)(image[None], field[None])[0], expected)
    with pytest.raises(NotImplementedError, match="forward AD"):  # not a wrong answer
        torch.func.jvp(lambda u: warp(image, u), (field,), (torch.zeros_like(field),))
    gradient = torch.func.grad(lambda u: warp(image, u).sum())(field)
    traced = torch.jit.trace(warp, (image, field), check_trace=False)
    torch.testing.assert_close(traced(image + 1, field), expected + 1)
    assert counting.calls == 0
    leaf = field.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(warp(image, leaf).sum(), leaf)[0], gradient, atol=1e-5, rtol=1e-5)
    assert counting.calls == 2
    rows = torch.autograd.grad(
        warp(image, leaf).sum((2, 3, 4)).flatten(), leaf, torch.ones(1, 1), is_grads_batched=True
    )
    torch.testing.assert_close(rows[0][0], gradient, atol=1e-5, rtol=1e-5)


class Warping(nn.Module):
    def forward(self, image: Tensor, field: Tensor) -> Tensor:
        return compose(warp(image, field).expand(-1, 3, -1, -1, -1), field)


@pytest.mark.slow
def test_an_exported_program_holds_the_definition() -> None:
    words = torch.rand(1, 1, 4, 5, 6), torch.rand(1, 3, 4, 5, 6)
    program = torch.export.export(Warping(), words)
    assert any("grid_sampler" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*words), Warping()(*words), atol=1e-5, rtol=1e-5)


def test_wrong_shapes_are_refused_as_by_the_definition() -> None:
    with pytest.raises(RuntimeError):
        warp(torch.rand(2, 1, 4, 4, 4), torch.rand(1, 3, 4, 4, 4))
    with pytest.raises(ValueError, match="'nearest' or 'linear', not 'cubic'"):
        warp_labels(torch.zeros(1, 1, 4, 4, 4, dtype=torch.uint8), torch.rand(1, 3, 4, 4, 4), "cubic")


def test_any_layout_in_memory_and_inference_mode(counting) -> None:
    image, field = torch.rand(2, 3, 5, 6, 7), torch.rand(2, 3, 5, 6, 7)
    with off():
        expected = warp(image, field)
    last = {"memory_format": torch.channels_last_3d}
    with torch.inference_mode():
        torch.testing.assert_close(warp(image.to(**last), field.to(**last)), expected, atol=1e-5, rtol=0)
    turned = warp(image.transpose(2, 4).contiguous().transpose(2, 4), field[:1].expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(turned[0], expected[0], atol=1e-5, rtol=0)
    assert counting.calls == 2


def chain(shape, to_grid, displacement, turn, rest, moving=None, fill=0.0, order=1) -> np.ndarray:
    """The same in float64 by SciPy, for a displacement and a moving volume as plain arrays."""
    x = np.indices(shape).reshape(3, -1).astype(float)
    p = to_grid[:3, :3] @ x + to_grid[:3, 3:]
    v = np.stack([ndimage.map_coordinates(c.astype(float), p, order=1, mode="nearest") for c in displacement])
    if moving is None:
        return (turn @ v + rest[:3, :3] @ x + rest[:3, 3:]).T.reshape(*shape, 3)
    y = rest[:3, :3] @ (p + v) + rest[:3, 3:]
    return ndimage.map_coordinates(moving, y, order=order, mode="grid-constant", cval=fill).reshape(shape)


def turned(order: tuple[int, ...], flips: tuple[int, ...], volume: np.ndarray) -> np.ndarray:
    """The same values at the same indices, laid out in memory in another order."""
    flip = tuple(slice(None, None, -1 if axis in flips else 1) for axis in range(3))
    return np.ascontiguousarray(volume.transpose(order)[flip])[flip].transpose(np.argsort(order))


@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    side=st.tuples(*[st.integers(1, 7)] * 3),
    order=st.permutations(range(3)),
    flips=st.sets(st.integers(0, 2)),
    seed=seeds,
)
def test_from_file_to_file_is_the_chain_in_float64(shape, side, order, flips, seed) -> None:
    rng = np.random.default_rng(seed)
    moving = rng.normal(100, 30, rng.integers(1, 9, 3)).astype(np.float32)
    displacement = rng.normal(0, 1, (3, *side)).astype(np.float32)
    P, M = (np.eye(4) + np.pad(rng.normal(0, s, (3, 4)), ((0, 1), (0, 0))) for s in (0.3, 0.5))
    expected = chain(shape, P, displacement, None, M, moving.astype(float), fill=-5)
    assert turned(order, flips, moving).tolist() == moving.tolist()
    found = fused.pull(turned(order, flips, moving), shape, P, displacement, M, fill=-5)
    assert found.flags.f_contiguous
    np.testing.assert_allclose(found, expected, atol=2e-2)  # 100 times the error of a place
    np.testing.assert_allclose(
        fused.field(shape, P, displacement, M[:3, :3], M @ P),
        chain(shape, P, displacement, M[:3, :3], M @ P),
        atol=1e-4,
    )
    by_scipy = fused._by_scipy(fused.Way(shape, P, displacement, M[:3, :3], M @ P - np.eye(4)), moving, -5)
    np.testing.assert_allclose(by_scipy, expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["uint8", ">i2", "int32", "float64", "bool"])
def test_labels_from_file_to_file(rng, kind) -> None:
    labels, displacement = rng.integers(0, 9, (9, 8, 7)).astype(kind), rng.normal(0, 1, (3, 4, 5, 3)).astype(np.float32)
    P, M = np.diag([0.4, 0.5, 0.3, 1]), np.diag([2.3, 1.9, 2.1, 1.0])
    M[:3, 3] = (-0.4, 0.7, 0.2)
    expected = chain((10, 9, 8), P, displacement, None, M, labels, fill=1, order=0)
    found = fused.pull(labels, (10, 9, 8), P, displacement, M, fill=1, nearest=True)
    assert found.dtype == labels.dtype
    assert (found == expected).all()
    assert len(np.unique(found)) > (5 if kind != "bool" else 1)


def test_places_far_from_the_origin_keep_their_accuracy(rng) -> None:
    """In the last rows of 256^3 voxels, on images that are their own index."""
    P, M = np.diag([63 / 255] * 3 + [1]), np.diag([255 / 63] * 3 + [1])
    P[:3, 3], M[:3, 3] = (0.01, 252 * 63 / 255, 0.01), -0.3
    displacement = rng.normal(0, 0.1, (3, 64, 64, 64)).astype(np.float32)
    shape = (256, 4, 256)
    for axis in range(3):
        ramp = np.broadcast_to(np.expand_dims(np.arange(256.0), [a for a in range(3) if a != axis]), (256, 256, 256))
        ramp = ramp.astype(np.float32)
        expected = chain(shape, P, displacement, None, M, ramp, fill=np.nan)
        found = fused.pull(ramp, shape, P, displacement, M, fill=np.nan)
        inside = ~np.isnan(expected)
        assert inside.mean() > 0.5
        assert np.abs(found - expected)[inside].max() < 1e-3
        assert np.isnan(found[~inside]).all()


def test_a_field_on_the_result_s_own_grid_is_read_as_it_is(rng) -> None:
    field = rng.normal(0, 1, (6, 7, 8, 3)).astype(np.float32)
    stored = np.asfortranarray(field)  # as a NIfTI file holds it
    eye = np.eye(4)
    assert (fused.field((6, 7, 8), eye, np.moveaxis(stored, -1, 0), eye[:3, :3], 0 * eye) == field).all()
    assert (fused.field((6, 7, 8), eye, np.moveaxis(field, -1, 0), eye[:3, :3], 0 * eye) == field).all()


def test_outside_the_image_the_value_goes_over_into_fill() -> None:
    line, eye = np.full((3, 1, 1), 8, np.float32), np.eye(4)
    eye[0, 3] = -2
    half = np.full((3, 1, 1, 1), 0, np.float32)
    half[0] = 0.25
    found = fused.pull(line, (7, 1, 1), np.eye(4), half, eye, fill=4)
    assert found.ravel().tolist() == [4, 5, 8, 8, 7, 4, 4]


def test_more_threads_change_no_bit_and_callers_do_not_meet() -> None:
    image, field = torch.rand(2, 3, 40, 41, 42), torch.rand(2, 3, 40, 41, 42) * 5
    one = warp(image, field), warp_labels((9 * image).to(torch.uint8), field)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(5)
        with ThreadPoolExecutor(6) as pool:
            for found in pool.map(
                lambda _: (warp(image, field), warp_labels((9 * image).to(torch.uint8), field)), range(30)
            ):
                assert torch.equal(found[0], one[0])
                assert torch.equal(found[1], one[1])
    finally:
        torch.set_num_threads(before)


def _in_child(queue: Any) -> None:
    torch.set_num_threads(2)
    image, field = torch.rand(1, 1, 20, 20, 20), torch.rand(1, 3, 20, 20, 20)
    queue.put([float((warp(image, field) - warp(image.double(), field.double())).abs().max()) for _ in range(3)])


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_has_threads_of_its_own() -> None:
    """As the workers of a DataLoader are."""
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        warp(torch.rand(1, 1, 20, 20, 20), torch.rand(1, 3, 20, 20, 20))  # the parent's threads are running
    finally:
        torch.set_num_threads(before)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(queue,))
    child.start()
    assert max(queue.get(timeout=120)) < 1e-4
    child.join(60)
    assert child.exitcode == 0


SCRIPT = """
import json, sys, torch
from lddr.warping import warp
g = torch.Generator().manual_seed(0)
image, field = torch.rand(1, 1, 6, 7, 8, generator=g), torch.rand(1, 3, 6, 7, 8, generator=g)
assert not sys.modules.get("numba")
value = warp(image, field)
from lddr import kernels
with kernels.off():
    error = float((warp(image, field) - value).abs().max())
print(json.dumps([kernels._works, error]))
"""


def fresh(before: str = "", **variables: str) -> tuple[bool, float, str]:
    """In a process of its own: do the loops work, how far are they from the definition, what stands on stderr."""
    done = subprocess.run(
        [sys.executable, "-c", before + SCRIPT], capture_output=True, text=True, env=os.environ | variables, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return *json.loads(done.stdout), done.stderr


@pytest.mark.slow
def test_compiled_once_then_found_and_a_damaged_cache_is_no_harm(tmp_path: Path) -> None:
    place = {"LDDR_CACHE": str(tmp_path), "NUMBA_CACHE_DIR": ""}
    assert fresh(**place)[0]
    files = sorted(p for p in tmp_path.rglob("*") if p.suffix in (".nbi", ".nbc"))
    stamps = [p.stat().st_mtime_ns for p in files]
    assert len(files) >= 2
    assert fresh(**place)[0]
    assert [p.stat().st_mtime_ns for p in files] == stamps
    for path in files:
        path.write_bytes(path.read_bytes()[:-20])
    works, error, said = fresh(**place)
    assert works
    assert error < 1e-5
    assert said == ""


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    works, error, said = fresh(LDDR_CACHE=str(tmp_path / "file"), NUMBA_CACHE_DIR="")
    assert works
    assert error < 1e-5
    assert said == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    "broken", ["sys.modules['numba'] = None", "import numba.core.dispatcher as d; d.Dispatcher.compile = None"]
)
def test_without_numba_the_definition_serves_and_one_line_says_so(broken: str) -> None:
    before = f"import sys\n{broken}\n"
    if "import numba" in broken:
        before += "del sys.modules['numba']\n"
    works, error, said = fresh(before)
    assert not works
    assert error == 0
    assert said.count("warning: warps are slow here, since numba does not work") == 1
