"""From two scans to a map between them, on the fixed scan's own grid.

The network works on a small grid of its own, laid over the middle of each scan. Its displacement is carried back
through the scans' affines: a voxel of the fixed file -> millimetres -> the network's grid -> along the displacement ->
millimetres in the moving scan. Every output is made from that one chain.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import ndimage

from lddr.cascade import RecursiveCascade
from lddr.data.grid import check_extent, grid_affine, normalise, to_grid
from lddr.data.nifti import Scan


@dataclass(frozen=True)
class PointMap:
    """Where every voxel of the fixed file lies in the moving scan.

    Attributes:
        points: `[X, Y, Z, 3]`, millimetres in RAS space, for each voxel of the fixed file.
        affine: `[4, 4]` of the fixed file, voxel index -> millimetres in RAS space.
    """

    points: np.ndarray
    affine: np.ndarray

    @property
    def world(self) -> np.ndarray:
        """Where the fixed voxels themselves lie, `[X, Y, Z, 3]`, millimetres in RAS space."""
        return apply_affine(self.affine, _indices(self.points.shape[:3]))

    def warp(self, moving: Scan, labels: bool = False) -> np.ndarray:
        """Bring the moving scan, in its own intensities, on the fixed file's grid.

        Returns:
            `[X, Y, Z]`, the moving scan's type, linear between voxels (labels: the nearest); 0 where the map leaves it.
        """
        voxels = np.moveaxis(apply_affine(np.linalg.inv(moving.affine), self.points), -1, 0)
        # "constant" would be 0 from the middle of the outermost voxels on, and a rounding error beyond it.
        return ndimage.map_coordinates(moving.array, voxels, order=0 if labels else 1, mode="grid-constant")


def apply_affine(affine: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Map points `[..., 3]` by a `[4, 4]` affine."""
    return points @ affine[:3, :3].T + affine[:3, 3]


def _indices(shape: Sequence[int]) -> np.ndarray:
    return np.moveaxis(np.indices(tuple(shape), dtype=np.float64), 0, -1)


def register(
    fixed: Scan, moving: Scan, model: RecursiveCascade, size: Sequence[int], spacing: float, repeats: int = 1
) -> PointMap:
    """Find the map that brings one scan onto another (chapter 13).

    Both scans are normalised here. The middles of the two volumes are taken to correspond roughly; where a scanner put
    its origin plays no part.

    Args:
        fixed, moving: as `read_image` gives them.
        model: a trained cascade.
        size, spacing: (D, H, W) of the grid it was trained on, and its millimetres between voxels.
        repeats: shared-weight repeats, see `RecursiveCascade.forward`.

    Returns:
        The map. Outside the network's grid the displacement of the grid's border goes on.

    Raises:
        InputError: a scan that covers far less or more than the model's grid.
    """
    grids, images = [], []
    device = next(model.parameters()).device
    for scan in (fixed, moving):
        check_extent(scan, size, spacing)
        grids.append(grid_affine(scan, size, spacing))
        images.append(torch.from_numpy(to_grid(normalise(scan), grids[-1], size))[None, None].to(device))
    with torch.no_grad():
        displacement = model(images[1], images[0], repeats=repeats).displacement[0].cpu().numpy()
    x = apply_affine(np.linalg.inv(grids[0]) @ fixed.file_affine, _indices(fixed.file_shape))
    sampled = [ndimage.map_coordinates(u, np.moveaxis(x, -1, 0), order=1, mode="nearest") for u in displacement]
    return PointMap(apply_affine(grids[1], x + np.stack(sampled, axis=-1)), fixed.file_affine)
