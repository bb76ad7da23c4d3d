"""Measure the classical tools of `lddr.baselines` on the pairs the networks are tested on; one record each.

    python book/baselines.py [--tool elastix] [--dataset liver_mr --fold 0 --pairs all --size 128]

The seconds run from two arrays in memory to the displacement, on one thread: the tool's registration, with the
conversion of the images before it and the reading of its map, one arrow a voxel, after it; the first pair's hold the
loading of the tool's library as well. Reading scans and measuring the result are not in them.
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from lddr.baselines import TOOLS
from lddr.data import evaluation_pairs, load_cohort
from lddr.evaluate import measure, summarise
from lddr.records import provenance, rounded, write_record

RECORDS = Path(__file__).parent / "records"


def main(words: Sequence[str] | None = None) -> None:
    """Register the pairs of the test subjects with every tool; one record each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="hippocampus")
    parser.add_argument("--tool", choices=TOOLS, help="only this one")
    parser.add_argument("--pairs", choices=("ring", "all", "couples"), default="ring")
    parser.add_argument("--fold", type=int, help="of the liver sets, 0 to 3; goes into the record's name")
    parser.add_argument("--size", type=int, help="voxels a side of the grid; the data set's own if left out")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the records")
    options = parser.parse_args(words)
    size = [options.size] * 3 if options.size else None
    test = load_cohort(options.dataset, "test", size=size, fold=options.fold or 0)
    pairs = evaluation_pairs(len(test), options.pairs)
    end = "" if options.fold is None else f"_fold{options.fold}"
    tools = [options.tool] if options.tool else list(TOOLS)
    files = {name: options.out / options.dataset / f"baseline_{name}{end}.json" for name in tools}
    measured = {"size": list(test.size), "pairs": options.pairs}  # neither goes into the record's name
    for file in files.values():
        there = json.loads(file.read_text()) if file.exists() else measured
        if other := [key for key in measured if there.get(key, measured[key]) != measured[key]]:
            parser.error(f"{file} differs in {' and '.join(other)}; give --out to keep both")
    for name, file in files.items():
        register, rows = TOOLS[name], []
        for moving, fixed in tqdm(pairs, desc=name, unit="pair"):
            start = time.perf_counter()
            displacement = register(*(test.images[i, 0].numpy() for i in (moving, fixed)))
            rows.append(measure(test, (moving, fixed), displacement, time.perf_counter() - start, surfaces=True))
        summary = summarise(rows, test.label_names)
        given = {k: v for k, v in vars(options).items() if v is not None and k not in ("tool", "out")}
        command = f"python book/baselines.py --tool {name} " + " ".join(f"--{k} {v}" for k, v in given.items())
        details = {
            "method": name,
            "settings": (register.__doc__ or "").splitlines()[0],
            "threads": 1,
            "dataset": options.dataset,
            "split": {"test": len(test)},
            **measured,
            "labels": "linear",
            "licence": test.licence,
        }
        record = provenance(command, **details, test=summary, rows=rounded(rows))
        write_record(file, record)
        print(f"{name}: Dice {summary['dice_mean']:.3f}, {summary['seconds_per_pair']:.1f} s a pair")


if __name__ == "__main__":
    main()
