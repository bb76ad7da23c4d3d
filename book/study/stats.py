"""Is one method better than another? Differences on the same pairs, with an interval over pairs and seeds."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import t
from statsmodels.stats.multitest import multipletests

from lddr.infer.evaluate import summarise
from lddr.record import Record, column


def dice_table(records: Sequence[Record], measure: str = "dice") -> np.ndarray:
    """Collect the Dice of every pair and seed.

    Args:
        records: of runs that differ in their seed only, measured on the same pairs.
        measure: another figure of the rows, for example "jaccard".

    Returns:
        `[pairs, seeds]`.

    Raises:
        ValueError: the records are about different pairs.
    """
    pairs = [[(row["moving"], row["fixed"]) for row in record.rows] for record in records]
    if any(other != pairs[0] for other in pairs):
        raise ValueError("These records were measured on different pairs.")
    return np.array([column(record.rows, measure) for record in records]).T


def compare(ours: Sequence[Record], theirs: Sequence[Record], measure: str = "dice") -> dict[str, float]:
    """Measure by how much `ours` is better than `theirs`, on the same pairs.

    The standard error adds up what pairs and, on each side, seeds contribute. Pairs that share a subject are
    correlated: n subjects are worth n / 2 independent pairs. With a single seed on a side, the interval leaves out what
    another seed would change.

    Args:
        ours, theirs, measure: see `dice_table`.

    Returns:
        `gain` (mean difference), `low` and `high` (95 % interval) and `p`, both from Student's t. Of fewer than four
        subjects no two pairs are independent: their interval is infinite.

    Raises:
        ValueError: the records are about different pairs.

    Source: chapter 09 builds the share of the pairs, chapter 10 that of the seeds.
    """
    together = dice_table([*ours, *theirs], measure)  # refuses records that cannot be compared
    a, b = together[:, : len(ours)], together[:, len(ours) :]
    difference = a.mean(1) - b.mean(1)
    gain, rest = float(difference.mean()), difference - difference.mean()
    subjects = [{row["moving"], row["fixed"]} for row in ours[0].rows]
    n_effective = len(set().union(*subjects)) // 2
    if n_effective < 2:
        return {"gain": gain, "low": -np.inf, "high": np.inf, "p": 1.0}
    sharing = np.array([[not one.isdisjoint(other) for other in subjects] for one in subjects])
    of_pairs = max(rest @ sharing @ rest, rest @ rest) / len(rest) ** 2 * n_effective / (n_effective - 1)
    parts = [(of_pairs, n_effective - 1)]  # variance of the mean, degrees of freedom
    parts += [(x.mean(0).var(ddof=1) / x.shape[1], x.shape[1] - 1) for x in (a, b) if x.shape[1] > 1]
    variance = sum(part for part, _ in parts)
    if variance == 0:  # every pair and every seed says the same
        return {"gain": gain, "low": gain, "high": gain, "p": float(gain == 0)}
    freedom = variance**2 / sum(part**2 / free for part, free in parts)  # Welch's
    half, p = t.ppf(0.975, freedom) * variance**0.5, 2 * t.sf(abs(gain) / variance**0.5, freedom)
    return {"gain": gain, "low": float(gain - half), "high": float(gain + half), "p": float(p)}


def holm(p_values: Sequence[float]) -> np.ndarray:
    """Correct p-values for how many they are, by Holm's method.

    Args:
        p_values: in any order; NaN stands for a test that was not made.

    Returns:
        The corrected values, in the order given; NaN where there was no test.

    Source: Holm 1979, by statsmodels; chapter 09 builds it.
    """
    corrected = np.array(p_values, dtype=float)
    made = ~np.isnan(corrected)
    if made.any():
        corrected[made] = multipletests(corrected[made], method="holm")[1]
    return corrected


def across_folds(folds: Sequence[Record]) -> Record:
    """Join the records of a cross-validation: every subject tested once, by a model new to it.

    Args:
        folds: records that differ in their fold only.

    Returns:
        The first record with the rows of all, no fold, and figures over all pairs in `test`.
    """
    rows = [row for record in folds for row in record.rows]
    labels = [int(k.removeprefix("dice_")) for k in rows[0] if k.startswith("dice_") and k != "dice_initial"]
    names = dict(zip(labels, folds[0].test.dice_per_label, strict=True))
    return folds[0].model_copy(update={"rows": rows, "test": summarise(rows, names), "fold": None})
