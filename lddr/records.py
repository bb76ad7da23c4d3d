"""Provenance: every number in a table comes from a record that says how it was made."""

import datetime
import functools
import json
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from lddr.files import written


def machine() -> dict[str, Any]:
    """The processor, core count, GPU and library versions of this machine."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": version("torch"),
    }


@functools.cache
def commit() -> str:
    """The commit of the code that runs, with "+changes" if files differ from it; "unknown" outside git; chapter 06.

    Remembered from the first call on: what runs for hours is the code as it was at the start.
    """
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance(command: str, **details: Any) -> dict[str, Any]:
    """What a reader needs to trust a number or to make it again; chapter 06.

    Args:
        command: the line that makes it, with `$LDDR_DATA` for the data folder.
        details: seed, dataset, split, ...
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"command": command, **details, "commit": commit(), "machine": machine(), "date": now}


def read_records(dataset: str) -> dict[str, dict[str, Any]]:
    """The recorded runs on one data set, from `book/records` of the project the current folder belongs to.

    Returns:
        File name without ending -> record, sorted by name; empty if there are none.
    """
    for folder in (Path.cwd(), *Path.cwd().parents):
        if (folder / "book" / "records").is_dir():
            files = sorted((folder / "book" / "records" / dataset).glob("*.json"))
            return {file.stem: json.loads(file.read_text()) for file in files}
    return {}


def rounded(value: Any) -> Any:
    """A value with five digits to each float, also inside dicts and lists: enough to tell models apart; chapter 06."""
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


def write_record(path: str | Path, record: dict[str, Any]) -> None:
    """Write a record, with its `provenance`, as JSON, whole or not at all; folders are made; chapter 06."""
    with written(path) as part:
        part.write_text(json.dumps(record, indent=1) + "\n")
