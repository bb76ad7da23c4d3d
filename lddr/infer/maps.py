"""A map from the fixed scan to the moving one, on the grid of the fixed file, and what it brings across.

The network's displacement lives on a small grid of its own. It is carried to the files through the scans' affines: a
voxel of the fixed file -> millimetres -> the network's grid -> along the displacement -> millimetres in the moving
scan. Every output is made from that one chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage

from lddr.data.nifti import Scan
from lddr.kernels.fused import field, pull


@dataclass(frozen=True)
class PointMap:
    """Where every voxel of the fixed file lies in the moving scan, written down.

    Attributes:
        points: `[X, Y, Z, 3]`, millimetres in RAS space, for each voxel of the fixed file.
        affine: `[4, 4]` of the fixed file, voxel index -> millimetres in RAS space.
    """

    points: np.ndarray
    affine: np.ndarray

    @property
    def world(self) -> np.ndarray:
        """Where the fixed voxels themselves lie, `[X, Y, Z, 3]`, millimetres in RAS space."""
        return apply_affine(self.affine, indices(self.points.shape[:3]))

    def vectors(self, turn: np.ndarray | None = None) -> np.ndarray:
        """Give the displacement, `[X, Y, Z, 3]` float32: millimetres in RAS space, multiplied by `turn`, `[3, 3]`."""
        return ((self.points - self.world) @ (np.eye(3) if turn is None else turn).T).astype(np.float32)

    def warp(self, moving: Scan, labels: bool = False, fill: float | None = None) -> np.ndarray:
        """Bring the moving scan, in its own intensities, on the fixed file's grid.

        Args:
            moving: the scan, or its labels if `labels` says so.
            labels: take the nearest voxel instead of interpolating linearly.
            fill: the value where the map leaves the moving scan; None takes the least intensity (labels: 0).

        Returns:
            `[X, Y, Z]`, the moving scan's type.
        """
        voxels = np.moveaxis(apply_affine(np.linalg.inv(moving.affine), self.points), -1, 0)
        # "constant" would be `fill` from the middle of the outermost voxels on, and a rounding error beyond it.
        order, outside = 0 if labels else 1, background(moving, labels, fill)
        return ndimage.map_coordinates(moving.array, voxels, order=order, mode="grid-constant", cval=outside)


@dataclass(frozen=True)
class GridMap:
    """The same, from a displacement on a grid of its own: nothing is computed for the fixed file's voxels until asked.

    Attributes:
        displacement: `[3, D, H, W]` float32, voxels of its grid. Outside the grid that of its border goes on.
        fixed_grid, moving_grid: of the grid as it lies on each scan, `[4, 4]`, grid index -> millimetres in RAS space.
        affine: `[4, 4]` of the fixed file, voxel index -> millimetres in RAS space.
        shape: (X, Y, Z) of the fixed file.
    """

    displacement: np.ndarray
    fixed_grid: np.ndarray
    moving_grid: np.ndarray
    affine: np.ndarray
    shape: tuple[int, ...]

    @cached_property
    def points(self) -> np.ndarray:
        """See `PointMap`; float64. This is the chain, link by link; the methods below take it in one pass."""
        x = apply_affine(self._to_grid, indices(self.shape))
        at = np.moveaxis(x, -1, 0)
        moved = [ndimage.map_coordinates(u, at, order=1, mode="nearest") for u in self.displacement]
        return apply_affine(self.moving_grid, x + np.stack(moved, axis=-1))

    @property
    def world(self) -> np.ndarray:
        """See `PointMap`."""
        return apply_affine(self.affine, indices(self.shape))

    def vectors(self, turn: np.ndarray | None = None) -> np.ndarray:
        """See `PointMap`; computed in float32."""
        whole = np.eye(4)
        whole[:3, :3] = np.eye(3) if turn is None else turn
        rest = whole @ (self.moving_grid @ self._to_grid - self.affine)
        return field(self.shape, self._to_grid, self.displacement, (whole @ self.moving_grid)[:3, :3], rest)

    def warp(self, moving: Scan, labels: bool = False, fill: float | None = None) -> np.ndarray:
        """See `PointMap`; computed in float32, in one pass over the fixed file's voxels."""
        to_moving = np.linalg.inv(moving.affine) @ self.moving_grid
        outside = background(moving, labels, fill)
        return pull(moving.array, self.shape, self._to_grid, self.displacement, to_moving, outside, nearest=labels)

    @property
    def _to_grid(self) -> np.ndarray:
        return np.linalg.inv(self.fixed_grid) @ self.affine


def background(moving: Scan, labels: bool, fill: float | None = None) -> float:
    """Find what stands for nothing in a scan: 0 in labels; in an image what is told, else its least intensity."""
    return 0 if labels else float(moving.array.min()) if fill is None else fill


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points `[..., 3]` by a `[4, 4]` affine."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def indices(shape: Sequence[int]) -> np.ndarray:
    """Make the index of every voxel of a volume, `[X, Y, Z, 3]` float64."""
    return np.moveaxis(np.indices(tuple(shape), dtype=np.float64), 0, -1)
