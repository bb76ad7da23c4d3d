"""Answers as classes: which there are, and how right each is for a question."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from companions.vqa.questions import Question


def soft_scores(answers: Sequence[str]) -> dict[str, float]:
    """Score the answers that people gave to one question.

    Where several people answered, an answer is worth 0.3 for each who gave it, and at most 1, as in general visual
    question answering. A lone answer, which is all that VQA-RAD has, is worth 1.
    """
    if len(answers) == 1:
        return {answers[0]: 1.0}
    return {answer: round(min(1.0, 0.3 * count), 1) for answer, count in Counter(answers).items()}


class AnswerSet:
    """The answers that occur in training, in alphabetical order: the classes that a model chooses from.

    Args:
        questions: to train on.
    """

    def __init__(self, questions: Sequence[Question]) -> None:
        self.answers = sorted({question.answer for question in questions})
        self.place = {answer: place for place, answer in enumerate(self.answers)}

    def __len__(self) -> int:
        """Count the answers."""
        return len(self.answers)

    def targets(self, questions: Sequence[Question]) -> Tensor:
        """Write how right each answer is for each question, `[B, answers]`; all zero if its answer is not known."""
        rows = torch.zeros(len(questions), len(self))
        for row, question in zip(rows, questions, strict=True):
            for answer, score in soft_scores([question.answer]).items():
                if answer in self.place:
                    row[self.place[answer]] = score
        return rows


def score(logits: Tensor, targets: Tensor) -> Tensor:
    """Give the score of the answer that a model prefers, `[B]`; both arguments are `[B, answers]`."""
    return targets.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)
