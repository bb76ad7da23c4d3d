"""What a displacement is good for after the registration: other scans, points, its inverse, its change of volume."""

import csv
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from lddr.errors import InputError, unreadable
from lddr.infer.formats import in_voxels
from lddr.infer.maps import GridMap, apply_affine, indices
from lddr.kernels.fused import field
from lddr.warping import invert, jacobian

ITERATIONS = 30  # of `invert`; where the map folds there is no inverse, however many


def inverse(mapping: GridMap) -> tuple[GridMap, np.ndarray]:
    """Find the map that leads back, from the moving scan to the fixed one.

    Scanners differ by shifts and turns as large as they like, which no fixed-point iteration likes. So the best rigid
    map is taken out first and inverted exactly; what is left is inverted by `lddr.invert`.

    Returns:
        The map back, on the grid of the displacement as the rigid map moves it; and the residual of `lddr.invert`
        there, `[X, Y, Z]` float32, voxels of that grid.
    """
    size = mapping.displacement.shape[1:]
    rigid = closest_rigid(mapping)
    rest = np.linalg.inv(rigid @ mapping.fixed_grid) @ mapping.moving_grid
    left = field(size, np.eye(4), mapping.displacement, rest[:3, :3], rest - np.eye(4))
    back, residual = invert(torch.from_numpy(np.ascontiguousarray(np.moveaxis(left, -1, 0)))[None], ITERATIONS)
    moved = rigid @ mapping.fixed_grid
    found = GridMap(back[0].numpy(), moved, mapping.fixed_grid, rigid @ mapping.affine, mapping.shape)
    return found, residual[0].numpy()


def closest_rigid(mapping: GridMap) -> np.ndarray:
    """Find the turn and shift nearest to a map, by least squares over its grid: `[4, 4]`, millimetres in RAS space.

    Source: Kabsch 1976, Acta Crystallographica A32:922.
    """
    step = [max(1, n // 16) for n in mapping.displacement.shape[1:]]
    thin = tuple(slice(None, None, s) for s in step)
    places = indices(mapping.displacement.shape[1:])[thin].reshape(-1, 3)
    moved = places + np.moveaxis(mapping.displacement[(slice(None), *thin)], 0, -1).reshape(-1, 3)
    start, end = apply_affine(mapping.fixed_grid, places), apply_affine(mapping.moving_grid, moved)
    left, _, right = np.linalg.svd((end - end.mean(axis=0)).T @ (start - start.mean(axis=0)))
    rigid = np.eye(4)
    rigid[:3, :3] = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
    rigid[:3, 3] = end.mean(axis=0) - rigid[:3, :3] @ start.mean(axis=0)
    return rigid


def determinant(mapping: GridMap) -> np.ndarray:
    """Compute the Jacobian determinant of a map at the voxels it is asked for, `[X, Y, Z]` float32.

    Slab by slab, since the matrices of a whole scan take gigabytes.
    """
    displacement = torch.from_numpy(np.moveaxis(in_voxels(mapping), -1, 0))
    result = np.empty(mapping.shape, np.float32)
    for start in range(0, mapping.shape[0], 16):
        low, high = max(0, min(start, mapping.shape[0] - 16) - 2), start + 18  # what the differences reach for
        rows = jacobian(displacement[None, :, low:high])[0]
        slab = (rows[0] * torch.linalg.cross(rows[1], rows[2], dim=0)).sum(dim=0)
        result[start : start + 16] = slab[start - low : start - low + 16]
    return result


def share_outside(mapping: GridMap) -> float:
    """Measure which share of the voxels it is asked for lies outside the grid of a displacement."""
    lattice = np.stack(np.meshgrid(*(np.linspace(0, n - 1, min(n, 24)) for n in mapping.shape), indexing="ij"), -1)
    return float(1 - _inside(mapping, apply_affine(mapping.affine, lattice)).mean())


def _inside(mapping: GridMap, points: np.ndarray) -> np.ndarray:
    places = apply_affine(np.linalg.inv(mapping.fixed_grid), points)
    return np.all((places >= -0.5) & (places <= np.array(mapping.displacement.shape[1:]) - 0.5), axis=-1)


def map_points(mapping: GridMap, points: np.ndarray) -> np.ndarray:
    """Take points `[N, 3]`, millimetres in RAS space, along a map; its border's displacement goes on outside."""
    places = apply_affine(np.linalg.inv(mapping.fixed_grid), points)
    moved = [ndimage.map_coordinates(u, places.T, order=1, mode="nearest") for u in mapping.displacement]
    return apply_affine(mapping.moving_grid, places + np.stack(moved, axis=-1))


def points_outside(mapping: GridMap, points: np.ndarray) -> int:
    """Count the points, `[N, 3]` millimetres in RAS space, that lie outside the grid of a displacement."""
    return int((~_inside(mapping, points)).sum())


def read_points(path: str | Path) -> tuple[list[list[str]], np.ndarray]:
    """Read points from a table whose first three columns are numbers, separated by commas.

    Returns:
        All lines of the table as they are, a first line of names among them if there is one; and the points, `[N, 3]`.

    Raises:
        InputError: not such a table; the message names the line.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except OSError as error:
        raise unreadable(path, error) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError(f"{path}: this is not a table of text (expected x,y,z in each line).") from None
    points = [_numbers(line) for line in lines]
    for i, (line, found) in enumerate(zip(lines, points, strict=True)):
        if found is None and i > 0:
            raise InputError(f"{path}: line {i + 1} is '{','.join(line)[:60]}'; expected three finite numbers, x,y,z.")
    known = [point for point in points if point is not None]
    if not known:
        raise InputError(f"{path}: no point was found; expected x,y,z in each line, separated by commas.")
    return lines, np.array(known)


def _numbers(line: Sequence[str]) -> list[float] | None:
    """Read the first three cells of a line; None if they are not finite numbers."""
    with suppress(ValueError):
        numbers = [float(cell) for cell in line[:3]]
        return numbers if len(numbers) == 3 and np.isfinite(numbers).all() else None
    return None


def write_points(path: Path, lines: list[list[str]], points: np.ndarray) -> None:
    """Write the table that `read_points` read, with other points in its first three columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerows(lines[: len(lines) - len(points)])
        for line, point in zip(lines[len(lines) - len(points) :], points, strict=True):
            table.writerow([*(f"{number:.4f}" for number in point), *line[3:]])
