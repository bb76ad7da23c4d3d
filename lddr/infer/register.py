"""From two scans to a map between them: lay the network's grid over both, ask it, and take its answer to the files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import torch
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.data.grid import check_extent, normalise, to_grid
from lddr.data.nifti import Scan
from lddr.data.registry import DATASETS
from lddr.errors import InputError
from lddr.infer.align import Align, Alignment, best_shift, lay_grids
from lddr.infer.maps import GridMap, apply_affine


@dataclass(frozen=True)
class Pair:
    """Two scans as the network sees them.

    Attributes:
        fixed, moving: `[1, 1, D, H, W]`, intensities in [0, 1].
        alignment: where their grids lie.
        affine, shape: of the fixed file, on whose grid results are wanted.
    """

    fixed: Tensor
    moving: Tensor
    alignment: Alignment
    affine: np.ndarray
    shape: tuple[int, ...]


def register(
    fixed: Scan,
    moving: Scan,
    model: RecursiveCascade,
    size: Sequence[int],
    spacing: float,
    repeats: int = 1,
    align: Align = "foreground",
    trained_on: str = "",
) -> GridMap:
    """Find the map that brings one scan onto another (chapter 13).

    Args:
        fixed, moving: as `read_image` gives them; they are normalised here.
        model: a trained cascade.
        size, spacing, align, trained_on: see `bring_together`.
        repeats: shared-weight repeats, see `RecursiveCascade.forward`.

    Returns:
        The map. Outside the network's grid the displacement of the grid's border goes on.

    Raises:
        InputError: see `bring_together` and `find_map`.
    """
    return find_map(model, bring_together(fixed, moving, size, spacing, align, trained_on), repeats)


def bring_together(
    fixed: Scan, moving: Scan, size: Sequence[int], spacing: float, align: Align = "foreground", trained_on: str = ""
) -> Pair:
    """Lay the network's grid over both scans, and bring both on it.

    Args:
        fixed, moving: as `read_image` gives them.
        size, spacing: (D, H, W) of the grid the model was trained on, and its millimetres between voxels.
        align: what is laid over one another, see `lddr.infer.align`.
        trained_on: the data set the model learnt from, which says how scans are prepared and where in the grid they
            lie; with another name, scans are normalised and lie in its middle.

    Raises:
        InputError: a scan that covers far less or more than the grid, or that does not lie where `align` looks for it.
    """
    for scan in (fixed, moving):
        check_extent(scan, size, spacing)
    known = DATASETS.get(trained_on)
    prepare = known.prepare if known else normalise
    alignment = lay_grids(fixed, moving, size, spacing, align, known.mass_at if known else None)
    fixed_image = see(fixed, alignment.fixed, size, prepare)
    moving_image = see(moving, alignment.moving, size, prepare)
    if alignment.free.any():
        alignment = alignment.moved(best_shift(moving_image, fixed_image))
        moving_image = see(moving, alignment.moving, size, prepare)
    images = [torch.from_numpy(image)[None, None] for image in (fixed_image, moving_image)]
    return Pair(images[0], images[1], alignment, fixed.file_affine, fixed.file_shape)


def see(scan: Scan, grid: np.ndarray, size: Sequence[int], prepare: Callable[[Scan], Scan] = normalise) -> np.ndarray:
    """Bring a scan on a network's grid, as the network sees it.

    What lies outside the grid's box is cut off before the intensities are prepared: how much air a file holds around
    a body part must not decide how bright it becomes.

    Args:
        scan: an image.
        grid, size: its affine, `[4, 4]`, and (D, H, W).
        prepare: scales the intensities.

    Returns:
        `[D, H, W]` float32; 0 outside the scan.

    Raises:
        InputError: nothing of the scan lies within the grid.
    """
    corners = np.array(list(product(*((0, n - 1) for n in size))))
    voxels = apply_affine(np.linalg.inv(scan.affine) @ grid, corners)
    low = np.maximum(np.floor(voxels.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(voxels.max(axis=0)) + 1, scan.array.shape).astype(int)
    if (low >= high).any():
        raise InputError(f"{scan.path}: nothing of this scan lies where the other one is; align them in another way.")
    start = np.eye(4)
    start[:3, 3] = low
    box = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    return to_grid(prepare(replace(scan, array=scan.array[box], affine=scan.affine @ start)), grid, size)


def find_map(model: RecursiveCascade, pair: Pair, repeats: int = 1) -> GridMap:
    """Ask the network for the displacement between two scans, on the device it is on.

    Args:
        model: a trained cascade.
        pair: of `bring_together`.
        repeats: shared-weight repeats, see `RecursiveCascade.forward`.

    Raises:
        InputError: the network's answer is not finite.
    """
    device = next(model.parameters()).device
    with torch.no_grad():
        found = model(pair.moving.to(device), pair.fixed.to(device), repeats=repeats).displacement[0].cpu()
    if not found.isfinite().all():
        raise InputError("The model's displacement is not finite: its weights are damaged, or it never learnt this.")
    return GridMap(found.numpy(), pair.alignment.fixed, pair.alignment.moving, pair.affine, pair.shape)
