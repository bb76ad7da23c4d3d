"""From the voxels of one scanner's file to the values of another's, in one pass over the first.

A voxel x of the fixed file lies at `p = P x` on the network's grid; there the displacement v takes it to `p + v(p)`,
and that lies at voxel `M (p + v(p))` of the moving file. P and M come from the files' affines. v is read trilinearly;
outside its grid that of the border goes on.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from lddr.kernels import attempt


class Way(NamedTuple):
    """From voxels to displacements, `u(x) = T v(P x) + R x`."""

    shape: tuple[int, ...]  # of the result
    to_grid: np.ndarray  # P
    displacement: np.ndarray  # v
    turn: np.ndarray  # T
    rest: np.ndarray  # R, [4, 4]


def pull(
    moving: np.ndarray,
    shape: Sequence[int],
    to_grid: np.ndarray,
    displacement: np.ndarray,
    to_moving: np.ndarray,
    fill: float = 0.0,
    nearest: bool = False,
) -> np.ndarray:
    """Bring a moving volume onto the fixed file's voxels.

    Args:
        moving: `[X', Y', Z']`; its axes may lie in any order in memory, and run backwards.
        shape: (X, Y, Z) of the result.
        to_grid: P, `[4, 4]`, voxel index of the fixed file -> voxel index on the grid of `displacement`.
        displacement: v, `[3, d, h, w]`, voxels of its grid; channel i moves along axis i.
        to_moving: M, `[4, 4]`, voxel index on that grid -> voxel index of `moving`.
        fill: the value outside `moving`. Within one voxel beyond the outermost voxel centres the values go over into
            it linearly (SciPy's "grid-constant"), so that rounding at the border does no harm.
        nearest: take the value of the voxel in whose cube the place lies, for labels; else join eight values linearly.

    Returns:
        `[X, Y, Z]`, float32 (nearest: the type of `moving`), in Fortran's order: as a NIfTI file holds it.
    """
    way = Way(tuple(shape), to_grid, displacement, to_moving[:3, :3], to_moving @ to_grid - np.eye(4))
    moving = moving if nearest else np.asarray(moving, np.float32)
    result = attempt(lambda: _pull_by_loops(way, moving, fill, nearest)) if moving.size < 2**31 else None
    return _by_scipy(way, moving, fill, nearest) if result is None else result


def field(
    shape: Sequence[int], to_grid: np.ndarray, displacement: np.ndarray, turn: np.ndarray, rest: np.ndarray
) -> np.ndarray:
    """Write a displacement field on the fixed file's voxels: `T v(P x) + R x`.

    With G the affine of the grid on the moving scan, and F the fixed file's, `T = G[:3, :3]` and `R = G P - F` give
    millimetres in RAS space.

    Args:
        shape, to_grid, displacement: see `pull`.
        turn: T, `[3, 3]`, from voxels of the grid to the unit and axes wanted.
        rest: R, `[4, 4]` or `[3, 4]`, an affine map of the voxel index.

    Returns:
        `[X, Y, Z, 3]`, float32, in Fortran's order: as a NIfTI file holds it.
    """
    way = Way(tuple(shape), to_grid, displacement, turn, np.concatenate([rest[:3], [[0, 0, 0, 1]]]))
    result = attempt(lambda: _field_by_loops(way))
    return _by_scipy(way) if result is None else result


# What lies next to each other in the result's memory is its first axis; to the loops it is the last.
BACKWARDS = np.eye(4)[[2, 1, 0, 3]]


def _pull_by_loops(way: Way, moving: np.ndarray, fill: float, nearest: bool) -> np.ndarray:
    from lddr.kernels.affine import pull_nearest_rows, pull_rows

    image, index = _as_it_lies(moving[None])
    place = index @ (way.rest + np.eye(4)) @ BACKWARDS  # from voxels of the loops to those of the image in memory
    numbers = _for_loops(way, index[:3, :3] @ way.turn, place - np.eye(4))  # the loops add a voxel's own index
    size, sides = way.shape[::-1], image.shape[1:]
    if nearest:  # values are moved, not looked at, so one kernel does for all types of a width and any byte order
        bits = np.dtype(f"u{image.itemsize}")
        out = np.empty((1, 1, *size), image.dtype)
        outside = np.array(fill).astype(image.dtype).view(bits)[()]
        labels = image.view(bits).reshape(1, 1, -1)
        pull_nearest_rows(size[0] * size[1], labels, sides, numbers, outside, out.view(bits))
    else:
        out, none = np.empty((1, 1, *size), np.float32), np.empty((1, 0, *size), np.float32)
        pull_rows(size[0] * size[1], image.reshape(1, 1, -1), sides, numbers, True, np.float32(fill), none, out)
    return out[0, 0].T


def _field_by_loops(way: Way) -> np.ndarray:
    from lddr.kernels.affine import pull_rows

    size = way.shape[::-1]
    out, none = np.empty((1, 3, *size), np.float32), np.empty((1, 0, *size), np.float32)
    numbers = _for_loops(way, way.turn, way.rest @ BACKWARDS)
    pull_rows(size[0] * size[1], none.reshape(1, 0, 0), size, numbers, False, np.float32(0), out, none)
    return out[0].T


def _for_loops(way: Way, turn: np.ndarray, rest: np.ndarray) -> tuple:
    """Write a way as `lddr.kernels.affine` takes it; the axes of v follow those of the result as well as they can."""
    from lddr.kernels.affine import ANYWHERE, HERE, PARALLEL

    to_v, v = way.to_grid @ BACKWARDS, np.asarray(way.displacement, np.float32)
    order = [int(np.abs(to_v[:3, axis]).argmax()) for axis in range(3)]
    if sorted(order) == [0, 1, 2]:
        to_v, v = to_v[[*order, 3]], v.transpose(0, *(axis + 1 for axis in order))
    where = PARALLEL if np.allclose(to_v[:3, :3], np.diag(np.diag(to_v)[:3]), rtol=0, atol=1e-9) else ANYWHERE
    if v.shape[1:] == way.shape[::-1] and np.allclose(to_v, np.eye(4), rtol=0, atol=1e-6):
        where = HERE
    affines = (np.ascontiguousarray(a, dtype=float) for a in (to_v[:3], turn[None], rest[None, :3]))
    return np.ascontiguousarray(v).reshape(1, 3, -1), v.shape[1:], where, *affines


def _as_it_lies(volumes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turn and flip the axes of `[C, X, Y, Z]` so that they follow the memory; also give the map of the indices."""
    order = sorted(range(3), key=lambda axis: -abs(volumes.strides[axis + 1]))
    view, index = volumes.transpose(0, *(axis + 1 for axis in order)), np.eye(4)[[*order, 3]]
    for axis in range(3):
        if view.strides[axis + 1] < 0:
            view = np.flip(view, axis + 1)
            index[axis] *= -1
            index[axis, 3] = view.shape[axis + 1] - 1
    return np.ascontiguousarray(view), index


def _by_scipy(way: Way, moving: np.ndarray | None = None, fill: float = 0.0, nearest: bool = False) -> np.ndarray:
    """Compute the same slab by slab, where numba does not work."""
    tail, kind = ((3,), np.dtype(np.float32)) if moving is None else ((), moving.dtype)
    out = np.empty((*way.shape, *tail), kind, order="F")
    for i in range(way.shape[0]):
        x = np.stack(np.broadcast_arrays(float(i), *np.ogrid[: way.shape[1], : way.shape[2]]))
        p = np.tensordot(way.to_grid[:3, :3], x, 1) + way.to_grid[:3, 3, None, None]
        v = np.stack([ndimage.map_coordinates(channel, p, order=1, mode="nearest") for channel in way.displacement])
        u = np.tensordot(way.turn, v, 1) + np.tensordot(way.rest[:3, :3], x, 1) + way.rest[:3, 3, None, None]
        if moving is None:
            out[i] = np.moveaxis(u, 0, -1)
        else:
            order = 0 if nearest else 1
            out[i] = ndimage.map_coordinates(moving, x + u, order=order, mode="grid-constant", cval=fill)
    return out
