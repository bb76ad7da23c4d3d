"""Is one method better than another? Differences on the same pairs, with an interval over pairs and seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import wilcoxon

from lddr.evaluate import summarise


def dice_table(records: Sequence[dict[str, Any]], measure: str = "dice") -> np.ndarray:
    """Dice of every pair and seed.

    Args:
        records: of runs that differ in their seed only, measured on the same pairs.
        measure: another figure of the rows, for example "jaccard".

    Returns:
        `[pairs, seeds]`.

    Raises:
        ValueError: the records are about different pairs.
    """
    pairs = [[(row["moving"], row["fixed"]) for row in record["rows"]] for record in records]
    if any(other != pairs[0] for other in pairs):
        raise ValueError("These records were measured on different pairs.")
    return np.array([[row[measure] for row in record["rows"]] for record in records]).T


def compare(
    ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]], measure: str = "dice"
) -> dict[str, float]:
    """By how much `ours` is better than `theirs`, on the same pairs.

    The interval comes from a bootstrap that draws pairs and, on each side, seeds with replacement: it is as wide as
    luck with either makes it. With a single seed on a side, luck of training is not in it. The pairs of a ring share
    subjects, so the interval is rather too narrow than too wide.

    Args:
        ours, theirs, measure: see `dice_table`.

    Returns:
        `gain` (mean difference), `low` and `high` (95 % interval), and `p` (Wilcoxon's signed-rank test over
        pairs, each averaged over seeds; 1 if nothing differs).

    Raises:
        ValueError: the records are about different pairs.

    Source: read in chapter 05.
    """
    together = dice_table([*ours, *theirs], measure)  # refuses records that cannot be compared
    a, b = together[:, : len(ours)], together[:, len(ours) :]
    difference = a.mean(1) - b.mean(1)
    generator = np.random.default_rng(0)

    def gain_of_a_draw() -> float:
        pairs = generator.integers(len(a), size=len(a))
        seeds_a, seeds_b = (generator.integers(x.shape[1], size=x.shape[1]) for x in (a, b))
        return float(a[pairs][:, seeds_a].mean() - b[pairs][:, seeds_b].mean())

    low, high = np.quantile([gain_of_a_draw() for _ in range(5000)], [0.025, 0.975]).tolist()
    p = wilcoxon(difference).pvalue if difference.any() else 1.0
    return {"gain": float(difference.mean()), "low": low, "high": high, "p": float(p)}


def across_folds(folds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One record out of a cross-validation's: every subject tested once, by a model new to it; chapter 09.

    Args:
        folds: records that differ in their fold only.

    Returns:
        The first record with the rows of all, and figures over all pairs in `test`.
    """
    rows = [row for record in folds for row in record["rows"]]
    labels = [int(k.removeprefix("dice_")) for k in rows[0] if k.startswith("dice_") and k != "dice_initial"]
    names = folds[0].get("test", folds[0])["dice_per_label"]  # a record of `lddr evaluate` has its figures on top
    return folds[0] | {"rows": rows, "test": summarise(rows, dict(zip(labels, names, strict=True)))}


def table_row(runs: Sequence[dict[str, Any]], reference: Sequence[dict[str, Any]] | None = None) -> dict[str, str]:
    """A line of the book's tables, from the records of one method.

    Args:
        runs: records, one a seed.
        reference: those of the method it is compared with; None leaves the comparison out.

    Returns:
        Column -> text: seeds, Dice (with the standard deviation over seeds), folded %, and the gain over the reference
        with its interval and p.
    """
    dice = dice_table(runs).mean(axis=0)
    spread = f" ± {dice.std(ddof=1):.3f}" if len(runs) > 1 else ""
    folded = np.mean([run["test"]["folding_percent"] for run in runs])
    row = {"seeds": str(len(runs)), "Dice": f"{dice.mean():.3f}{spread}", "folded %": f"{folded:.3f}"}
    if reference:
        gain = compare(runs, reference)
        row |= {"gain": f"{gain['gain']:+.4f}", "95 % interval": f"{gain['low']:+.3f}, {gain['high']:+.3f}"}
        row |= {"p": f"{gain['p']:.0e}"}
    return row
