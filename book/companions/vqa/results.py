"""What the records say of each variant: its runs, its accuracy, and the rows of Tables 1 and 2."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from companions.vqa.evaluate import accuracy, mean_accuracy
from companions.vqa.record import AnyRecord, QuestionsRecord, VqaRecord, unpack_scores
from lddr.errors import InputError

Records = Mapping[str, AnyRecord]
# The papers' figures (open, closed, all), the only ones that are quoted. None: not given.
PAPER: dict[tuple[str, str], tuple[float | None, float | None, float | None]] = {
    ("maml", "san"): (40.1, 72.4, 59.6),
    ("mevf", "san"): (40.7, 74.1, None),
    ("mevf", "ban"): (43.9, 75.1, 62.7),
    ("mmq", "ban"): (53.7, 75.8, 67.0),
    ("mmq_mevf", "ban"): (56.9, 75.7, 68.2),
}
IN_WORDS = {
    "question_only": "question alone",
    "most_frequent": "most frequent answer of the question's type",
    "nearest_question": "answer of the most similar question on the same image",
    "maml_scratch": "MAML's network, from scratch",
    "cdae_scratch": "CDAE, from scratch",
    "mevf_scratch": "MEVF, from scratch",
    "maml": "MAML",
    "cdae": "CDAE",
    "mevf": "MEVF",
    "mmq": "MMQ",
    "mmq_mevf": "MMQ + MEVF",
    "imagenet": "ImageNet features",
    "maml_authors": "MAML, the authors' weights",
    "cdae_authors": "CDAE, the authors' weights",
    "mevf_authors": "MEVF, the authors' weights",
    "mmq_mevf_long": "MMQ + MEVF, 40 epochs",
    "mevf_long": "MEVF, 40 epochs",
}


class Row(NamedTuple):
    """One row of a table.

    Attributes:
        name: in words.
        runs: how many; 0 for a baseline that learns nothing.
        figures: name of a figure, see `Accuracy` -> mean and standard deviation over runs.
        shuffled: accuracy with the images of other questions; None for a baseline.
        paper: the paper's open, closed and overall figures, in percent, if it gives any.
    """

    name: str
    runs: int
    figures: Mapping[str, tuple[float, float]]
    shuffled: tuple[float, float] | None
    paper: tuple[float | None, float | None, float | None] | None


def questions_of(records: Records, split: str, dataset: str = "vqa_rad") -> QuestionsRecord | None:
    """Find the test questions of a split among records; None if they were not written down."""
    found = (r for r in records.values() if isinstance(r, QuestionsRecord))
    return next((r for r in found if (r.dataset, r.split) == (dataset, split)), None)


def runs_of(records: Records, split: str, variant: str, attention: str, dataset: str = "vqa_rad") -> list[VqaRecord]:
    """Find the runs of a variant, which differ in their seed only, ordered by it.

    Raises:
        InputError: a run answered other questions than those of the split.
    """
    found = [r for r in records.values() if isinstance(r, VqaRecord)]
    found = [r for r in found if (r.dataset, r.split, r.variant) == (dataset, split, variant)]
    found = [r for r in found if r.attention == attention or r.features == "none"]
    asked = questions_of(records, split, dataset)
    for record in found:
        if asked and record.test_set != asked.test_set:
            raise InputError(f"A run of {variant} answered other questions than those of the split {split}.")
    return sorted(found, key=lambda record: record.seed)


def score_matrix(found: Sequence[VqaRecord]) -> np.ndarray:
    """Collect the scores of runs, `[runs, questions]`."""
    return np.stack([unpack_scores(record.scores) for record in found])


def table_rows(records: Records, split: str, attention: str, variants: Sequence[str]) -> list[Row]:
    """Make the rows of a table: baselines first, then those of the variants that were recorded."""
    rows, asked = [], questions_of(records, split)
    for name, scores in (asked.baselines if asked else {}).items():
        figures = mean_accuracy([accuracy(asked.questions(), unpack_scores(scores))]) if asked else {}
        rows.append(Row(IN_WORDS[name], 0, figures, None, None))
    for variant in variants:
        if found := runs_of(records, split, variant, attention):
            figures = mean_accuracy([record.test for record in found])
            others = mean_accuracy([record.shuffled for record in found]).get("all")
            rows.append(Row(IN_WORDS[variant], len(found), figures, others, PAPER.get((variant, attention))))
    return rows


def possible_counts(percent: float, questions: int) -> list[int]:
    """List the numbers of right answers that give a figure, rounded to a tenth of a percent.

    Source: 43.9, 75.1 and 62.7 % are no shares of the 179 open, 272 closed and 451 test questions at once, but 54, 139
    and 193 of the 123, 185 and 308 free-form ones: the released test script skips all others.
    """
    return [right for right in range(questions + 1) if round(100 * right / questions, 1) == percent]
