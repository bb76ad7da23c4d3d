"""Every data set the package knows, by name: how to load it, where it lies, how it is split, under which licence.

A new set is one more file beside this one and one more entry here; no other place lists the names.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator

from lddr.config import unknown_name
from lddr.data import hippocampus, liver, published, simulated
from lddr.data.cohort import Cohort
from lddr.data.grid import normalise
from lddr.data.nifti import Scan
from lddr.errors import InputError


@dataclass(frozen=True)
class DataSet:
    """What there is to know about a data set before any of its scans is read.

    Attributes:
        title: as a table has it.
        load: (root, split, size, subjects, seed, fold) -> cohort; see `load_cohort`.
        folder: under the root; sets that share one are of the same subjects. None: made offline, without a root.
        get: how to get the scans, as a part of a sentence.
        licence: of the scans, and so of figures and weights made from them.
        folds: how many parts of a cross-validation it is tested in; 0: it has a fixed test split.
        prepared: what was done to the scans that a user's own scan lacks; "" if nothing.
        prepare: does to the intensities of a whole scan what was done to those of the set, before it is laid on a grid.
        mass_at: where the centre of mass of what is brighter than the background lies, millimetres from the middle of
            the grid along its axes; None if it differs from scan to scan.
    """

    title: str
    load: Callable[..., Cohort]
    folder: str | None
    get: str
    licence: str
    folds: int = 0
    prepared: str = ""
    prepare: Callable[[Scan], Scan] = normalise
    mass_at: tuple[float, float, float] | None = None


def _liver(name: str, title: str, prepared: str = "") -> DataSet:
    def load(root: Path, split: str, fold: int, seed: int, **more: Any) -> Cohort:
        return liver.load_liver_mr(root, name, split, fold=fold, **more)

    get = "with 'python data_scripts/fetch_chaos.py'"
    return DataSet(title, load, liver.FOLDER, get, liver.LICENCE, liver.FOLDS, prepared, liver.prepare)


def _published(name: str, title: str) -> DataSet:
    def load(root: Path, split: str, fold: int, seed: int, **more: Any) -> Cohort:
        return published.load_published(root, name, split, **more)

    return DataSet(title, load, published.FOLDER, "as the page Datasets says", published.LICENCE)


def _hippocampus(root: Path, split: str, fold: int, seed: int, **more: Any) -> Cohort:
    return hippocampus.load_hippocampus(root, split, **more)


def _simulated(root: None, split: str, fold: int, seed: int, **more: Any) -> Cohort:
    return simulated.load_simulated_brains(split, seed=seed, **more)


DATASETS = {
    "simulated_brains": DataSet("simulated brains", _simulated, None, "", simulated.LICENCE, mass_at=simulated.MASS_AT),
    "hippocampus": DataSet(
        "hippocampus MR",
        _hippocampus,
        hippocampus.FOLDER,
        "with 'python data_scripts/fetch_hippocampus.py'",
        hippocampus.LICENCE,
    ),
    "liver_mr": _liver("liver_mr", "liver MR (CHAOS)", "cut around the liver (chapter 09)"),
    "liver_mr_body": _liver("liver_mr_body", "liver MR (CHAOS), whole body"),
    "sliver": _published("sliver", "SLIVER"),
    "lits": _published("lits", "LiTS"),
    "lspig": _published("lspig", "LSPIG"),
    "lpba": _published("lpba", "LPBA"),
}


def _known(name: str) -> str:
    if name not in DATASETS:
        raise ValueError(f"the known data sets are {', '.join(DATASETS)}")
    return name


DatasetName = Annotated[str, AfterValidator(_known)]  # of a setting that names a data set


def data_set(name: str) -> DataSet:
    """Look up a data set by name.

    Raises:
        InputError: there is none of this name.
    """
    if name not in DATASETS:
        raise InputError(unknown_name(name, DATASETS, "There is no data set"))
    return DATASETS[name]


def fold_of(name: str, fold: int | None, default: int = 0) -> int | None:
    """Settle which fold of a data set is meant: the one asked for, else the default; None for a set without folds.

    Raises:
        InputError: there is no data set of this name, or it is not tested in folds and one was asked for.
    """
    if data_set(name).folds:
        return default if fold is None else fold
    if fold is not None:
        raise InputError(f"The fold is {fold}, but {name} is not tested in folds; leave it out.")
    return None


def share_subjects(one: str | None, other: str | None) -> bool:
    """Say whether two data sets, which may be the same, are of the same subjects, tested in folds."""
    both = [DATASETS[name] for name in (one, other) if name in DATASETS]
    return len(both) == 2 and both[0].folder == both[1].folder and both[0].folds > 0


def load_cohort(
    name: str,
    split: str,
    root: str | Path | None = None,
    size: Sequence[int] | None = None,
    subjects: int | None = None,
    seed: int = 0,
    fold: int = 0,
) -> Cohort:
    """Load one split of a data set, ready for a network.

    Args:
        name: "simulated_brains" (offline), "hippocampus", "liver_mr", "liver_mr_body", or a set of the paper: "sliver",
            "lits", "lspig", "lpba".
        split: "train", "validation" or "test".
        root: the folder that holds downloaded sets; None takes the environment variable `LDDR_DATA`.
        size: (D, H, W) of the grid; None takes the data set's own.
        subjects: take only the first so many.
        seed: of simulated subjects.
        fold: of a set that is tested in folds.

    Raises:
        InputError: another name or split, or scans that are not there or cannot be used.
    """
    known = data_set(name)
    root = os.path.expanduser(root or os.environ.get("LDDR_DATA") or "")  # of a ~ that no shell has seen
    if known.folder is not None and not root:
        missing = f"The scans of {name} are not shipped: get them {known.get}"
        raise InputError(f"{missing}, then set LDDR_DATA to the folder that holds theirs.")
    more = {} if size is None else {"size": tuple(size)}
    return known.load(root, split, subjects=subjects, seed=seed, fold=fold, **more)
