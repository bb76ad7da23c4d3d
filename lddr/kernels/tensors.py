"""Functions of `lddr.warping` by compiled loops, with derivatives. Each gives None if the definition has to do it.

The first argument of each is that definition, for second derivatives.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lddr.kernels import attempt, off, watched
from lddr.kernels.affine import HERE, NOWHERE, PARALLEL, pull_rows
from lddr.kernels.gather import displacement_gradient_rows, image_gradient_rows, warp_rows
from lddr.kernels.labels import linear_rows, nearest_rows

WHOLE = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool)


def warp(define: Callable, image: Tensor, displacement: Tensor, mode: str = "bilinear") -> Tensor | None:
    """See `lddr.warping.warp`."""
    if mode != "bilinear" or image.dtype != torch.float32 or not _fits(image, displacement):
        return None
    return Warp.apply(define, image.contiguous(), displacement.contiguous(), False)


def compose(define: Callable, first: Tensor, second: Tensor) -> Tensor | None:
    """See `lddr.warping.compose`."""
    if first.dtype != torch.float32 or not _fits(first, second) or first.shape[1] != 3:
        return None
    return Warp.apply(define, first.contiguous(), second.contiguous(), True)


def warp_labels(define: Callable, labels: Tensor, displacement: Tensor, mode: str = "linear") -> Tensor | None:
    """See `lddr.warping.warp_labels`."""
    rows = {"linear": linear_rows, "nearest": nearest_rows}.get(mode)
    if rows is None or labels.dtype not in WHOLE or not _fits(labels, displacement):
        return None
    out = labels.new_empty(*labels.shape[:2], *displacement.shape[2:])
    source, target = (x.view(torch.uint8) if x.dtype == torch.bool else x for x in (labels.contiguous(), out))
    rows(_rows(out), _flat(source), tuple(labels.shape[2:]), _array(displacement.contiguous()), _array(target))
    return out


def warp_with_affine(
    define: Callable, image: Tensor, matrix: Tensor, translation: Tensor, displacement: Tensor | None = None
) -> Tensor | None:
    """See `lddr.warping.warp_with_affine`."""
    if image.dtype != torch.float32 or image.ndim != 5 or len(image) != len(matrix) or not _countable(image):
        return None
    return _with_affine(define, image.shape[2:], image.contiguous(), matrix, translation, displacement)


def displacement_with_affine(
    define: Callable, matrix: Tensor, translation: Tensor, displacement: Tensor | None, size: Sequence[int]
) -> Tensor | None:
    """See `lddr.warping.displacement_with_affine`."""
    return _with_affine(define, size, None, matrix, translation, displacement)


def _with_affine(
    define: Callable,
    size: Sequence[int],
    image: Tensor | None,
    matrix: Tensor,
    translation: Tensor,
    displacement: Tensor | None,
) -> Tensor | None:
    maps = [x for x in (matrix, translation, displacement) if x is not None]
    wrong = matrix.shape[1:] != (3, 3) or translation.shape[1:] != (3,)
    if wrong or any(x.dtype != torch.float32 or len(x) != len(matrix) for x in maps):
        return None
    learns = torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in (image, *maps))
    if displacement is not None:
        if displacement.ndim != 5 or displacement.shape[1] != 3 or (learns and displacement.shape[2:] != tuple(size)):
            return None  # the derivative of a coarse displacement is for PyTorch's own upsampling to know
        displacement = displacement.contiguous()
    return WithAffine.apply(define, tuple(size), learns, image, matrix, translation, displacement)


class Warp(torch.autograd.Function):
    """A warp of an image, plus the displacement itself if `plus` says so."""

    @staticmethod
    def forward(ctx: Any, define: Callable, image: Tensor, displacement: Tensor, plus: bool) -> Tensor:
        """Compute the value."""
        ctx.define, ctx.plus = define, plus
        ctx.save_for_backward(image, displacement)
        out = image.new_empty(*image.shape[:2], *displacement.shape[2:])
        warp_rows(_rows(out), _flat(image), tuple(image.shape[2:]), _array(displacement), plus, _array(out))
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the derivatives."""
        wanted = ctx.needs_input_grad[1:3]

        def by_loops() -> list[Tensor | None]:
            image, displacement = ctx.saved_tensors
            return _gradients(image, displacement, gradient.contiguous(), wanted, ctx.plus)

        return None, *_derivatives(ctx.define, by_loops, ctx.saved_tensors, gradient, wanted), None


class WithAffine(torch.autograd.Function):
    """An affine map, then a displacement: the image warped by both, or without an image their joint displacement."""

    @staticmethod
    def forward(
        ctx: Any,
        define: Callable,
        size: tuple[int, ...],
        learns: bool,
        image: Tensor | None,
        matrix: Tensor,
        translation: Tensor,
        displacement: Tensor | None,
    ) -> Tensor:
        """Compute one of the two; for the derivative of a warped image, both."""
        sides, batch = np.array(size), len(matrix)
        turn = matrix.detach().double().numpy()
        rest = turn - np.eye(3)
        shift = translation.detach().double().numpy() - rest @ ((sides - 1) / 2)
        v_sides: tuple[int, ...] = (0, 0, 0)
        v, where, to_v = np.empty((batch, 3, 0), np.float32), NOWHERE, np.eye(3, 4)
        if displacement is not None:
            v, v_sides, where = _flat(displacement), tuple(displacement.shape[2:]), HERE
            if v_sides != size:
                last, v_last, where = sides - 1, np.array(v_sides) - 1, PARALLEL
                to_v = to_v * (v_last / np.maximum(last, 1))[:, None]
                turn = turn * (last / np.maximum(v_last, 1))  # voxels of the coarse grid become voxels of the image
        field = matrix.new_empty(batch, 3 if image is None or learns else 0, *size)
        out = matrix.new_empty(batch, 0, *size) if image is None else torch.empty_like(image)
        way = (v, v_sides, where, to_v, np.ascontiguousarray(turn), np.concatenate([rest, shift[..., None]], axis=-1))
        source = np.empty((batch, 0, 0), np.float32) if image is None else _flat(image)
        pull_rows(_rows(out), source, size, way, False, np.float32(0), _array(field), _array(out))
        ctx.define, ctx.size = define, size
        ctx.save_for_backward(image, matrix, translation, displacement, None if image is None else field)
        return field if image is None else out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Compute the derivatives; that for A is the sum of all `g(x) (x - c + v(x))^T`, g being that for the field."""
        image, matrix, translation, displacement, field = ctx.saved_tensors
        wanted = ctx.needs_input_grad[3:]

        def by_loops() -> list[Tensor | None]:
            of_image: Tensor | None = None
            g: Tensor | None = gradient.contiguous()
            if image is not None:
                of_image, g = _gradients(image, field, gradient.contiguous(), (wanted[0], any(wanted[1:])), False)
            if g is None:
                return [of_image, None, None, None]
            of_displacement = of_matrix = of_translation = None
            if displacement is not None:
                of_displacement = (matrix.transpose(1, 2) @ g.flatten(2)).view_as(g)
            if wanted[1] or wanted[2]:
                of_matrix, of_translation = _moments(g), g.sum((2, 3, 4))
                if displacement is not None:
                    of_matrix += g.flatten(2) @ displacement.flatten(2).transpose(1, 2)
            return [of_image, of_matrix, of_translation, of_displacement]

        def by_definition(*words: Tensor | None) -> Tensor:
            return ctx.define(*words[1:], ctx.size) if image is None else ctx.define(*words)

        inputs = (image, matrix, translation, displacement)
        return None, None, None, *_derivatives(by_definition, by_loops, inputs, gradient, wanted)


def _moments(g: Tensor) -> Tensor:
    """Sum `g(x) (x - c)^T` over a grid, c its centre: `[B, 3, D, H, W]` -> `[B, 3, 3]`."""
    sums = []
    for profile in (g.sum((3, 4)), g.sum((2, 4)), g.sum((2, 3))):
        n = profile.shape[2]
        sums.append(profile @ (torch.arange(n, dtype=g.dtype, device=g.device) - (n - 1) / 2))
    return torch.stack(sums, dim=2)


def _gradients(
    image: Tensor, displacement: Tensor, gradient: Tensor, wanted: tuple[bool, bool], plus: bool
) -> list[Tensor | None]:
    """Give the gradients of `Warp` for image and displacement."""
    of_image = of_displacement = None
    sides, field, g = tuple(image.shape[2:]), _array(displacement), _array(gradient)
    if wanted[0]:
        of_image = torch.zeros_like(image)
        image_gradient_rows(image.shape[0] * image.shape[1], sides, field, g, _flat(of_image))
    if wanted[1]:
        of_displacement = torch.empty_like(displacement)
        displacement_gradient_rows(_rows(gradient), _flat(image), sides, field, plus, g, _array(of_displacement))
    return [of_image, of_displacement]


def _derivatives(
    define: Callable[..., Tensor],
    by_loops: Callable[[], list[Tensor | None]],
    inputs: Sequence[Tensor | None],
    gradient: Tensor,
    wanted: Sequence[bool],
) -> list[Tensor | None]:
    """Give derivatives by loops; by the definition if they are to have derivatives, or `gradient` is not plain."""
    further = torch.is_grad_enabled()
    if not (further or watched() or torch._C._functorch.is_legacy_batchedtensor(gradient)):
        found = attempt(by_loops)
        if found is not None:
            return found
    with torch.enable_grad(), off():
        # Two inputs may be one tensor; views keep their gradients apart.
        own = [x if x is None else x.view_as(x) for x in inputs]
        targets = [x for x, w in zip(own, wanted, strict=True) if w and x is not None]
        each = iter(torch.autograd.grad(define(*own), targets, gradient, create_graph=further))
    return [next(each) if w else None for w in wanted]


def _fits(image: Tensor, displacement: Tensor) -> bool:
    """Say whether image and displacement are what the loops take; what is wrong is reported by the definition."""
    if image.ndim != 5 or displacement.ndim != 5 or displacement.dtype != torch.float32:
        return False
    return len(image) == len(displacement) and displacement.shape[1] == 3 and _countable(image)


def _countable(image: Tensor) -> bool:
    return image[0, 0].numel() < 2**31  # the loops count voxels in 32 bits


def _rows(out: Tensor) -> int:
    return len(out) * out.shape[2] * out.shape[3]


def _array(x: Tensor) -> np.ndarray:
    return x.detach().numpy()


def _flat(x: Tensor) -> np.ndarray:
    return _array(x).reshape(*x.shape[:2], -1)
