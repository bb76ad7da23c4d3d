"""Where the network's grid is laid over each of two scans, before the network has seen them.

A network moves things by some centimetres at most, on a grid of its own. Files differ by more: a brain lies in a corner
of a large empty volume, a head comes with half a neck. So the middle of each grid is laid where the body part is.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy import fft, ndimage

from lddr.data.grid import grid_affine
from lddr.data.nifti import Scan
from lddr.data.threshold import otsu
from lddr.errors import InputError

Align = Literal["foreground", "centre", "header", "none"]
ALIGNMENTS: dict[Align, str] = {
    "foreground": "what is brighter than the background, by its centre of mass, then where the images correlate best",
    "centre": "the middles of the two volumes",
    "header": "the scans as their headers place them, in scanner coordinates",
    "none": "voxel on voxel, whatever the headers say; both volumes need one shape",
}
LEAST_OVERLAP = 0.5  # below it, the two scans have little in common where they are laid


@dataclass(frozen=True)
class Foreground:
    """The body part in a scan, along each of its three axes.

    Attributes:
        low, high: where it begins and ends, `[3]`, voxels of the scan.
        mass: its centre of mass, `[3]`, voxels.
        cut_low, cut_high: whether the border of the volume cuts it off there, `[3]`.
    """

    low: np.ndarray
    high: np.ndarray
    mass: np.ndarray
    cut_low: np.ndarray
    cut_high: np.ndarray

    @property
    def middle(self) -> np.ndarray:
        """The middle of its box, `[3]`, voxels."""
        return (self.low + self.high) / 2


@dataclass(frozen=True)
class Alignment:
    """Two grids that correspond point by point before the network is asked.

    Attributes:
        fixed, moving: of each scan's grid, `[4, 4]`, grid index -> millimetres in RAS space.
        size: (D, H, W) of the grids.
        overlap: Dice of the boxes around the two foregrounds, as the grids bring them together.
        words: what was laid over one another, for a message.
        free: along which axes of the grid the images may still correct it, `[3]`; see `best_shift`.
    """

    fixed: np.ndarray
    moving: np.ndarray
    size: tuple[int, ...]
    overlap: float
    words: str
    free: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """From the middle of the fixed grid to that of the moving one, `[3]`, millimetres in RAS space."""
        return ((self.moving - self.fixed) @ [*(np.array(self.size) - 1) / 2, 1.0])[:3]

    def moved(self, shift: np.ndarray) -> "Alignment":
        """Lay the moving grid elsewhere, by a shift of `[3]` voxels of the grid, along its free axes."""
        start = np.eye(4)
        start[:3, 3] = np.where(self.free, shift, 0)
        return replace(self, moving=self.moving @ start)


def find_foreground(scan: Scan, side: int = 64, cut: float = 0.2) -> Foreground:
    """Find the body part in a scan: the largest piece of what is brighter than the background.

    A voxel is bright if it lies above the middle between the background and Otsu's threshold, on a copy of the scan
    averaged to at most `side` voxels along each axis: noise and single hot voxels do not count.

    Args:
        scan: an image in RAS order; its background may be any value, such as -1024 in CT.
        side: the most voxels along an axis of the copy.
        cut: the border cuts the body part off if this share of its largest section lies on the border.

    Returns:
        Where it lies. Along an axis it begins and ends where its section is a twentieth of the largest one.
    """
    step = [-(-n // (2 * side)) for n in scan.array.shape]
    thinned = np.ascontiguousarray(scan.array[tuple(slice(None, None, s) for s in step)])
    pool = [-(-n // side) for n in thinned.shape]
    small = F.avg_pool3d(torch.from_numpy(thinned)[None], pool, ceil_mode=True, count_include_pad=False)[0].numpy()
    bright = small > _threshold(small)
    # Bridges one voxel thick are broken. Beyond the border the body part goes on, as far as anyone knows.
    opened = ndimage.binary_dilation(ndimage.binary_erosion(bright, border_value=1)) & bright
    pieces, count = ndimage.label(opened if opened.any() else bright)
    body = pieces == 1 + np.argmax(np.bincount(pieces.ravel(), minlength=count + 1)[1:])
    low, high, mass, first, last = np.zeros((5, 3))
    for axis in range(3):
        area = body.sum(axis=tuple(a for a in range(3) if a != axis)) / 1.0
        inside = np.flatnonzero(area >= area.max() / 20)
        voxels = step[axis] * pool[axis]
        ends = np.array([inside[0], inside[-1] + 1]) * voxels - 0.5
        low[axis], high[axis] = np.minimum(ends, scan.array.shape[axis] - 0.5)
        mass[axis] = (area @ np.arange(len(area)) / area.sum() + 0.5) * voxels - 0.5
        first[axis], last[axis] = area[[0, -1]] / area.max()
    return Foreground(low, high, mass, first >= cut, last >= cut)


def _threshold(image: np.ndarray) -> float:
    """Find the grey level half-way from the background to Otsu's threshold."""
    level = otsu(np.minimum(image, np.percentile(image, 99.5)))  # a few hot voxels would take the histogram
    return float(np.median(image[image <= level]) + level) / 2


def lay_grids(
    fixed: Scan,
    moving: Scan,
    size: Sequence[int],
    spacing: float,
    align: Align = "foreground",
    mass_at: Sequence[float] | None = None,
) -> Alignment:
    """Lay a network grid over each of two scans, so that equal grid indices correspond roughly.

    With "foreground", each axis of the two scans is settled by itself. Centres of mass are laid over one another,
    unless the border of a volume cuts the body part off: then its free ends are (the top of a head, whatever the length
    of its neck), and if neither end is free in both scans, the middles. A crop, which its organ fills, has no free end.

    Args:
        fixed, moving: as `read_image` gives them.
        size, spacing: (D, H, W) of the grid, and its millimetres between voxels.
        align: one of `ALIGNMENTS`.
        mass_at: where the foreground's centre of mass lay in the scans the model learnt from, `[3]`, millimetres from
            the middle of the grid; None takes the middle of the foreground's box for that of the grid.

    Returns:
        The two grids; both lie along the axes of their scan, except with "header".

    Raises:
        InputError: "none" for volumes of different shapes.
    """
    if align == "none" and fixed.array.shape != moving.array.shape:
        shapes = f"{fixed.path} has the shape {fixed.file_shape}, {moving.path} {moving.file_shape}"
        raise InputError(f"{shapes}; voxels can only be laid on voxels (align none) if the shapes agree.")
    here, there = find_foreground(fixed), find_foreground(moving)
    whole = not any((part.cut_low | part.cut_high).any() for part in (here, there))
    middle = _grid_middle(here, np.array(size) * spacing / fixed.spacing)
    if whole and mass_at is not None:
        middle = here.mass - np.array(mass_at) / fixed.spacing
    grid, words, free = _grid_at(fixed, size, spacing, middle), ALIGNMENTS[align], np.zeros(3, bool)
    if align == "foreground":
        anchor, other = _anchors(here, there)
        other_grid = _grid_at(moving, size, spacing, other + (middle - anchor) * fixed.spacing / moving.spacing)
        free = ~((here.cut_low | there.cut_low) & (here.cut_high | there.cut_high))
        words = words if free.any() else "the middles of the two volumes, since the foreground fills them"
    elif align == "centre":
        grid, other_grid = (grid_affine(scan, size, spacing) for scan in (fixed, moving))
    elif align == "header":
        other_grid = grid
    else:
        other_grid = moving.affine @ np.linalg.inv(fixed.affine) @ grid
    overlap = _overlap([(fixed, grid, here), (moving, other_grid, there)], size)
    return Alignment(grid, other_grid, tuple(size), overlap, words, free)


def best_shift(moving: np.ndarray, fixed: np.ndarray, most: int = 8) -> np.ndarray:
    """Find the shift at which the product of two images is largest: their correlation, if they end within the grid.

    Args:
        moving, fixed: `[D, H, W]`, background 0.
        most: voxels it looks ahead along each axis.

    Returns:
        `[3]`, voxels, between voxels by a parabola: `moving(x + shift)` is most like `fixed(x)`. 0 if the best one
        found is as far away as `most`, or is no good: then the images have probably nothing to do with each other.
    """
    padded = [fft.next_fast_len(n + most, real=True) for n in fixed.shape]
    spectra = (fft.rfftn(image, padded) for image in (moving, fixed))
    product = fft.irfftn(next(spectra) * next(spectra).conj(), padded)
    steps = np.arange(-most, most + 1)
    around = product[np.ix_(steps, steps, steps)]
    best = np.array(np.unravel_index(around.argmax(), around.shape))
    alike = around.max() / (np.linalg.norm(moving) * np.linalg.norm(fixed) + 1e-12)
    if alike < 0.1 or (best == 0).any() or (best == 2 * most).any():
        return np.zeros(3)
    shift = (best - most).astype(float)
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        before, at, after = (around[tuple(best + k * step)] for k in (-1, 0, 1))
        shift[axis] += (after - before) / (2 * (2 * at - before - after) + 1e-12)
    return shift


def _anchors(fixed: Foreground, moving: Foreground) -> np.ndarray:
    """Choose the points of the two body parts that are laid over one another, axis by axis: `[2, 3]`, voxels."""
    cut_low, cut_high = fixed.cut_low | moving.cut_low, fixed.cut_high | moving.cut_high
    cases = [~cut_low & ~cut_high, cut_low & ~cut_high, ~cut_low & cut_high]
    return np.array([np.select(cases, [part.mass, part.high, part.low], part.middle) for part in (fixed, moving)])


def _grid_middle(body: Foreground, extent: np.ndarray) -> np.ndarray:
    """Place a grid of some extent, `[3]`, voxels, over a body part: its middle, `[3]`, voxels.

    Over the middle of the box. But a longer part with one free end (a head with a neck) is seen from that end on.
    """
    long, edge = body.high - body.low > extent, 0.45 * extent  # a tenth of the half remains in front of the free end
    middle = np.where(long & body.cut_low & ~body.cut_high, body.high - edge, body.middle)
    return np.where(long & body.cut_high & ~body.cut_low, body.low + edge, middle)


def _grid_at(scan: Scan, size: Sequence[int], spacing: float, middle: np.ndarray) -> np.ndarray:
    """Lay a grid over some place in a scan, `[3]`, voxels: as `grid_affine` does over the middle of the volume."""
    shift = middle - (np.array(scan.array.shape) - 1) / 2
    same = np.isclose(spacing / scan.spacing, 1, atol=1e-3)  # then voxels stay on voxels
    affine = grid_affine(scan, size, spacing)
    affine[:3, 3] += scan.affine[:3, :3] @ np.where(same, np.round(shift), shift)
    return affine


def _overlap(parts: Sequence[tuple[Scan, np.ndarray, Foreground]], size: Sequence[int]) -> float:
    """Measure the Dice of the boxes around two foregrounds, at a coarse lattice of points on their grids."""
    lattice = np.stack(np.meshgrid(*(np.linspace(-0.5, n - 0.5, 24) for n in size), indexing="ij"), axis=-1)
    inside = []
    for scan, grid, body in parts:
        to_scan = np.linalg.inv(scan.affine) @ grid
        voxels = lattice @ to_scan[:3, :3].T + to_scan[:3, 3]
        inside.append(((voxels >= body.low) & (voxels <= body.high)).all(axis=-1))
    return 2 * (inside[0] & inside[1]).sum() / max(1, inside[0].sum() + inside[1].sum())
