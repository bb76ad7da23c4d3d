"""Draw Figure 2: warped sections with the overlap of labels, and the displacements in the same sections."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor

from lddr.data.cohort import Cohort
from lddr.files import atomic_write
from lddr.infer.evaluate import Pair
from lddr.plotting import (
    FIXED,
    MOVING,
    PLANES,
    Plane,
    outline,
    show_grid,
    show_jacobian,
    show_overlap,
    show_section,
)
from lddr.record import Row
from lddr.warping import warp, warp_labels

LARGEST = 400_000  # bytes of a figure

Box = tuple[float, float, float, float]  # left, right, bottom, top, in voxels of a section


@dataclass(frozen=True)
class Shown:
    """One column of the figure.

    Attributes:
        pair: (moving, fixed) indices into the cohort.
        index: of the slice.
        displacements: of each model, `[1, 3, D, H, W]`, voxels.
        rows: the measures of each model.
        slice_dice: of each model, Dice in this slice.
    """

    pair: Pair
    index: int
    displacements: dict[str, Tensor]
    rows: dict[str, Row]
    slice_dice: dict[str, float]


def box_around(cohort: Cohort, shown: Sequence[Shown], plane: Plane, margin: int = 4) -> Box:
    """Find the part of a section that holds every drawn organ, with a margin in voxels: left, right, bottom, top."""
    subjects = sorted({i for one in shown for i in one.pair})
    masks = [cohort.labels[i, 0].movedim(PLANES[plane], 0)[[one.index for one in shown]] > 0 for i in subjects]
    inside = torch.nonzero(torch.cat(masks).any(dim=0))
    low, high = inside.min(0).values - margin, inside.max(0).values + margin
    end = torch.tensor([n for axis, n in enumerate(cohort.size) if axis != PLANES[plane]]) - 1
    (left, bottom), (right, top) = low.clamp(min=0).tolist(), torch.minimum(high, end).tolist()
    return left - 0.5, right + 0.5, bottom - 0.5, top + 0.5


def panels(rows: int, columns: int, box: Box) -> tuple[Figure, Any]:
    """Make the axes of a figure 10 inches wide whose panels have the shape of the box."""
    width = 9.2 / max(columns, 3)
    height = width * (box[3] - box[2]) / (box[1] - box[0]) + 0.22
    size = (0.8 + width * columns, 0.5 + height * rows)
    return plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)


def finish(axes: Any, names: Sequence[str], notes: dict[Axes, str], box: Box) -> None:
    """Crop every panel; name the rows at the left, write notes under panels, directions at the left and lower edge."""
    for row, name in zip(axes, names, strict=True):
        for ax in row:
            across = ax.get_xlabel() if ax in axes[-1] else ""
            left = f"{name}\n{ax.get_ylabel()}" if ax is row[0] else ""
            under = "\n".join(filter(None, [notes.get(ax, ""), across]))
            ax.set(xlim=box[:2], ylim=box[2:], xlabel=under, ylabel=left)


def draw_sections(cohort: Cohort, shown: Sequence[Shown], plane: Plane) -> Figure:
    """Draw moving and fixed, then for each model the warped section and the overlap; a column a pair."""
    models, box = list(shown[0].rows), box_around(cohort, shown, plane)
    figure, axes = panels(2 + 2 * len(models), len(shown), box)
    notes: dict[Axes, str] = {}
    for column, one in zip(axes.T, shown, strict=True):
        (m, f), k = one.pair, one.index
        for ax, subject, colour in zip(column, (m, f), (MOVING, FIXED), strict=False):
            show_section(ax, cohort.images[subject], plane, k)
            outline(ax, cohort.labels[subject] > 0, colour, plane, k)
        column[0].set_title(f"{cohort.ids[m]}\nslice {k}", fontsize=9)
        notes[column[1]] = f"before: Dice {one.rows[models[0]]['dice_initial']:.3f}"
        for name, image_ax, overlap_ax in zip(models, column[2::2], column[3::2], strict=True):
            displacement = one.displacements[name]
            show_section(image_ax, warp(cohort.images[m : m + 1], displacement), plane, k)
            outline(image_ax, cohort.labels[f] > 0, FIXED, plane, k)
            show_overlap(overlap_ax, warp_labels(cohort.labels[m : m + 1], displacement), cohort.labels[f], plane, k)
            notes[overlap_ax] = f"volume {one.rows[name]['dice']:.3f}, slice {one.slice_dice[name]:.3f}"
    fixed = f"fixed\n{cohort.ids[shown[0].pair[1]]}"
    finish(axes, ["moving", fixed, *(f"{n}\n{what}" for n in models for what in ("warped", "overlap"))], notes, box)
    marks = [
        Line2D([], [], color=MOVING, label="organ of the moving scan"),
        Line2D([], [], color=FIXED, label="organ of the fixed scan"),
        Patch(facecolor="white", edgecolor="0.3", label="labels agree"),
        Patch(facecolor="#D62728", label="labels differ"),
    ]
    figure.legend(handles=marks, loc="outside lower center", ncols=4, fontsize=10)
    return figure


def draw_fields(cohort: Cohort, shown: Sequence[Shown], plane: Plane) -> Figure:
    """Draw for each model the deformed grid and the Jacobian determinant in the same sections; a column a pair.

    The grid lies in the moving scan, where its points are fetched from, so the moving organ is outlined on it; the
    determinant lies in the fixed scan.
    """
    models, box = list(shown[0].rows), box_around(cohort, shown, plane)
    figure, axes = panels(2 * len(models), len(shown), box)
    notes: dict[Axes, str] = {}
    step = max(2, round((box[1] - box[0]) / 20))
    for column, one in zip(axes.T, shown, strict=True):
        (m, f), k = one.pair, one.index
        column[0].set_title(f"{cohort.ids[m]}\nslice {k}", fontsize=9)
        for name, grid_ax, jacobian_ax in zip(models, column[::2], column[1::2], strict=True):
            show_grid(grid_ax, one.displacements[name], plane, k, step)
            outline(grid_ax, cohort.labels[m] > 0, MOVING, plane, k)
            picture = show_jacobian(jacobian_ax, one.displacements[name], plane, k)
            outline(jacobian_ax, cohort.labels[f] > 0, FIXED, plane, k)
            notes[jacobian_ax] = f"folded {one.rows[name]['folding_percent']:.2f} % of the volume"
    finish(axes, [f"{n}\n{what}" for n in models for what in ("grid", "Jacobian")], notes, box)
    bar = figure.colorbar(picture, ax=axes, location="bottom", shrink=0.5, aspect=50, pad=0.01)
    bar.set_label("Jacobian determinant, fixed to moving: below 1 squeezes, above 1 stretches, black folds")
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as WebP, whole or not at all, as finely as its allowance of bytes permits."""
    with atomic_write(path) as part:
        for quality in (85, 70, 55, 40):
            figure.savefig(part, format="webp", dpi=110, pil_kwargs={"quality": quality, "method": 6})
            if part.stat().st_size <= LARGEST:
                break
    plt.close(figure)
