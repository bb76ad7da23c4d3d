"""Draw Figure 2 of the posts from trained weights: up to five moving scans, one fixed, a few models; two figures.

    python book/figure2.py
    python book/figure2.py --dataset liver_mr --fold 0 --fine 128 --pairs all
    python book/figure2.py --dataset simulated_brains --models "A=mine.safetensors" "B=simulated_brains"

`figures/figure2_DATASET.webp` holds warped sections and the overlap of labels, `figure2_DATASET_fields.webp` what the
posts do not show, grids and Jacobian determinants of the same sections, and `records/DATASET/figure2.json` all numbers.
Nobody chooses the slice of a pair: it is the one in which the second model's Dice minus the first's is the median over
the slices of the organ. Source: Part 3 of the posts, Figure 2; chapter 12.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from torch import Tensor
from tqdm import tqdm

from lddr.cascade import RecursiveCascade
from lddr.data import Cohort, evaluation_pairs, load_cohort
from lddr.errors import InputError
from lddr.evaluate import measure, on_finer_grid
from lddr.files import written
from lddr.metrics import nanmean, overlap
from lddr.models import load_model, weights_hash
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
    use_style,
)
from lddr.records import provenance, rounded, write_record
from lddr.warp import warp, warp_labels

BOOK = Path(__file__).resolve().parent
PLANE_OF: dict[str, Plane] = {"hippocampus": "sagittal"}  # along the organ; axial for the others
SHARE = 0.25  # slices count in which the organ has at least this share of its largest area
LARGEST = 400_000  # bytes of a figure
# Label -> weights; a name of a shipped model, or a file that `book/study.py` leaves under runs/.
MODELS = {
    "hippocampus": {
        "LDR": "runs/student_1cas_none_seed0/weights.safetensors",
        "LDR + ALDK": "runs/student_1cas_paper_seed0/weights.safetensors",
        "RCN, 1 cascade": "runs/teacher_1cas/weights.safetensors",
    },
    "liver_mr": {
        "LDR": "runs/liver_mr/student_1cas_none_seed0_fold{fold}/weights.safetensors",
        "LDR + ALDK": "runs/liver_mr/student_1cas_paper_seed0_fold{fold}/weights.safetensors",
        "RCN, 1 cascade": "runs/liver_mr/teacher_1cas_fold{fold}/weights.safetensors",
    },
}

Box = tuple[float, float, float, float]  # left, right, bottom, top, in voxels of a section


class Shown(NamedTuple):
    """One column of the figure.

    Attributes:
        pair: (moving, fixed) indices into the cohort.
        index: of the slice.
        displacements: of each model, `[1, 3, D, H, W]`, voxels.
        rows: the measures of each model.
    """

    pair: tuple[int, int]
    index: int
    displacements: dict[str, Tensor]
    rows: dict[str, dict[str, Any]]


def organ_slices(labels: Tensor, plane: Plane, share: float = SHARE) -> list[int]:
    """The slices in which labels cover at least a share of the largest area they have in any slice.

    Args:
        labels: `[D, H, W]`, or with leading axes of length 1.
        plane: which way to cut.
        share: of the largest area.
    """
    volume = labels.reshape(labels.shape[-3:]) > 0
    area = volume.movedim(PLANES[plane], 0).flatten(1).sum(1)
    return torch.nonzero((area > 0) & (area >= share * area.max()))[:, 0].tolist()


def slice_dice(a: Tensor, b: Tensor, values: Sequence[int], plane: Plane, slices: Sequence[int]) -> list[float]:
    """Dice of each slice by itself, mean over labels; NaN where neither map has any (chapter 12).

    Args:
        a, b: integer label maps, `[D, H, W]`, or with leading axes of length 1.
        values: the labels.
        plane: which way to cut.
        slices: indices.
    """
    a, b = (x.reshape(x.shape[-3:]).movedim(PLANES[plane], 0) for x in (a, b))
    return [nanmean(overlap(a[k], b[k], values)[0].values()) for k in slices]


def median_slice(slices: Sequence[int], difference: Sequence[float]) -> int:
    """The slice with the median difference; of an even number, the lower of the middle two."""
    ordered = sorted(zip(difference, slices, strict=True))
    return ordered[(len(ordered) - 1) // 2][1]


@torch.no_grad()
def register_all(
    models: dict[str, RecursiveCascade],
    test: Cohort,
    fine: Cohort,
    pairs: Sequence[tuple[int, int]],
    keep: Sequence[tuple[int, int]],
    plane: Plane,
) -> tuple[list[dict[str, Any]], list[Shown]]:
    """Register every pair with every model, measure volumes and slices.

    Args:
        models: label -> network.
        test: what the networks see.
        fine: the same subjects on the grid that is measured and drawn; may be `test` itself.
        pairs: all (moving, fixed) pairs that are measured.
        keep: those among them that are drawn.
        plane: of the slices.

    Returns:
        A row for each pair and model: what `measure` gives, with `model` and `slice_dice`; and the drawn pairs.
    """
    rows, shown, values = [], [], list(fine.label_names)
    for m, f in tqdm(pairs, desc="registering pairs", unit="pair"):
        slices = organ_slices(fine.labels[f], plane)
        of_pair, displacements = {}, {}
        for name, model in models.items():
            displacement = model(test.images[m : m + 1], test.images[f : f + 1]).displacement
            if fine is not test:
                displacement = on_finer_grid(displacement, test, fine)
            warped = warp_labels(fine.labels[m : m + 1], displacement)
            row = {"model": name} | measure(fine, (m, f), displacement, seconds=0)
            del row["seconds"]  # nothing is timed here
            row["slice_dice"] = slice_dice(warped, fine.labels[f], values, plane, slices)
            of_pair[name], displacements[name] = row, displacement
        rows += of_pair.values()
        if (m, f) in keep:
            first, second, *_ = of_pair.values()
            difference = [b - a for a, b in zip(first["slice_dice"], second["slice_dice"], strict=True)]
            shown.append(Shown((m, f), median_slice(slices, difference), displacements, of_pair))
    return rows, shown


def box_around(cohort: Cohort, shown: Sequence[Shown], plane: Plane, margin: int = 4) -> Box:
    """The part of a section that holds every drawn organ, with a margin in voxels: left, right, bottom, top."""
    subjects = sorted({i for one in shown for i in one.pair})
    masks = [cohort.labels[i, 0].movedim(PLANES[plane], 0)[[one.index for one in shown]] > 0 for i in subjects]
    inside = torch.nonzero(torch.cat(masks).any(dim=0))
    low, high = inside.min(0).values - margin, inside.max(0).values + margin
    end = torch.tensor([n for axis, n in enumerate(cohort.size) if axis != PLANES[plane]]) - 1
    (left, bottom), (right, top) = low.clamp(min=0).tolist(), torch.minimum(high, end).tolist()
    return left - 0.5, right + 0.5, bottom - 0.5, top + 0.5


def panels(rows: int, columns: int, box: Box) -> tuple[Figure, Any]:
    """Axes for a figure 10 inches wide whose panels have the shape of the box."""
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
    """Moving and fixed, then for each model the warped section and the overlap; a column a pair."""
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
            displacement, row = one.displacements[name], one.rows[name]
            show_section(image_ax, warp(cohort.images[m : m + 1], displacement), plane, k)
            outline(image_ax, cohort.labels[f] > 0, FIXED, plane, k)
            show_overlap(overlap_ax, warp_labels(cohort.labels[m : m + 1], displacement), cohort.labels[f], plane, k)
            in_slice = row["slice_dice"][organ_slices(cohort.labels[f], plane).index(k)]
            notes[overlap_ax] = f"volume {row['dice']:.3f}, slice {in_slice:.3f}"
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
    """For each model the deformed grid and the Jacobian determinant in the same sections; a column a pair.

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
    with written(path) as part:
        for quality in (85, 70, 55, 40):
            figure.savefig(part, format="webp", dpi=110, pil_kwargs={"quality": quality, "method": 6})
            if part.stat().st_size <= LARGEST:
                break
    plt.close(figure)


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """The options, checked as far as that goes without any scan."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="hippocampus")
    parser.add_argument("--fold", type=int, help="of the liver sets, 0 to 3")
    parser.add_argument("--subjects", type=int, help="only the first so many of the test split")
    parser.add_argument("--fixed", type=int, default=0, metavar="INDEX", help="of the test split")
    parser.add_argument("--moving", type=int, nargs="+", metavar="INDEX", help="the first five others if left out")
    parser.add_argument("--models", nargs="+", metavar="LABEL=MODEL", help="names of shipped models, or files")
    parser.add_argument("--plane", choices=PLANES, help="of the sections")
    parser.add_argument("--fine", type=int, metavar="SIDE", help="measure and draw on a grid of so many voxels a side")
    parser.add_argument("--pairs", choices=("ring", "all"), default="ring", help="measured besides the drawn ones")
    parser.add_argument("--out", type=Path, default=BOOK, help="folder that holds figures/ and records/")
    options = parser.parse_args(words)
    if options.models:
        for word in options.models:
            if not all(word.partition("=")[::2]):
                parser.error(f"--models: found '{word}', expected LABEL=MODEL, such as \"LDR=mine.safetensors\"")
        options.models = dict(word.split("=", 1) for word in options.models)
    elif options.dataset in MODELS:
        options.models = {k: v.format(fold=options.fold or 0) for k, v in MODELS[options.dataset].items()}
    if not options.models or len(options.models) < 2:
        parser.error(f"--models: {options.dataset} needs two models or more to compare, each with its own LABEL")
    options.plane = options.plane or PLANE_OF.get(options.dataset, "axial")
    return options


def load_models(named: dict[str, str]) -> tuple[dict[str, RecursiveCascade], dict[str, dict[str, Any]], list[int]]:
    """The networks, what the record says about each, and the grid they share.

    Raises:
        InputError: no such model, or two that work on different grids.
    """
    models, about, size = {}, {}, None
    for label, name in named.items():
        models[label], config, _ = load_model(name)
        if size is not None and config.size != size:
            raise InputError(f"{name}: this model works on the grid {config.size}, the one before it on {size}.")
        size = config.size
        built = {"network": config.network, "cascades": config.cascades, "width": config.width}
        about[label] = {"model": relative(name), "weights_sha256": weights_hash(models[label])} | built
    assert size is not None
    return models, about, size


def relative(name: str) -> str:
    """A model's name or file as a record may hold it: without the folders of this machine."""
    return Path(name).name if Path(name).is_absolute() else name


def command(options: argparse.Namespace) -> str:
    """The line that makes the figure again."""
    words = ["python", "book/figure2.py", "--dataset", options.dataset]
    for name in ("fold", "subjects", "fixed", "plane", "fine", "pairs"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    words += ["--moving", *map(str, options.moving)]
    return shlex.join([*words, "--models", *(f"{k}={relative(v)}" for k, v in options.models.items())])


def make(options: argparse.Namespace) -> dict[str, Any]:
    """Register, draw, record.

    Returns:
        The record.

    Raises:
        InputError: models, scans or subjects that are not there.
    """
    models, about, size = load_models(options.models)
    given = {"subjects": options.subjects, "fold": options.fold or 0}
    test = load_cohort(options.dataset, "test", size=size, **given)
    fine = load_cohort(options.dataset, "test", size=[options.fine] * 3, **given) if options.fine else test
    if options.moving is None:
        options.moving = [i for i in range(len(test)) if i != options.fixed][:5]
    for i in (options.fixed, *options.moving):
        if not 0 <= i < len(test) or options.fixed in options.moving:
            raise InputError(
                f"--fixed {options.fixed} --moving {' '.join(map(str, options.moving))}: expected different subjects "
                f"of the test split, 0 to {len(test) - 1}."
            )
    drawn = [(m, options.fixed) for m in options.moving]
    pairs = list(dict.fromkeys([*drawn, *evaluation_pairs(len(test), options.pairs)]))
    rows, shown = register_all(models, test, fine, pairs, drawn, options.plane)
    use_style()
    names = {f"figure2_{options.dataset}{end}.webp": draw for end, draw in FIGURES.items()}
    for name, draw in names.items():
        save(draw(fine, shown, options.plane), options.out / "figures" / name)
    organ = {fine.ids[f]: organ_slices(fine.labels[f], options.plane) for f in sorted({f for _, f in pairs})}
    details = {
        "dataset": options.dataset,
        "split": {"test": len(test)},
        "pairs": options.pairs,
        "fold": options.fold,
        "size": size,
        "drawn_on": list(fine.size),
        "labels": "linear",
        "plane": options.plane,
        "licence": test.licence,
        "models": about,
        "figures": [f"book/figures/{name}" for name in names],
        "rule": "the slice with the median of the second model's Dice minus the first's, among the slices in which the "
        f"organ has at least {SHARE:g} of its largest area",
        "shown": [{"moving": fine.ids[s.pair[0]], "fixed": fine.ids[s.pair[1]], "slice": s.index} for s in shown],
        "slices": organ,
        "rows": rounded(rows),
    }
    record = provenance(command(options), **{k: v for k, v in details.items() if v is not None})
    write_record(options.out / "records" / options.dataset / "figure2.json", record)
    return record


FIGURES = {"": draw_sections, "_fields": draw_fields}


def main(words: Sequence[str] | None = None) -> None:
    """Make the figures and the record, and say what they hold."""
    options = parse(words)
    try:
        record = make(options)
    except InputError as error:
        sys.exit(str(error))
    for label in record["models"]:
        dice = [row["dice"] for row in record["rows"] if row["model"] == label]
        print(f"{label}: mean Dice {sum(dice) / len(dice):.3f} of {len(dice)} pairs")
    for name in record["figures"]:
        file = options.out / "figures" / Path(name).name
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB; look at it before you commit it.")


if __name__ == "__main__":
    main()
