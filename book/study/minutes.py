"""How long a recorded run took, or is expected to take: its own record tells, else those of runs like it."""

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import mean

from lddr.config import read_parameters
from lddr.record import AnyRecord, CostRecord, Record
from lddr.train.config import FIELDS, RunConfig
from study.chapter import FAMILY
from study.grid import Run, Runs
from study.records import PROJECT

# Where no record tells: minutes of `USUAL_WORK` voxels, the 1,500 steps of two pairs of hippocampus MR, on one
# core, for each network, number of cascades, and whether a teacher is asked.
USUAL_WORK = 1500 * 2 * 48 * 64 * 48
Kind = tuple[str | None, int | None, bool]
USUAL_TRAINING: dict[Kind, float] = {("ldr", 1, False): 6, ("ldr", 2, False): 11, ("ldr", 3, False): 18}
USUAL_TRAINING |= {("ldr", 1, True): 12, ("ldr", 2, True): 20, ("ldr", 3, True): 25}
USUAL_TRAINING |= {("vtn", 1, False): 6, ("vtn", 2, False): 11, ("vtn", 3, False): 17}
USUAL_TRAINING |= {("voxelmorph", 1, False): 40, ("voxelmorph", 3, False): 110}
Records = Mapping[str, AnyRecord]


def seconds(record: AnyRecord) -> float:
    """Add up the seconds that making a record again takes; 0 where nothing was timed.

    They are those of its training, else of its registrations, else of the timed calls of a cost record; networks are
    called at least twice more than its `runs` says, to warm up (`lddr.deploy.bench`).
    """
    if isinstance(record, Record):
        return record.training_seconds or sum(row["seconds"] for row in record.rows)
    if isinstance(record, CostRecord):
        networks = sum(cost["seconds"] * (cost["runs"] + 2) for cost in record.networks.values())
        return networks + sum(cost["seconds"] * cost["runs"] for cost in record.tools.values())
    return 0


def minutes(record: AnyRecord) -> str:
    """Say how long making a record again takes."""
    took = seconds(record)
    if not took:
        return "not timed"
    return f"{took / 60:.0f} min" if took >= 60 else "under 1 min"


def settings_of(words: Sequence[str]) -> RunConfig | None:
    """Read the settings of a training run, by `lddr train` or papermill, from its words; None for other commands.

    Raises:
        InputError: settings that the command would refuse.
    """
    if list(words[:2]) == ["lddr", "train"]:
        given = [word if "=" in word else str(PROJECT / word) for word in words[2:]]
        return RunConfig.check(read_parameters(given, FIELDS))
    files = [str(PROJECT / word) for word in words if word.endswith(".yaml")]
    if not files:
        return None
    values = read_parameters(files, FAMILY)  # a chapter has some parameters of its own
    return RunConfig.check({name: value for name, value in values.items() if name in FIELDS})


def kind(network: str | None, cascades: int | None, objective: str | None) -> Kind:
    """Tell what decides the time of a training step, apart from the number of voxels."""
    return network, cascades, objective not in ("none", "released")


def work(settings: Mapping[str, object]) -> int:
    """Count the voxels that go through a network in a whole training run."""
    config = RunConfig.check({name: settings[name] for name in ("steps", "batch", "size") if name in settings})
    return config.train.steps * config.train.batch * math.prod(config.model.size)


def recorded_work(records: Records) -> Iterator[tuple[Kind, float, int]]:
    """List, for every recorded training run, its kind, its minutes and its voxels."""
    for record in records.values():
        if isinstance(record, Record) and record.parameters and record.training_seconds:
            of = record.method
            yield kind(of.network, of.cascades, of.objective), record.training_seconds / 60, work(record.parameters)


def expected(run: Run, runs: Runs, records: Records) -> float | None:
    """Estimate the minutes of a run whose record does not tell.

    They are those of another fold or seed, else of a network like it for as many voxels, else what is usual. None says
    that nothing is known.
    """
    relatives = [records[name] for name, other in runs.items() if other.family == run.family and name in records]
    found = [seconds(record) / 60 for record in relatives]
    if any(found):
        return mean(found)
    if config := settings_of(run.words):
        own, voxels = kind(config.model.network, config.model.cascades, config.distill.objective), work(config.flat())
        like = [took * voxels / of for kind_of, took, of in recorded_work(records) if kind_of == own]
        if like or own in USUAL_TRAINING:
            return mean(like or [USUAL_TRAINING[own] * voxels / USUAL_WORK])
    return run.usual


def takes(name: str, runs: Runs, records: Records) -> str:
    """Say how long a run takes: the minutes of its record, else those that are expected."""
    if name in records and seconds(records[name]) > 0:
        return minutes(records[name])
    there, found = "" if name in records else "no record, ", expected(runs[name], runs, records)
    return f"{there}about {found:,.0f} min" if found else f"{there}time unknown"
