"""List the commands of all recorded runs, or make those whose record is missing.

    python -m study                    list the commands, with the minutes they took, or are expected to take
    python -m study --run [NAME ...]   make the named runs, or all that are missing, one after another

A run that was interrupted goes on where it was. A name may hold wildcards: --run 'student_1cas_*'. Where a run reads
weights that another leaves under `runs/` and they are not there, that one is made first, even if its record exists.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from tqdm import tqdm

from lddr.cli.options import sentence_on_mistake
from lddr.errors import InputError
from study.grid import RECORDS, Runs, commands
from study.minutes import takes
from study.records import PROJECT, read_if_sound


def chosen(runs: Runs, patterns: Sequence[str]) -> list[str]:
    """Choose the runs that a pattern names, with or without the folder.

    Raises:
        InputError: a pattern names none.
    """
    names = {p: [n for n in runs if fnmatch(n, p) or fnmatch(n.partition("/")[2], p)] for p in patterns}
    unknown = [pattern for pattern, found in names.items() if not found]
    if unknown:
        raise InputError(f"There is no run named {', '.join(unknown)}; 'python -m study' lists them.")
    return list(dict.fromkeys(name for found in names.values() for name in found))


def makers(runs: Runs) -> dict[str, str]:
    """Find which run leaves which file of weights: file -> name."""
    outputs = [(word.partition("="), name) for name, run in runs.items() for word in run.words]
    return {file: name for (key, _, file), name in outputs if key == "weights"}


def in_order(names: Iterable[str], runs: Runs) -> list[str]:
    """Order the runs, each after those that make the weights it reads, as far as these are not there."""
    order: dict[str, None] = {}
    maker = makers(runs)

    def add(name: str) -> None:
        for file in runs[name].reads:
            if file in maker and not (PROJECT / file).exists():
                add(maker[file])
        order[name] = None

    for name in names:
        add(name)
    return list(order)


def call(tool: str, *options: str) -> None:
    """Run a tool of this environment from the top of the project.

    Raises:
        SystemExit: it failed.
    """
    if subprocess.run([Path(sys.executable).with_name(tool), *options], cwd=PROJECT).returncode:
        raise SystemExit(f"failed: {shlex.join([tool, *options])}")


def main(words: Sequence[str] | None = None) -> None:
    """List, or run."""
    parser = argparse.ArgumentParser("python -m study", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--run", nargs="*", metavar="NAME", help="make these, or all whose record is missing")
    options = parser.parse_args(words)
    runs = commands()
    files = {name: PROJECT / RECORDS / f"{name}.json" for name in runs}
    if options.run is None:
        records = {name: record for name, file in files.items() if (record := read_if_sound(file))}
        for name, run in runs.items():
            print(f"# {name}: {takes(name, runs, records)}\n{shlex.join(run.words)}")
        return
    (PROJECT / "_build").mkdir(exist_ok=True)  # where papermill writes its copy of a notebook
    with sentence_on_mistake():
        asked = chosen(runs, options.run) or [name for name, file in files.items() if not file.exists()]
    for name in tqdm(in_order(asked, runs), desc="runs"):
        tqdm.write(name if name in asked else f"{name}, because a run after it reads its weights")
        call(*runs[name].words)
