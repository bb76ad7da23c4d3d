"""List the recorded runs on VQA-RAD, or make those whose record is missing.

    python -m companions.vqa                     list the commands, with the minutes they took or are expected to take
    python -m companions.vqa --run [NAME ...]    make the named runs, or all that are missing
    python -m companions.vqa --run --workers 2   two at a time, each on one thread

A name may hold wildcards: --run 'official_*_ban_seed0'. A named run whose record exists is made again. A run that was
interrupted begins again; MMQ, the longest, goes on after its last whole meta-model. Where a run reads weights that are
not there, the pre-training that leaves them is made first.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path

from tqdm import tqdm

from companions.vqa.grid import RECORDS, Run, runs
from companions.vqa.record import QuestionsRecord, read_record
from lddr.errors import InputError
from study.records import PROJECT

ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")}


def file_of(name: str) -> Path:
    """Name the file of a record."""
    return PROJECT / RECORDS / f"{name}.json"


def weights_of(run: Run) -> Path | None:
    """Name the file of weights that a run leaves; None if it leaves none."""
    return next((PROJECT / word.removeprefix("output=") for word in run.words if word.startswith("output=")), None)


def chosen(listed: dict[str, Run], patterns: Sequence[str]) -> list[str]:
    """Choose the runs that patterns name; without any, those whose record is missing.

    Raises:
        InputError: a pattern names none.
    """
    if not patterns:
        return [name for name in listed if not file_of(name).exists()]
    if unknown := [pattern for pattern in patterns if not any(fnmatch(name, pattern) for name in listed)]:
        raise InputError(f"There is no run named {', '.join(unknown)}; 'python -m companions.vqa' lists them.")
    return [name for name in listed if any(fnmatch(name, pattern) for pattern in patterns)]


def with_needs(listed: dict[str, Run], names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Part runs into pre-trainings, which others may read, and the rest; pre-trainings whose weights lack are added."""
    names = list(names)
    needed = [need for name in names for need in listed[name].needs]
    lacking = [need for need in needed if not (file := weights_of(listed[need])) or not file.exists()]
    wanted = {*names, *lacking}
    first = [name for name in listed if name in wanted and weights_of(listed[name])]
    return first, [name for name in listed if name in wanted and name not in first]


def make(name: str, run: Run) -> int:
    """Make one run in a process of its own, on one thread; gives its exit code."""
    command = [sys.executable, *run.words[1:]]
    return subprocess.run(command, cwd=PROJECT, env=os.environ | ONE_THREAD, check=False).returncode


def minutes(name: str, run: Run) -> str:
    """Say how long a run took, or is expected to take."""
    if not file_of(name).exists():
        return f"no record, about {run.usual:.0f} min"
    record = read_record(file_of(name))
    took = 0.0 if isinstance(record, QuestionsRecord) else record.training_seconds / 60
    return f"{took:.0f} min" if took >= 1 else "under 1 min"


def main(words: Sequence[str] | None = None) -> int:
    """List, or run; 0, 1 if a run failed, or 2 with a sentence."""
    parser = argparse.ArgumentParser("python -m companions.vqa", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", nargs="*", metavar="NAME", help="make these, or all whose record is missing")
    parser.add_argument("--workers", type=int, default=1, help="how many at a time, each on one thread")
    options = parser.parse_args(words)
    listed = runs()
    try:
        if options.run is None:
            for name, run in listed.items():
                print(f"# {name}: {minutes(name, run)}\n{shlex.join(run.words)}")
            missing = sum(run.usual for name, run in listed.items() if not file_of(name).exists())
            print(f"# {len(listed)} runs; those without a record take about {missing / 60:.0f} hours on one thread")
            return 0
        stages = with_needs(listed, chosen(listed, options.run))
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    failed = []
    for stage in stages:  # a pre-training is read by many runs, so all are made first
        with ThreadPoolExecutor(max(1, options.workers)) as pool:
            codes = pool.map(lambda name: make(name, listed[name]), stage)
            for name, code in tqdm(zip(stage, codes, strict=True), total=len(stage), desc="runs"):
                tqdm.write(name if code == 0 else f"{name}: failed")
                failed += [name] if code else []
    if failed:
        print(f"{len(failed)} runs failed: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
