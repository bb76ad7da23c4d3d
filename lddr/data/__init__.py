"""Scans: read from files, laid on a grid, gathered in cohorts."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from lddr.data.cohort import Cohort, evaluation_pairs, random_pairs
from lddr.data.grid import grid_affine, normalise, to_grid
from lddr.data.hippocampus import load_hippocampus
from lddr.data.liver import load_liver_mr
from lddr.data.nifti import Scan, read_image, read_labels, write_nifti
from lddr.data.published import SETS, load_published
from lddr.data.simulated import SimulatedCohort, load_simulated_brains
from lddr.errors import InputError

Dataset = Literal["simulated_brains", "hippocampus", "liver_mr", "liver_mr_body", "sliver", "lits", "lspig", "lpba"]
DATASETS = get_args(Dataset)


def load_cohort(
    name: str,
    split: str,
    root: str | Path | None = None,
    size: Sequence[int] | None = None,
    subjects: int | None = None,
    seed: int = 0,
    fold: int = 0,
) -> Cohort:
    """One split of a data set, ready for a network.

    Args:
        name: "simulated_brains" (offline), "hippocampus", "liver_mr", "liver_mr_body", or a set of the paper: "sliver",
            "lits", "lspig", "lpba".
        split: "train", "validation" or "test".
        root: the folder that holds downloaded sets; None takes the environment variable `LDDR_DATA`.
        size: (D, H, W) of the grid; None takes the data set's own.
        subjects: take only the first so many.
        seed: of simulated subjects.
        fold: of the liver sets, 0 to 3.

    Raises:
        InputError: another name or split, or scans that are not there or cannot be used.
    """
    more = {} if size is None else {"size": tuple(size)}
    if name == "simulated_brains":
        return load_simulated_brains(split, subjects=subjects, seed=seed, **more)
    if name not in DATASETS:
        raise InputError(f"There is no data set '{name}'; the known ones are {', '.join(DATASETS)}.")
    root = root or os.environ.get("LDDR_DATA")
    if not root:
        script = "fetch_hippocampus" if name == "hippocampus" else "fetch_chaos"
        way = "as the page Datasets says" if name in SETS else f"with 'python data_scripts/{script}.py'"
        missing = f"The scans of {name} are not shipped: get them {way}"
        raise InputError(f"{missing}, then set LDDR_DATA to the folder that holds theirs.")
    if name == "hippocampus":
        return load_hippocampus(root, split, subjects=subjects, **more)
    if name in SETS:
        return load_published(root, name, split, subjects=subjects, **more)
    return load_liver_mr(root, name, split, subjects=subjects, fold=fold, **more)
