"""Read the records behind Figure 2: the pictures with their captions, and what they say in numbers; chapter 12."""

import html
import os
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown

from lddr.plotting import COLOURS
from lddr.record import FigureRecord, Row
from study.records import PROJECT, read_figure
from study.tables import html_table

TITLES = {"hippocampus": "Hippocampus MR", "liver_mr": "Liver MR"}
MORE = {"liver_mr": " --fold 0 --fine 128 --pairs all"}  # the rest of the command
# Of each figure: what is seen, for those who cannot; and how to read its numbers and colours.
PICTURES = (
    (
        "moving, fixed and warped sections with outlines, and the overlap of labels in white and red, a column a pair",
        "Numbers under the overlap: Dice of the volume, Dice of the slice.",
    ),
    (
        "the deformed grid and the Jacobian determinant of every network, a column a pair",
        "Orange on the grid: the moving organ; blue on the map: the fixed one.",
    ),
)
PAIRS = {"ring": "the drawn ones and a ring", "all": "every ordered pair"}


def picture(dataset: str, number: int) -> Markdown:
    """Show one of the drawn figures of a data set with its caption, or say how to make it.

    Args:
        dataset: for example "hippocampus".
        number: 0, sections and overlaps; 1, grids and Jacobian determinants.
    """
    record, title = read_figure(dataset), TITLES[dataset]
    alt, reading = PICTURES[number]
    how = f"python -m study.figure2 --dataset {dataset}{MORE.get(dataset, '')}"
    if record is None:
        return Markdown(f"*{title}: no records yet; `{how}` makes them.*")
    name = record.figures[number]
    # A page being built lies in a copy of the project, with its own figures.
    places = [folder / name for folder in (Path.cwd(), *Path.cwd().parents, PROJECT)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        return Markdown(f"*{title}: the record is there, the file {name} is not; `{how}` draws it.*")
    models = ", ".join(record.models)
    caption = f"*{title}: {len(record.shown)} test subjects onto {record.shown[0]['fixed']}, by {models}. {reading} "
    if record.size != record.drawn_on:
        caption += f"Registered on {record.size[0]}³ voxels, measured and drawn on {record.drawn_on[0]}³. "
    caption += f"{record.plane.capitalize()} sections. Drawn from scans that were registered and cropped: "
    return Markdown(f"![{title}: {alt}]({os.path.relpath(file)})\n\n{caption}{record.licence}.*")


def by_pair(record: FigureRecord) -> dict[tuple[str, str], dict[str, Row]]:
    """Gather the rows of a figure: (moving, fixed) -> model -> row."""
    rows: dict[tuple[str, str], dict[str, Row]] = {}
    for row in record.rows:
        rows.setdefault((row["moving"], row["fixed"]), {})[row["model"]] = row
    return rows


def wins(record: FigureRecord, ours: str, theirs: str) -> tuple[float, int, int, int]:
    """Count how often one model beats another.

    Returns:
        Share of the slices in which it has the higher Dice, how many slices there are; volumes, and how many there are.
    """
    sides = [(row[ours], row[theirs]) for row in by_pair(record).values()]
    of_slices = [a > b for x, y in sides for a, b in zip(x["slice_dice"], y["slice_dice"], strict=True)]
    return float(np.mean(of_slices)), len(of_slices), sum(x["dice"] > y["dice"] for x, y in sides), len(sides)


def mean_of(rows: Sequence[Row], name: str) -> float:
    """Average a figure over rows."""
    return float(np.mean([row[name] for row in rows]))


def numbers(dataset: str) -> HTML | Markdown:
    """Show the numbers behind the figure of a data set: of the drawn pairs, of all, and slices and volumes won."""
    record = read_figure(dataset)
    if record is None:
        return Markdown(f"*{TITLES[dataset]}: no records yet.*")
    rows, first = by_pair(record), next(iter(record.models))
    shown = [(one["moving"], one["fixed"]) for one in record.shown]
    lines = {}
    for name, about in record.models.items():
        share, n, better, of = wins(record, name, first)
        every = [row[name] for row in rows.values()]
        lines[name] = {
            "cascades": str(about["cascades"]),
            "Dice, the pairs above": f"{mean_of([rows[pair][name] for pair in shown], 'dice'):.3f}",
            "Dice, all pairs": f"{mean_of(every, 'dice'):.3f}",
            "folded %": f"{mean_of(every, 'folding_percent'):.3f}",
            f"better than {first} in": ""
            if name == first
            else f"{100 * share:.0f} % of {n} slices, {better} of {of} volumes",
        }
    fold = "" if record.fold is None else f" of fold {record.fold}"
    subjects = f"{record.split['test']} test subjects{fold}, {len(rows)} in all"
    words = f"<em>{html.escape(TITLES[dataset])}, all pairs</em>: {PAIRS[record.pair_list]} of the {subjects}."
    return HTML(f"<p>{words}</p>{html_table(pd.DataFrame(lines).T.rename_axis(TITLES[dataset]))}")


def draw_curves(dataset: str) -> Markdown | None:
    """Draw the Dice of every slice of the drawn pairs, a curve a model, with the volumes' Dice and the shown slice."""
    record = read_figure(dataset)
    if record is None:
        return Markdown(f"*{TITLES[dataset]}: no records yet.*")
    rows, shown = by_pair(record), record.shown
    figure, axes = plt.subplots(1, len(shown), figsize=(10, 2.9), layout="constrained", sharey=True, squeeze=False)
    for ax, one in zip(axes[0], shown, strict=True):
        for (name, row), colour in zip(rows[one["moving"], one["fixed"]].items(), COLOURS, strict=False):
            ax.plot(record.slices[one["fixed"]], row["slice_dice"], color=colour, label=name)
            ax.axhline(row["dice"], color=colour, ls=":", lw=1)
        ax.axvline(one["slice"], color="0.6", lw=1)
        ax.set(xlabel=f"{record.plane} slice")
        ax.set_title(one["moving"], fontsize=9)
    axes[0, 0].set_ylabel("Dice, mean over labels")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return None


def claim_8(datasets: Sequence[str]) -> Markdown:
    """Put what the posts see in their Figure 2 (C8) in numbers, for the models of the recorded figures."""
    lines = []
    for dataset in datasets:
        record = read_figure(dataset)
        if record is None:
            lines.append(f"- {TITLES[dataset]}: not measured yet.")
            continue
        first, second, third, *_ = record.models
        rows = by_pair(record).values()
        ldr, aldk, rcn = (mean_of([row[name] for row in rows], "dice") for name in (first, second, third))
        share, n, better, of = wins(record, second, first)
        close = "lies within 0.01 of" if abs(aldk - rcn) <= 0.01 else "does not lie within 0.01 of"
        more = "does" if aldk - ldr >= 0.01 else "does not"
        lines.append(
            f"- {TITLES[dataset]}, {of} pairs: Dice {ldr:.3f} ({first}), {aldk:.3f} ({second}), {rcn:.3f} ({third}). "
            f"{second} {close} {third}, and {first} alone {more} stay at least 0.01 behind it. {second} has the better "
            f"slice in {100 * share:.0f} % of {n} slices and the better volume in {better} of {of}."
        )
    return Markdown("\n".join(lines))
