"""Measure the classical tools of `lddr.baselines` on the pairs the networks are tested on; one record each.

    python book/baselines.py [--tool elastix] [--dataset liver_mr --fold 0 --pairs all --size 128]

The seconds run from two arrays in memory to the displacement, on one thread: the tool's registration, with the
conversion of the images before it and the reading of its map, one arrow a voxel, after it; the first pair's hold the
loading of the tool's library as well. Reading scans and measuring the result are not in them.
"""

import argparse
import time
from pathlib import Path

from tqdm import tqdm

from lddr.baselines import TOOLS
from lddr.data import evaluation_pairs, load_cohort
from lddr.evaluate import measure, summarise
from lddr.records import provenance, rounded, write_record

RECORDS = Path(__file__).parent / "records"


def main() -> None:
    """Register the pairs of the test subjects with every tool; one record each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", default="hippocampus")
    parser.add_argument("--tool", choices=TOOLS, help="only this one")
    parser.add_argument("--pairs", choices=("ring", "all", "couples"), default="ring")
    parser.add_argument("--fold", type=int, help="of the liver sets, 0 to 3; goes into the record's name")
    parser.add_argument("--size", type=int, help="voxels a side of the grid; the data set's own if left out")
    options = parser.parse_args()
    size = [options.size] * 3 if options.size else None
    test = load_cohort(options.dataset, "test", size=size, fold=options.fold or 0)
    pairs = evaluation_pairs(len(test), options.pairs)
    for name in [options.tool] if options.tool else TOOLS:
        register, rows = TOOLS[name], []
        for moving, fixed in tqdm(pairs, desc=name, unit="pair"):
            start = time.perf_counter()
            displacement = register(*(test.images[i, 0].numpy() for i in (moving, fixed)))
            rows.append(measure(test, (moving, fixed), displacement, time.perf_counter() - start, surfaces=True))
        summary = summarise(rows, test.label_names)
        given = {k: v for k, v in vars(options).items() if v is not None and k != "tool"}
        command = f"python book/baselines.py --tool {name} " + " ".join(f"--{k} {v}" for k, v in given.items())
        details = {
            "method": name,
            "settings": (register.__doc__ or "").splitlines()[0],
            "threads": 1,
            "dataset": options.dataset,
            "split": {"test": len(test)},
            "pairs": options.pairs,
            "size": list(test.size),
            "labels": "linear",
            "licence": test.licence,
        }
        record = provenance(command, **details, test=summary, rows=rounded(rows))
        end = "" if options.fold is None else f"_fold{options.fold}"
        write_record(RECORDS / options.dataset / f"baseline_{name}{end}.json", record)
        print(f"{name}: Dice {summary['dice_mean']:.3f}, {summary['seconds_per_pair']:.1f} s a pair")


if __name__ == "__main__":
    main()
