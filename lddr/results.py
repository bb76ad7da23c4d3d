"""The recorded runs, gathered by method: what every table and figure of chapters 09 to 12 is read from."""

import re
from typing import Any

from lddr.compare import across_folds
from lddr.records import read_records


def in_words(cascades: int) -> str:
    """How every table says it: "1 cascade", "3 cascades"."""
    return f"{cascades} cascade{'s' * (cascades > 1)}"


# Method -> the names of its records, folds left out; several matches are several seeds.
METHODS = {
    "ANTs SyN": "baseline_ants_syn",
    "Elastix affine + B-spline": "baseline_elastix",
    "VoxelMorph + affine": r"voxelmorph_1cas(_seed\d)?",
    "RCN, VoxelMorph, 3 cascades": r"voxelmorph_3cas(_seed\d)?",
    **{f"RCN, VTN, {in_words(n)}": f"teacher_{n}cas" for n in (1, 2, 3)},
    "RCN, VTN, 3 cascades, softer": "teacher_3cas_fine",
    **{f"LDR, {in_words(n)}": rf"student_{n}cas_none_seed\d" for n in (1, 2, 3)},
    **{f"LDR + ALDK, {in_words(n)}": rf"student_{n}cas_paper_seed\d" for n in (1, 2, 3)},
    **{f"LDR, best recipe, {in_words(n)}": rf"beyond_{n}cas_none(_seed\d)?" for n in (1, 2, 3)},
    **{f"LDR, best recipe with l2, {in_words(n)}": rf"beyond_{n}cas_l2(_seed\d)?" for n in (1, 2, 3)},
    **{f"LDR, best recipe, {in_words(n)}, adapted to each pair": f"adapted_{n}cas" for n in (1, 3)},
    "RCN, VTN, 3 cascades, adapted to each pair": "adapted_teacher_3cas",
}


def whole_runs(dataset: str) -> dict[str, dict[str, Any]]:
    """The records of a data set, each cross-validation joined into one.

    Args:
        dataset: for example "liver_mr".

    Returns:
        Name without its fold -> record; a cross-validation with missing folds is left out.
    """
    records, runs = read_records(dataset), {}
    for name, record in records.items():
        stem, in_folds, _ = name.partition("_fold")
        folds = [f"{stem}_fold{k}" for k in range(4)]
        if not in_folds:
            runs[name] = record
        elif stem not in runs and set(folds) <= set(records):
            runs[stem] = across_folds([records[fold] for fold in folds])
    return runs


def by_method(dataset: str) -> dict[str, list[dict[str, Any]]]:
    """The records of each method of Table 1 on one data set, one a seed; chapter 09.

    Args:
        dataset: for example "hippocampus".

    Returns:
        Method -> records, in the order of the table; methods without a record are left out.
    """
    runs = whole_runs(dataset)
    found = {m: [r for name, r in runs.items() if re.fullmatch(pattern, name)] for m, pattern in METHODS.items()}
    return {method: records for method, records in found.items() if records}
