"""Measure the classical tools of `lddr.infer.classical` on the pairs the networks are tested on; one record each.

    python -m study.classical [--tool elastix] [--dataset liver_mr --fold 0 --pairs all --size 128]

The seconds run from two images in memory to the displacement, on one thread: the tool's registration, with the
conversion of the images before it and the reading of its map, one displacement vector a voxel, after it; the first
pair's hold the loading of the tool's library as well. Reading scans and measuring the result are not in them.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from lddr.cli.options import at_least, sentence_on_mistake
from lddr.data.cohort import evaluation_pairs
from lddr.data.registry import fold_of, load_cohort
from lddr.errors import InputError
from lddr.files import require_writable
from lddr.infer.classical import TOOLS
from lddr.infer.evaluate import evaluate, summarise
from lddr.record import Method, Record, commit, provenance, read_record, rounded, write_record
from study.records import RECORDS

SETTINGS = {  # in words, for the record
    "ants_syn": "SyN with ANTs' defaults (affine, then SyN, 40-20-0 iterations); on 64^3 voxels or fewer the affine "
    "sees them all.",
    "elastix": "Elastix's default affine, then its default B-spline (mutual information; final grid 8 voxels).",
}


def parse(words: Sequence[str] | None) -> argparse.Namespace:
    """Read the options; a mistake in one is an `InputError`, or ends the program with its usage."""
    parser = argparse.ArgumentParser("python -m study.classical", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--dataset", default="hippocampus")
    parser.add_argument("--tool", choices=TOOLS, help="only this one")
    parser.add_argument("--pairs", choices=("ring", "all", "couples"), default="ring")
    parser.add_argument(
        "--fold", type=at_least(0, 3), help="of the liver sets (default: 0); goes into the record's name"
    )
    parser.add_argument("--size", type=at_least(16), help="voxels a side of the grid; the data set's own if left out")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the records")
    options = parser.parse_args(words)
    options.fold = fold_of(options.dataset, options.fold)
    return options


def require_same(file: Path, size: list[int], pairs: str) -> None:
    """Refuse (`InputError`) to replace a record of another grid or other pairs, which its name does not tell."""
    if not file.exists():
        return
    there, other = read_record(file), []
    if isinstance(there, Record):
        other += ["size"] * (there.method.size not in (None, size)) + ["pairs"] * (there.pair_list != pairs)
    if other:
        raise InputError(f"{file} differs in {' and '.join(other)}; give --out to keep both.")


def make(options: argparse.Namespace) -> None:
    """Register the pairs of the test subjects with every tool that was asked for; one record each.

    Raises:
        InputError: scans that are not there, or a record that would be lost.
    """
    commit()  # remembered from here on: the record names the code this process began with
    size = [options.size] * 3 if options.size else None
    test = load_cohort(options.dataset, "test", size=size, fold=options.fold or 0)
    pairs = evaluation_pairs(len(test), options.pairs)
    end = "" if options.fold is None else f"_fold{options.fold}"
    names = [options.tool] if options.tool else list(TOOLS)
    files = {name: options.out / options.dataset / f"baseline_{name}{end}.json" for name in names}
    for file in files.values():  # what can be refused is refused now, not after hours
        require_same(file, list(test.size), options.pairs)
        require_writable(file)
    given = {name: getattr(options, name) for name in ("dataset", "pairs", "fold", "size")}
    words = [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    for name, file in files.items():
        rows = evaluate(TOOLS[name], test, pairs, surfaces=True, progress=True)
        summary = summarise(rows, test.label_names)
        record = Record(
            **provenance(["python", "-m", "study.classical", "--tool", name, *words]),
            licence=test.licence,
            method=Method(tool=name, size=list(test.size)),
            dataset=options.dataset,
            split={"test": len(test)},
            fold=options.fold,
            pair_list=options.pairs,
            settings=SETTINGS.get(name),
            threads=1,
            test=summary,
            rows=rounded(rows),
        )
        write_record(file, record)
        print(f"{name}: Dice {summary.dice_mean:.3f}, {summary.seconds_per_pair:.1f} s a pair")


def main(words: Sequence[str] | None = None) -> None:
    """Measure, and write the records."""
    with sentence_on_mistake():
        make(parse(words))


if __name__ == "__main__":
    main()
