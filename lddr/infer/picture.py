"""One picture to judge a registration by: before, after, what is left, the bent grid, and the change of volume.

It is drawn with NumPy and Pillow, as matplotlib takes longer to import than two scans to register. Colours are those of
`lddr.plotting`, and so is the view: the patient's left is on the left, up is up or the front.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from lddr.data.nifti import Scan
from lddr.infer.maps import GridMap, apply_affine, background, indices
from lddr.warping import jacobian_determinant

BLUE, ORANGE = np.array([0, 114, 178.0]), np.array([213, 94, 0.0])  # fixed and moving, of Okabe and Ito's palette
INK, PAPER, FAINT = (30, 30, 30), (255, 255, 255), (110, 110, 110)
# From brown (0) over white (1) to purple (2): ColorBrewer's PuOr.
VOLUME = np.array([(127, 59, 8), (224, 130, 20), (254, 224, 182), (247, 247, 247), (178, 171, 210), (45, 0, 75)])
VOLUME_AT = [0, 0.4, 0.8, 1, 1.4, 2]
PLANES = {"sagittal": (0, "PAIS"), "coronal": (1, "LRIS"), "axial": (2, "LRPA")}  # across axis; left, right, down, up
COLUMNS = {
    "before": "blue: fixed, orange: moving",
    "after": "where they agree: grey",
    "difference": "blue: fixed is brighter",
    "grid": "where each line comes from",
    "volume": "orange: stretched, purple: squeezed, black: folds",
}
LINES = 16  # across the longest side of the grid


@dataclass(frozen=True)
class Section:
    """What is drawn of one plane, each `[rows, columns]`, the top row first; intensities as the scans have them."""

    fixed: np.ndarray
    before: np.ndarray
    after: np.ndarray
    lines: np.ndarray
    determinant: np.ndarray


def draw_picture(
    path: Path, fixed: Scan, moving: Scan, mapping: GridMap, title: Sequence[str], side: int = 230
) -> None:
    """Draw three planes through the middle of what the network saw, five panels each, as a PNG.

    Args:
        path: where; ends in `.png`.
        fixed, moving: the scans.
        mapping: the map between them.
        title: lines of text at the top.
        side: pixels along the longest side of the grid.
    """
    determinant = jacobian_determinant(torch.from_numpy(mapping.displacement)[None])[0].numpy()
    least = [background(scan, labels=False) for scan in (fixed, moving)]
    cut = partial(cut_section, fixed, moving, mapping, determinant, least, side)
    sections = [cut(axis) for axis, _ in PLANES.values()]
    scale_fixed = _window([section.fixed for section in sections])
    scale_moving = _window([section.after for section in sections])
    rows = [_panels(section, scale_fixed, scale_moving) for section in sections]
    gap, head, left = 8, 20 * len(title) + 46, 26
    width = left + 5 * (side + gap)
    height = head + sum(row[0].shape[0] + gap for row in rows)
    page = Image.new("RGB", (width, height), PAPER)
    pen, large, small = ImageDraw.Draw(page), ImageFont.load_default(15), ImageFont.load_default(11)
    for i, line in enumerate(title):
        pen.text((left, 6 + 20 * i), line.encode("utf-8", "backslashreplace").decode(), INK, large)
    for i, (name, words) in enumerate(COLUMNS.items()):
        pen.text((left + i * (side + gap), head - 36), name, INK, large)
        pen.text((left + i * (side + gap), head - 17), words, FAINT, small)
    top = head
    for (name, (_, letters)), row in zip(PLANES.items(), rows, strict=True):
        high, wide = row[0].shape[:2]
        label = Image.new("L", (high, 18))
        ImageDraw.Draw(label).text((high / 2, 9), name, 255, large, anchor="mm")
        page.paste(INK, (4, top), label.rotate(90, expand=True))
        for i, panel in enumerate(row):
            start = left + i * (side + gap) + (side - wide) // 2
            page.paste(Image.fromarray(panel), (start, top))
        start = left + (side - wide) // 2
        places = [(4, high / 2, "lm"), (wide - 4, high / 2, "rm"), (wide / 2, high - 4, "md"), (wide / 2, 4, "ma")]
        for letter, (x, y, anchor) in zip(letters, places, strict=True):
            pen.text((start + x, top + y), letter, PAPER, small, anchor=anchor)
        top += high + gap
    page.save(path, compress_level=1)  # more makes it hardly smaller, and takes longer than to register


def cut_section(
    fixed: Scan, moving: Scan, mapping: GridMap, determinant: np.ndarray, least: Sequence[float], side: int, axis: int
) -> Section:
    """Look at both scans and at the map on one plane of the network's grid.

    The plane goes through the middle of the grid; a sagittal one a little beside it, since a brain shows little in its
    midline. A pixel is as wide as high.
    """
    size = np.array(mapping.displacement.shape[1:])
    spacing = np.linalg.norm(mapping.fixed_grid[:3, :3], axis=0)
    across, up = (a for a in range(3) if a != axis)
    pixel = (size * spacing).max() / side
    shape = tuple(1 if a == axis else round(size[a] * spacing[a] / pixel) for a in range(3))
    to_grid = np.diag([*(pixel / spacing), 1.0])
    to_grid[:3, 3] = (size - 1) / 2 - (np.array(shape) - 1) / 2 * pixel / spacing
    to_grid[axis, 3] -= 0.08 * size[axis] if axis == 0 else 0
    seen = replace(mapping, affine=mapping.fixed_grid @ to_grid, shape=shape)
    still = replace(seen, displacement=np.zeros_like(mapping.displacement))
    at = np.moveaxis(apply_affine(to_grid, indices(shape)), -1, 0)
    goal = [at[a] + ndimage.map_coordinates(mapping.displacement[a], at, order=1, mode="nearest") for a in (across, up)]
    step = (size * spacing).max() / LINES
    lines = np.max([_lines(place * spacing[a] / step) for place, a in zip(goal, (across, up), strict=True)], axis=0)
    volume = ndimage.map_coordinates(determinant, at, order=1, mode="nearest")
    same = replace(still, moving_grid=mapping.fixed_grid)
    warped = [which.warp(moving, fill=least[1]) for which in (still, seen)]
    shown = (same.warp(fixed, fill=least[0]), *warped, lines, volume)
    return Section(*(np.squeeze(image, axis).T[::-1] for image in shown))


def _lines(place: np.ndarray) -> np.ndarray:
    """Draw where a coordinate is a whole number, one pixel wide whatever its slope: 1 on a line, 0 beside it."""
    slope = np.linalg.norm([np.gradient(place, axis=a) for a in range(3) if place.shape[a] > 1], axis=0)
    return np.clip(1.3 - np.abs(place - np.round(place)) / np.maximum(slope, 1e-6), 0, 1)


def _window(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Choose what is black and what is white."""
    low, high = np.percentile(np.concatenate([image.ravel() for image in images]), [1, 99.5])
    return float(low), float(max(high, low + 1e-6))


def _panels(section: Section, scale_fixed: tuple[float, float], scale_moving: tuple[float, float]) -> list[np.ndarray]:
    """Colour the five panels of a plane, each `[rows, columns, 3]` uint8."""
    fixed = _scaled(section.fixed, scale_fixed)
    before, after = (_scaled(image, scale_moving) for image in (section.before, section.after))
    apart = after - fixed
    difference = 255 + np.where(apart > 0, apart, 0) * (ORANGE - 255) + np.where(apart < 0, -apart, 0) * (BLUE - 255)
    grid = (255 - 110 * fixed) * (1 - section.lines[..., None]) + BLUE * section.lines[..., None]
    volume = np.stack([np.interp(section.determinant, VOLUME_AT, channel) for channel in VOLUME.T], axis=-1)
    volume[section.determinant <= 0] = 0
    both = [fixed * BLUE + image * ORANGE for image in (before, after)]
    return [np.clip(panel, 0, 255).astype(np.uint8) for panel in (*both, difference, grid, volume)]


def _scaled(image: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Scale an image to [0, 1], `[rows, columns, 1]`."""
    return np.clip((image - scale[0]) / (scale[1] - scale[0]), 0, 1)[..., None]
