"""Provenance: every number in a table comes from a record that says how it was made.

There are four kinds. A `Record` holds the figures of one method on the pairs of one data set, a `CostRecord` what
networks cost, a `FigureRecord` what a drawn figure shows, a `TrialRecord` what a long test counted. All are written and
read here, as JSON with a `schema_version`.

A value that does not exist is null in the file and NaN in a table. So far that is one thing only: the overlap or the
surface distance of a label that one of the two scans does not have; `column` is where such values are read.
"""

import datetime
import functools
import json
import math
import os
import platform
import shlex
import subprocess
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lddr.errors import InputError
from lddr.files import atomic_write
from lddr.models import ModelConfig

SCHEMA_VERSION = 2  # 1 was a plain dictionary without a version
Row = dict[str, Any]  # names of the two subjects, and numbers; null where a figure does not exist


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Machine(_Part):
    """Where a number was measured: processor, cores, threads of PyTorch, GPU if one was used, versions."""

    cpu: str
    cores: int | None
    threads: int
    gpu: str | None
    system: str
    python: str
    torch: str


class Provenance(_Part):
    """What a reader needs to trust a number or to make it again.

    Attributes:
        schema_version: of the file.
        command: the line that makes it; it can be pasted into a shell, at the top of the project, with LDDR_DATA set.
        commit: of the code that ran, see `commit`.
        machine: it ran on.
        date: when it was written, ISO 8601, UTC.
        licence: of the scans the numbers were made from; null if there were none.
    """

    schema_version: Literal[2] = 2
    command: str
    commit: str
    machine: Machine
    date: str
    licence: str | None = None


class Method(_Part):
    """What registered the pairs.

    Attributes:
        tool: "ants_syn" or "elastix"; null: a network, and then the others say which.
        network, affine, width, levels, cascades, size: see `lddr.models.ModelConfig`.
        objective: it was trained with, see `lddr.train.distill`.
        recipe: a word for how it was trained: "plain", or what the table that it stands in calls it.
        seed: of its training.
        adapted: steps of training on each pair itself before it is registered.
        repeats: how often each dense network is applied in a row.
    """

    tool: str | None = None
    network: str | None = None
    affine: str | None = None
    width: int | None = None
    levels: int | None = None
    cascades: int | None = None
    size: list[int] | None = None
    objective: str | None = None
    recipe: str = "plain"
    seed: int | None = None
    adapted: int = 0
    repeats: int = 1

    @classmethod
    def of_network(cls, config: ModelConfig, **about: Any) -> "Method":
        """Describe a network: how it is built, and what else is known about it."""
        return cls(**config.model_dump(), **about)


class Summary(_Part):
    """The figures of a table: means over pairs, but for `dice_std` (over pairs) and `seconds_per_pair` (the median)."""

    pairs: int
    dice_mean: float | None
    dice_std: float | None
    dice_per_label: dict[str, float | None]
    jaccard_mean: float | None
    dice_initial: float | None
    folding_percent: float | None
    jacobian_std: float | None
    seconds_per_pair: float
    hd95_mean: float | None = None


class Record(Provenance):
    """The figures of one method on the pairs of one data set.

    Attributes:
        method: what registered them.
        dataset, split, fold: the data set, the subjects of each split that took part, the fold it was tested in.
        pair_list: which pairs of them were registered, see `evaluation_pairs`.
        measured_on: (D, H, W) of the grid that labels were warped on; null: the method's own.
        labels: how they were warped, see `warp_labels`.
        parameters: every setting of a training run, flat as in a YAML file; null where nothing was trained.
        weight_count: numbers the network has learnt.
        training_seconds, log: of a training run.
        model, weights_sha256: which weights an evaluation used.
        notebook: the chapter that ran; null for a command.
        settings: of a classical tool, in words.
        threads: that all calls were limited to; null: see `machine`.
        test: the summary of the rows.
        rows: one a pair, see `lddr.infer.evaluate`.
    """

    kind: Literal["record"] = "record"
    method: Method
    dataset: str
    split: dict[str, int]
    fold: int | None = None
    pair_list: str
    measured_on: list[int] | None = None
    labels: str = "linear"
    parameters: dict[str, Any] | None = None
    weight_count: int | None = None
    training_seconds: float | None = None
    model: str | None = None
    weights_sha256: str | None = None
    notebook: str | None = None
    settings: str | None = None
    threads: int | None = None
    test: Summary
    log: list[dict[str, int | float | None]] = []
    rows: list[Row]


class CostRecord(Provenance):
    """What networks and tools cost on one pair; see `lddr.deploy.bench`."""

    kind: Literal["cost"] = "cost"
    device: str
    threads: int
    size: list[int]
    networks: dict[str, dict[str, Any]]
    tools: dict[str, dict[str, Any]] = {}


class FigureRecord(Provenance):
    """What a drawn figure shows, and the numbers in it."""

    kind: Literal["figure"] = "figure"
    dataset: str
    split: dict[str, int]
    fold: int | None = None
    pair_list: str
    size: list[int]
    drawn_on: list[int]
    labels: str
    plane: str
    models: dict[str, dict[str, Any]]
    figures: list[str]
    rule: str
    shown: list[dict[str, Any]]
    slices: dict[str, list[int]]
    rows: list[Row]


class TrialRecord(Provenance):
    """What a long test of the program counted.

    Attributes:
        what: was tried, and what must hold each time, in words.
        counts: what was counted or measured -> how much.
        seconds: that it took.
    """

    kind: Literal["trial"] = "trial"
    what: str
    counts: dict[str, int | float]
    seconds: float


AnyRecord = Record | CostRecord | FigureRecord | TrialRecord
_READER: TypeAdapter[AnyRecord] = TypeAdapter(Annotated[AnyRecord, Field(discriminator="kind")])


def read_record(path: str | Path) -> AnyRecord:
    """Read a record of any kind.

    Raises:
        InputError: no such file, or one that `write_record` did not write.
    """
    try:
        return _READER.validate_json(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        message = f"{path}: not a record of schema version {SCHEMA_VERSION} ({where}: {first['msg']})."
        raise InputError(message) from None


def write_record(path: str | Path, record: Provenance) -> None:
    """Write a record as JSON, whole or not at all; folders are made."""
    write_json(path, record.model_dump(exclude_defaults=False))


def write_json(path: str | Path, value: Any) -> None:
    """Write any value as JSON, whole or not at all; what JSON does not have is replaced, see `finite`."""
    with atomic_write(path) as part:
        part.write_text(json.dumps(finite(value), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Replace every NaN and infinity in a value, also inside dicts and lists, by None; by "?" what is no Unicode.

    The latter is in the name of a file whose bytes are no UTF-8.
    """
    if isinstance(value, dict):
        return {name: finite(v) for name, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def rounded(value: Any) -> Any:
    """Round every float to five digits, also inside dicts and lists: enough to tell models apart."""
    if isinstance(value, dict):
        return {name: rounded(v) for name, v in value.items()}
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return round(value, 5) if isinstance(value, float) else value


def column(rows: Iterable[Row], name: str) -> np.ndarray:
    """Collect one figure of every row; NaN where it does not exist (a label that one of the two scans lacks)."""
    return np.array([np.nan if row[name] is None else row[name] for row in rows], dtype=float)


def machine() -> Machine:
    """Describe this machine: processor, core count, GPU and library versions."""
    import torch

    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    return Machine(
        cpu=cpu,
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        torch=version("torch"),
    )


@functools.cache
def commit() -> str:
    """Give the commit of the code that runs, with "+changes" if files differ; "unknown" outside git.

    It is remembered from the first call on. What runs for hours calls it at its start, so that the record names the
    code this process began with.
    """
    folder = Path(__file__).parent

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def provenance(command: Sequence[str]) -> dict[str, Any]:
    """Collect the fields of `Provenance` that this process knows: pass them on to the record, with its licence.

    Args:
        command: the words of the line that makes the record; they are quoted so that it survives a shell.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return {"command": shlex.join(command), "commit": commit(), "machine": machine(), "date": now}
