"""Is one method better than another? Differences on the same pairs, with an interval over pairs and seeds."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import t

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

    The standard error adds up what pairs and, on each side, seeds contribute. Pairs that share a person are no
    independent witnesses: n people are worth n / 2 pairs. With a single seed on a side, luck of training is not in it.

    Args:
        ours, theirs, measure: see `dice_table`.

    Returns:
        `gain` (mean difference), `low` and `high` (95 % interval) and `p`, both from Student's t. Of fewer than four
        people no two pairs are independent: their interval is infinite.

    Raises:
        ValueError: the records are about different pairs.

    Source: chapter 09 builds the share of the pairs, chapter 10 that of the seeds.
    """
    together = dice_table([*ours, *theirs], measure)  # refuses records that cannot be compared
    a, b = together[:, : len(ours)], together[:, len(ours) :]
    difference = a.mean(1) - b.mean(1)
    gain, rest = float(difference.mean()), difference - difference.mean()
    people = [{row["moving"], row["fixed"]} for row in ours[0]["rows"]]
    witnesses = len(set().union(*people)) // 2
    if witnesses < 2:
        return {"gain": gain, "low": -np.inf, "high": np.inf, "p": 1.0}
    sharing = np.array([[not one.isdisjoint(other) for other in people] for one in people])
    of_pairs = max(rest @ sharing @ rest, rest @ rest) / len(rest) ** 2 * witnesses / (witnesses - 1)
    parts = [(of_pairs, witnesses - 1)]  # variance of the mean, degrees of freedom
    parts += [(x.mean(0).var(ddof=1) / x.shape[1], x.shape[1] - 1) for x in (a, b) if x.shape[1] > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:  # every pair and every seed says the same
        return {"gain": gain, "low": gain, "high": gain, "p": float(gain == 0)}
    freedom = variance**2 / sum(part**2 / free for part, free in parts)  # Welch's
    half, p = t.ppf(0.975, freedom) * variance**0.5, 2 * t.sf(abs(gain) / variance**0.5, freedom)
    return {"gain": gain, "low": float(gain - half), "high": float(gain + half), "p": float(p)}


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
