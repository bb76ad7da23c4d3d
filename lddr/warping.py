"""Geometry: move an image along a displacement field, and combine, measure and invert such fields.

Conventions (see the page "Conventions" of the book):

- an image is `[B, C, D, H, W]`; a displacement is `[B, 3, D, H, W]` in voxels, and channel i moves along
  array axis i ("ij" order, so channel 0 belongs to D);
- warping pulls back: `warped(x) = moving(x + u(x))`, trilinear, with the border voxel repeated outside;
- grid corners are voxel centres: coordinate 0 is the centre of the first voxel, n - 1 that of the last.

The functions below are the definitions. Those with `@on_cpu` are computed by the loops of `lddr.kernels` where that is
possible; the numbers are the same, but for rounding.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from lddr.kernels import on_cpu


def identity_grid(size: Sequence[int], device: torch.device | str | None = None) -> Tensor:
    """Make the coordinates of every voxel of a grid of size (D, H, W); chapter 02 begins with them.

    `[1, 3, D, H, W]` float32; channel i holds the index along axis i, in voxels.
    """
    axes = [torch.arange(n, dtype=torch.float32, device=device) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).unsqueeze(0)


@on_cpu
def warp(image: Tensor, displacement: Tensor, mode: str = "bilinear") -> Tensor:
    """Pull `image` back along `displacement`: `warped(x) = image(x + u(x))`.

    Args:
        image: `[B, C, D, H, W]`, any float type.
        displacement: `[B, 3, D, H, W]`, voxels; its grid is the grid of the result and may differ from the image's.
        mode: "bilinear" (PyTorch's word; trilinear on a volume) or "nearest".

    Returns:
        `[B, C, D, H, W]` on the displacement's grid. Differentiable in both arguments when trilinear.

    Source: Zhao et al. 2020 (VTN), spatial transformer; derived in chapter 02.
    """
    sizes = image.shape[2:]
    coordinates = []
    for axis, n in enumerate(displacement.shape[2:]):
        line = torch.arange(n, dtype=displacement.dtype, device=displacement.device)
        position = line.view([-1 if i == axis else 1 for i in range(3)]) + displacement[:, axis]
        # grid_sample wants positions in [-1, 1] between the first and the last voxel centre.
        coordinates.append(position * (2 / max(sizes[axis] - 1, 1)) - 1)
    grid = torch.stack(coordinates[::-1], dim=-1)  # grid_sample names the last array axis first
    return F.grid_sample(image, grid.to(image.dtype), mode=mode, padding_mode="border", align_corners=True)


@on_cpu
def warp_labels(labels: Tensor, displacement: Tensor, mode: str = "linear") -> Tensor:
    """Warp a map of integer labels without ever inventing a label (chapter 02).

    Args:
        labels: `[B, 1, D, H, W]`, integers.
        displacement: `[B, 3, D, H, W]`, voxels.
        mode: "nearest" takes the label of the nearest voxel; "linear" warps the 0/1 mask of every label
            trilinearly and takes the label with the largest share (ties go to the smaller label).

    Returns:
        `[B, 1, D, H, W]`, the type of `labels`.

    Raises:
        ValueError: `mode` is neither.
    """
    if mode == "nearest":
        return warp(labels.to(displacement.dtype), displacement, mode="nearest").to(labels.dtype)
    if mode != "linear":
        raise ValueError(f"labels are warped 'nearest' or 'linear', not '{mode}'")
    values = torch.unique(labels)
    share = torch.stack([warp((labels == v).to(displacement.dtype), displacement) for v in values])
    return values[share.argmax(dim=0)]


@on_cpu
def compose(first: Tensor, second: Tensor) -> Tensor:
    """Find the displacement that does what warping by `first`, then `second` does; all `[B, 3, D, H, W]`, voxels.

    `u(x) = second(x) + first(x + second(x))`: the pull-back through the second field lands at
    `x + second(x)`, and from there the first field goes on.

    Source: Zhao et al. 2019 (RCN), eq. 3; derived in chapter 03.
    """
    return warp(first, second) + second


def affine_displacement(matrix: Tensor, translation: Tensor, size: Sequence[int]) -> Tensor:
    """Write an affine map as a displacement: `u(x) = (A - I)(x - c) + b`, c the centre of the grid (chapter 03).

    Args:
        matrix: A, `[B, 3, 3]`.
        translation: b, `[B, 3]`, voxels.
        size: (D, H, W) of the result, `[B, 3, D, H, W]`, voxels.
    """
    centre = torch.tensor([(n - 1) / 2 for n in size], device=matrix.device, dtype=matrix.dtype)
    from_centre = identity_grid(size, matrix.device).to(matrix.dtype) - centre.view(1, 3, 1, 1, 1)
    linear = matrix - torch.eye(3, device=matrix.device, dtype=matrix.dtype)
    turned = torch.einsum("bij,bjdhw->bidhw", linear, from_centre.expand(len(matrix), -1, -1, -1, -1))
    return turned + translation.view(-1, 3, 1, 1, 1)


def compose_with_affine(matrix: Tensor, affine_field: Tensor, displacement: Tensor) -> Tensor:
    """Apply an affine map, then `displacement`: exact, as an affine map needs no resampling (chapter 03).

    `u(x) = A v(x) + u_affine(x)`: putting `x + v(x)` into the formula of `affine_displacement` leaves one
    extra `(A - I) v(x)`, and with the v(x) of the second step that makes `A v(x)`.

    Args:
        matrix: A, `[B, 3, 3]`.
        affine_field: `affine_displacement(A, b, size)`, `[B, 3, D, H, W]`, voxels, as is the result.
        displacement: v, `[B, 3, D, H, W]`, voxels.
    """
    return torch.einsum("bij,bjdhw->bidhw", matrix, displacement) + affine_field


@on_cpu
def displacement_with_affine(
    matrix: Tensor, translation: Tensor, displacement: Tensor | None, size: Sequence[int]
) -> Tensor:
    """Join an affine map and the displacement that follows it; see `affine_displacement` and `compose_with_affine`.

    Args:
        matrix, translation: A, `[B, 3, 3]`, and b, `[B, 3]`, voxels of the result's grid.
        displacement: `[B, 3, d, h, w]`, voxels of its own grid, which may be coarser and lies over the same space (see
            `resize_displacement`). None: the affine map alone.
        size: (D, H, W) of the result, `[B, 3, D, H, W]`, voxels.
    """
    affine_field = affine_displacement(matrix, translation, size)
    if displacement is None:
        return affine_field
    if displacement.shape[2:] != tuple(size):
        displacement = resize_displacement(displacement, size)
    return compose_with_affine(matrix, affine_field, displacement)


@on_cpu
def warp_with_affine(image: Tensor, matrix: Tensor, translation: Tensor, displacement: Tensor | None = None) -> Tensor:
    """Warp an image, `[B, C, D, H, W]`, by `displacement_with_affine` of the rest, at the image's size."""
    if displacement is not None and displacement.shape[2:] != image.shape[2:]:
        displacement = resize_displacement(displacement, image.shape[2:])
        return warp_with_affine(image, matrix, translation, displacement)  # now all lies on one grid
    return warp(image, displacement_with_affine(matrix, translation, displacement, image.shape[2:]))


def jacobian(displacement: Tensor) -> Tensor:
    """Compute the Jacobian matrix of the map `x -> x + u(x)` at every voxel, by second-order differences (chapter 02).

    `[B, 3, D, H, W]`, voxels, every side at least 3 -> `[B, 3, 3, D, H, W]`; entry (i, j) is the
    derivative of coordinate i along axis j.
    """
    rows = [torch.stack(torch.gradient(displacement[:, i], dim=(1, 2, 3), edge_order=2), dim=1) for i in range(3)]
    eye = torch.eye(3, device=displacement.device, dtype=displacement.dtype).view(1, 3, 3, 1, 1, 1)
    return torch.stack(rows, dim=1) + eye


def jacobian_determinant(displacement: Tensor) -> Tensor:
    """Measure how `x -> x + u(x)` stretches space: 1 keeps volume, 0 crushes it, below 0 folds it (chapter 02).

    `[B, 3, D, H, W]`, voxels, every side at least 3 -> `[B, D, H, W]`, no unit.
    """
    return torch.linalg.det(jacobian(displacement).permute(0, 3, 4, 5, 1, 2))


def resize_displacement(displacement: Tensor, size: Sequence[int]) -> Tensor:
    """Express the same motion on a finer or coarser grid over the same space; see the page "Conventions".

    Values are in voxels, so they are rescaled with the voxel size: twice the intervals, twice the number.
    `[B, 3, D, H, W]`, voxels of the old grid -> `[B, 3, *size]`, voxels of the new one.
    """
    resized = F.interpolate(displacement, size=tuple(size), mode="trilinear", align_corners=True)
    ratio = [(new - 1) / max(old - 1, 1) for new, old in zip(size, displacement.shape[2:], strict=True)]
    return resized * torch.tensor(ratio, device=resized.device, dtype=resized.dtype).view(1, 3, 1, 1, 1)


def invert(displacement: Tensor, iterations: int = 50) -> tuple[Tensor, Tensor]:
    """Find the displacement that undoes `displacement`, by fixed-point iteration.

    The inverse v of u, `[B, 3, D, H, W]`, voxels, satisfies `v(x) = -u(x + v(x))`; starting from v = 0 the right-hand
    side is applied `iterations` times, which converges where u changes by less than one voxel per voxel.

    Returns:
        v, like u, and the residual `|v(x) + u(x + v(x))|`, `[B, D, H, W]`, voxels: look at it before you trust v
        (where u folds there is no inverse).

    Source: Chen et al., Medical Physics 35 (2008) 81; chapter 02.
    """
    inverse = torch.zeros_like(displacement)
    for _ in range(iterations):
        inverse = -warp(displacement, inverse)
    return inverse, (inverse + warp(displacement, inverse)).norm(dim=1)


def integrate_velocity(velocity: Tensor, squarings: int = 7) -> Tensor:
    """Follow a stationary velocity field for one unit of time, by scaling and squaring.

    Args:
        velocity: `[B, 3, D, H, W]`, voxels per unit of time.
        squarings: the field is divided by 2^squarings, then composed with itself that many times.

    Returns:
        `[B, 3, D, H, W]`, voxels. With a smooth velocity a diffeomorphism; the negative velocity gives its inverse.

    Source: Arsigny et al., MICCAI 2006; chapter 02.
    """
    displacement = velocity / 2**squarings
    for _ in range(squarings):
        displacement = compose(displacement, displacement)
    return displacement
