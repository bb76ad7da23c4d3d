"""How well questions are answered, and whether one model answers better than another."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict
from statsmodels.stats.contingency_tables import mcnemar

from companions.vqa.questions import Question

RESAMPLES = 2000  # of the bootstrap


class Accuracy(BaseModel):
    """Shares of questions answered rightly; null where there is no question of the kind.

    Attributes:
        all, open, closed: of all test questions.
        free_all, free_open, free_closed: of the free-form ones, the only ones that the authors' test script counts.
        by_type: of each question type; a question of two types counts in both.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    all: float | None
    open: float | None
    closed: float | None
    free_all: float | None
    free_open: float | None
    free_closed: float | None
    by_type: dict[str, float | None] = {}


def share(scores: np.ndarray, chosen: np.ndarray) -> float | None:
    """Average the scores of the chosen questions; None if there are none."""
    return float(scores[chosen].mean()) if chosen.any() else None


def accuracy(questions: Sequence[Question], scores: Sequence[float] | np.ndarray) -> Accuracy:
    """Summarise the scores of test questions.

    Args:
        questions: of the test.
        scores: of each, in the same order.

    Raises:
        ValueError: not as many scores as questions.
    """
    values = np.asarray(scores, dtype=float)
    if len(values) != len(questions):
        raise ValueError(f"There are {len(questions)} questions, but {len(values)} scores.")
    closed = np.array([question.closed for question in questions], dtype=bool)
    free = np.array([question.phrase == "freeform" for question in questions], dtype=bool)
    everything = np.ones(len(questions), dtype=bool)
    kinds = sorted({kind for question in questions for kind in question.types})
    of_kind = {kind: np.array([kind in question.types for question in questions]) for kind in kinds}
    return Accuracy(
        all=share(values, everything),
        open=share(values, ~closed),
        closed=share(values, closed),
        free_all=share(values, free),
        free_open=share(values, free & ~closed),
        free_closed=share(values, free & closed),
        by_type={kind: share(values, chosen) for kind, chosen in of_kind.items()},
    )


class Difference(NamedTuple):
    """By how much one model is better than another.

    Attributes:
        gain: difference of the mean scores.
        low, high: 95 % interval.
        p: two-sided, of no difference.
    """

    gain: float
    low: float
    high: float
    p: float

    def __str__(self) -> str:
        """Write the gain and its interval in points of a hundred."""
        return f"{100 * self.gain:+.1f} [{100 * self.low:+.1f}, {100 * self.high:+.1f}]"


def paired_bootstrap(
    ours: np.ndarray, theirs: np.ndarray, images: Sequence[str], resamples: int = RESAMPLES, seed: int = 0
) -> Difference:
    """Compare two models on the same questions by resampling images, and the runs of each.

    Questions about one image are correlated, so whole images are drawn. Each side's runs, which differ in their seed,
    are drawn too, so the interval holds what another seed would change. With a single run it does not.

    Args:
        ours, theirs: scores, `[runs, questions]`; the numbers of runs may differ.
        images: of each question.
        resamples: how often is drawn.
        seed: of the drawing.

    Raises:
        ValueError: the two are not about the same questions.
    """
    if ours.shape[1:] != theirs.shape[1:] or ours.shape[1] != len(images):
        raise ValueError(f"These scores are of {ours.shape[1]}, {theirs.shape[1]} and {len(images)} questions.")
    rng = np.random.default_rng(seed)
    names, place = np.unique(np.asarray(images), return_inverse=True)
    size = np.bincount(place)

    def sums(scores: np.ndarray) -> np.ndarray:
        """Add up the scores of each image's questions, `[runs, images]`."""
        return np.stack([np.bincount(place, weights=row) for row in scores])

    a, b = sums(ours), sums(theirs)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=resamples)  # times each image comes
    runs_a = rng.integers(len(a), size=(resamples, len(a)))
    runs_b = rng.integers(len(b), size=(resamples, len(b)))
    questions = drawn @ size
    gains = np.einsum("ri,ri->r", drawn, a[runs_a].mean(1) - b[runs_b].mean(1)) / questions
    gain = float(ours.mean() - theirs.mean())
    low, high = np.percentile(gains, [2.5, 97.5])
    tail = min((gains <= 0).mean(), (gains >= 0).mean())
    return Difference(gain, float(low), float(high), float(min(1.0, 2 * max(tail, 1 / resamples))))


def mcnemar_test(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Test whether two runs are right equally often, by the questions that only one of them answers (McNemar, exact).

    Args:
        ours, theirs: scores of one run each, `[questions]`, 0 or 1.

    Returns:
        The p-value; it takes questions for independent and leaves out what another seed would change.
    """
    right, other = ours > 0.5, theirs > 0.5
    table = [[np.sum(right & other), np.sum(right & ~other)], [np.sum(~right & other), np.sum(~right & ~other)]]
    return float(mcnemar(np.array(table), exact=True).pvalue)


def mean_accuracy(found: Sequence[Accuracy]) -> Mapping[str, tuple[float, float]]:
    """Average over runs: name of a figure -> its mean and standard deviation (0 for a single run)."""
    names = [name for name in Accuracy.model_fields if name != "by_type"]
    values = {name: [getattr(one, name) for one in found if getattr(one, name) is not None] for name in names}
    return {name: (float(np.mean(x)), float(np.std(x, ddof=len(x) > 1))) for name, x in values.items() if x}
