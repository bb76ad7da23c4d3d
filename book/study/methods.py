"""The recorded runs, gathered by method: what every table and figure of chapters 09 to 12 is read from."""

from lddr.record import Method, Record
from study.records import read_records
from study.stats import across_folds

FOLDS = 4
ADAPTED = ", adapted to each pair"


def in_words(cascades: int) -> str:
    """Count cascades as every table does: "1 cascade", "3 cascades"."""
    return f"{cascades} cascade{'s' * (cascades > 1)}"


# The methods of Table 1, in its order.
METHODS = (
    "ANTs SyN",
    "Elastix affine + B-spline",
    "VoxelMorph + affine",
    "RCN, VoxelMorph, 3 cascades",
    *(f"RCN, VTN, {in_words(n)}" for n in (1, 2, 3)),
    "RCN, VTN, 3 cascades, softer",
    *(f"LDR, {in_words(n)}" for n in (1, 2, 3)),
    *(f"LDR + ALDK, {in_words(n)}" for n in (1, 2, 3)),
    *(f"LDR, best recipe, {in_words(n)}" for n in (1, 2, 3)),
    *(f"LDR, best recipe with l2, {in_words(n)}" for n in (1, 2, 3)),
    *(f"LDR, best recipe, {in_words(n)}{ADAPTED}" for n in (1, 3)),
    f"RCN, VTN, 3 cascades{ADAPTED}",
)
TOOLS = {"ants_syn": "ANTs SyN", "elastix": "Elastix affine + B-spline"}
# How a network is called, by what it was trained with: (network, objective, recipe).
NETWORKS = {
    ("ldr", "none", "plain"): "LDR",
    ("ldr", "paper", "plain"): "LDR + ALDK",
    ("ldr", "none", "best"): "LDR, best recipe",
    ("ldr", "l2", "best"): "LDR, best recipe with l2",
    ("vtn", "none", "plain"): "RCN, VTN",
    ("vtn", "none", "softer"): "RCN, VTN",
    ("voxelmorph", "none", "plain"): "RCN, VoxelMorph",
}


def title(method: Method) -> str | None:
    """Name a method as Table 1 does; None if it is not one of the table's."""
    if method.tool:
        return TOOLS[method.tool]
    kind = NETWORKS.get((method.network or "", method.objective or "", method.recipe))
    if kind is None or method.cascades is None:
        return None
    words = f"{kind}, {in_words(method.cascades)}"
    if words == "RCN, VoxelMorph, 1 cascade":
        words = "VoxelMorph + affine"  # one cascade of it is the method of its own authors
    if method.adapted:
        words += ADAPTED
    elif method.recipe == "softer":
        words += ", softer"
    return words if words in METHODS else None


def whole_runs(dataset: str) -> dict[str, Record]:
    """Read the records of a data set, each cross-validation joined into one.

    Args:
        dataset: for example "liver_mr".

    Returns:
        Name without its fold -> record; a cross-validation with missing folds is left out.
    """
    records = read_records(dataset)
    runs: dict[str, Record] = {}
    for name, record in records.items():
        stem = name if record.fold is None else name.removesuffix(f"_fold{record.fold}")
        folds = [f"{stem}_fold{k}" for k in range(FOLDS)]
        if record.fold is None:
            runs[name] = record
        elif stem not in runs and set(folds) <= set(records):
            runs[stem] = across_folds([records[fold] for fold in folds])
    return runs


def by_method(dataset: str) -> dict[str, list[Record]]:
    """Gather the records of each method of Table 1 on one data set, one a seed; chapter 09.

    Args:
        dataset: for example "hippocampus".

    Returns:
        Method -> records, in the order of the table; methods without a record are left out.
    """
    found: dict[str, list[Record]] = {name: [] for name in METHODS}
    for record in whole_runs(dataset).values():
        name = title(record.method)
        if name and "test" in record.split:  # some runs are measured on training subjects
            found[name].append(record)
    return {name: records for name, records in found.items() if records}
