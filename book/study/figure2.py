"""Draw Figure 2 of the posts from trained weights: up to five moving scans, one fixed, a few models; two figures.

    python -m study.figure2
    python -m study.figure2 --dataset liver_mr --fold 0 --fine 128 --pairs all
    python -m study.figure2 --dataset simulated_brains --models "A=mine.safetensors" "B=simulated_brains"

`figures/figure2_DATASET.webp` holds warped sections and the overlap of labels, `figure2_DATASET_fields.webp` what the
posts do not show, grids and Jacobian determinants of the same sections, and `records/DATASET/figure2.json` all numbers.
The slice of a pair is not chosen by eye: it is the one in which the second model's Dice minus the first's is the median
over the slices of the organ. Source: Part 3 of the posts, Figure 2; chapter 12.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.cli.options import at_least, sentence_on_mistake
from lddr.data.cohort import Cohort, evaluation_pairs
from lddr.data.registry import fold_of, load_cohort
from lddr.errors import InputError
from lddr.infer.evaluate import Pair, by_network, evaluate
from lddr.metrics import nanmean, overlap
from lddr.models import load_model, weights_hash
from lddr.plotting import PLANES, Plane, use_style
from lddr.record import FigureRecord, Row, commit, provenance, rounded, write_record
from lddr.train.run import require_fold
from lddr.warping import warp_labels
from study.figure2_drawing import Shown, draw_fields, draw_sections, save
from study.grid import figure2_models
from study.records import PROJECT

PLANE_OF: dict[str, Plane] = {"hippocampus": "sagittal"}  # along the organ; axial for the others
SHARE = 0.25  # slices count in which the organ has at least this share of its largest area
FIGURES = {"": draw_sections, "_fields": draw_fields}


def organ_slices(labels: Tensor, plane: Plane, share: float = SHARE) -> list[int]:
    """Find the slices in which labels cover at least a share of the largest area they have in any slice.

    Args:
        labels: `[D, H, W]`, or with leading axes of length 1.
        plane: which way to cut.
        share: of the largest area.
    """
    volume = labels.reshape(labels.shape[-3:]) > 0
    area = volume.movedim(PLANES[plane], 0).flatten(1).sum(1)
    return torch.nonzero((area > 0) & (area >= share * area.max()))[:, 0].tolist()


def slice_dice(a: Tensor, b: Tensor, values: Sequence[int], plane: Plane, slices: Sequence[int]) -> list[float]:
    """Measure the Dice of each slice by itself, mean over labels; NaN where neither map has any (chapter 12).

    Args:
        a, b: integer label maps, `[D, H, W]`, or with leading axes of length 1.
        values: the labels.
        plane: which way to cut.
        slices: indices.
    """
    a, b = (x.reshape(x.shape[-3:]).movedim(PLANES[plane], 0) for x in (a, b))
    return [nanmean(overlap(a[k], b[k], values)[0].values()) for k in slices]


def median_slice(slices: Sequence[int], difference: Sequence[float]) -> int:
    """Choose the slice with the median difference; of an even number, the lower of the middle two."""
    ordered = sorted(zip(difference, slices, strict=True))
    return ordered[(len(ordered) - 1) // 2][1]


def register_all(
    models: dict[str, RecursiveCascade],
    test: Cohort,
    fine: Cohort | None,
    pairs: Sequence[Pair],
    keep: Sequence[Pair],
    plane: Plane,
) -> tuple[list[Row], list[Shown]]:
    """Register every pair with every model, measure volumes and slices.

    Args:
        models: label -> network.
        test: what the networks see.
        fine: the same subjects on the finer grid that is measured and drawn; None: `test` is.
        pairs: all (moving, fixed) pairs that are measured.
        keep: those among them that are drawn.
        plane: of the slices.

    Returns:
        A row for each pair and, within it, each model: what `evaluate` gives, with `model` and `slice_dice` but without
        `seconds`; and the drawn pairs.
    """
    measured = fine or test
    values = list(measured.label_names)
    slices = {f: organ_slices(measured.labels[f], plane) for _, f in pairs}
    kept: dict[tuple[str, Pair], Tensor] = {}  # all displacements would be gigabytes
    of_model: dict[str, list[Row]] = {}
    for label, model in models.items():

        def inspect(pair: Pair, displacement: Tensor, row: Row, label: str = label) -> None:
            moving, fixed = pair
            warped = warp_labels(measured.labels[moving : moving + 1], displacement)
            row["slice_dice"] = slice_dice(warped, measured.labels[fixed], values, plane, slices[fixed])
            del row["seconds"]  # nothing is compared by its time here
            if pair in keep:
                kept[label, pair] = displacement

        rows = evaluate(by_network(model), test, pairs, fine=fine, progress=True, inspect=inspect)
        of_model[label] = [{"model": label} | row for row in rows]
    shown = []
    for pair in keep:
        of_pair = {label: of_model[label][pairs.index(pair)] for label in models}
        first, second, *_ = (row["slice_dice"] for row in of_pair.values())
        own = slices[pair[1]]
        index = median_slice(own, [b - a for a, b in zip(first, second, strict=True)])
        in_slice = {label: row["slice_dice"][own.index(index)] for label, row in of_pair.items()}
        shown.append(Shown(pair, index, {label: kept[label, pair] for label in models}, of_pair, in_slice))
    return [of_model[label][i] for i in range(len(pairs)) for label in models], shown


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the options, checked as far as that goes without any scan.

    A mistake in one is an `InputError`, or ends the program with its usage.
    """
    parser = argparse.ArgumentParser("python -m study.figure2", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="hippocampus")
    parser.add_argument("--fold", type=at_least(0, 3), help="of the liver sets (default: 0)")
    parser.add_argument("--subjects", type=at_least(2), help="only the first so many of the test split")
    parser.add_argument("--fixed", type=at_least(0), default=0, metavar="INDEX", help="of the test split")
    others = "the first five others if left out"
    parser.add_argument("--moving", type=at_least(0), nargs="+", metavar="INDEX", help=others)
    parser.add_argument("--models", nargs="+", metavar="LABEL=MODEL", help="names of shipped models, or files")
    parser.add_argument("--plane", choices=PLANES, help="of the sections")
    parser.add_argument(
        "--fine", type=at_least(16), metavar="SIDE", help="measure and draw on cubes of SIDE voxels a side"
    )
    parser.add_argument("--pairs", choices=("ring", "all"), default="ring", help="measured besides the drawn ones")
    parser.add_argument("--out", type=Path, default=PROJECT / "book", help="folder that holds figures/ and records/")
    options = parser.parse_args(words)
    options.fold = fold_of(options.dataset, options.fold)
    if options.models:
        for word in options.models:
            if not all(word.partition("=")[::2]):
                parser.error(f"--models: found '{word}', expected LABEL=MODEL, such as \"LDR=mine.safetensors\"")
        options.models = dict(word.split("=", 1) for word in options.models)
    else:
        named = figure2_models(options.dataset, options.fold)
        options.models = {label: str(PROJECT / file) for label, file in named.items()}
    if len(options.models) < 2:
        parser.error(f"--models: {options.dataset} needs two models or more to compare, each with its own LABEL")
    options.plane = options.plane or PLANE_OF.get(options.dataset, "axial")
    return options


def load_models(options: argparse.Namespace) -> tuple[dict[str, RecursiveCascade], dict[str, Any], list[int]]:
    """Load the networks, describe each for the record, and find the grid they share.

    Raises:
        InputError: no such model, one that has seen the test scans of this fold, or two that work on different grids.
    """
    models: dict[str, RecursiveCascade] = {}
    described: dict[str, Any] = {}
    size: list[int] = []
    for label, name in options.models.items():
        models[label], config, about = load_model(name)
        require_fold(name, about, options.dataset, options.fold or 0)
        if size and config.size != size:
            raise InputError(f"{name}: this model works on the grid {config.size}, the one before it on {size}.")
        size = config.size
        built = {"network": config.network, "cascades": config.cascades, "width": config.width}
        described[label] = {"model": relative(name), "weights_sha256": weights_hash(models[label])} | built
    return models, described, size


def relative(name: str) -> str:
    """Write a model's name or file as a record may hold it: without the folders of this machine."""
    path = Path(name)
    if not path.is_absolute():
        return name
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else path.name


def command(options: argparse.Namespace) -> list[str]:
    """Write the words that make the figure again."""
    words = ["python", "-m", "study.figure2", "--dataset", options.dataset]
    for name in ("fold", "subjects", "fixed", "plane", "fine", "pairs"):
        if getattr(options, name) is not None:
            words += [f"--{name}", str(getattr(options, name))]
    words += ["--moving", *map(str, options.moving)]
    return [*words, "--models", *(f"{label}={relative(name)}" for label, name in options.models.items())]


def make(options: argparse.Namespace) -> FigureRecord:
    """Register, draw, record.

    Raises:
        InputError: models, scans or subjects that are not there.
    """
    commit()  # remembered from here on: the record names the code this process began with
    models, described, size = load_models(options)
    given = {"subjects": options.subjects, "fold": options.fold or 0}
    test = load_cohort(options.dataset, "test", size=size, **given)
    fine = load_cohort(options.dataset, "test", size=[options.fine] * 3, **given) if options.fine else None
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
    measured = fine or test
    use_style()
    names = {f"figure2_{options.dataset}{end}.webp": draw for end, draw in FIGURES.items()}
    for name, draw in names.items():
        save(draw(measured, shown, options.plane), options.out / "figures" / name)
    fixed = sorted({f for _, f in pairs})
    record = FigureRecord(
        **provenance(command(options)),
        licence=test.licence,
        dataset=options.dataset,
        split={"test": len(test)},
        fold=options.fold,
        pair_list=options.pairs,
        size=size,
        drawn_on=list(measured.size),
        labels="linear",
        plane=options.plane,
        models=described,
        figures=[f"book/figures/{name}" for name in names],
        rule="the slice with the median of the second model's Dice minus the first's, among the slices in which the "
        f"organ has at least {SHARE:g} of its largest area",
        shown=[{"moving": test.ids[s.pair[0]], "fixed": test.ids[s.pair[1]], "slice": s.index} for s in shown],
        slices={test.ids[f]: organ_slices(measured.labels[f], options.plane) for f in fixed},
        rows=rounded(rows),
    )
    write_record(options.out / "records" / options.dataset / "figure2.json", record)
    return record


def main(words: Sequence[str] | None = None) -> None:
    """Make the figures and the record, and say what they hold."""
    with sentence_on_mistake():
        options = parse(words)
        record = make(options)
    for label in record.models:
        dice = [row["dice"] for row in record.rows if row["model"] == label]
        print(f"{label}: mean Dice {sum(dice) / len(dice):.3f} of {len(dice)} pairs")
    for name in record.figures:
        file = options.out / "figures" / Path(name).name
        print(f"{file}: {file.stat().st_size / 1000:.0f} kB; look at it before you commit it.")


if __name__ == "__main__":
    main()
