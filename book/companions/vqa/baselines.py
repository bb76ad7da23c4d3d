"""Answers without a look at the image: what every model must be measured against."""

from collections import Counter, defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from companions.vqa.questions import Question
from companions.vqa.words import tokenise


def most_frequent(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """Give the most frequent training answer of each test question's type, open and closed apart.

    A type that training does not have gets the most frequent answer of all open, or closed, questions.
    """
    of_type: dict[tuple[bool, str], Counter[str]] = defaultdict(Counter)
    of_kind: dict[bool, Counter[str]] = defaultdict(Counter)
    for question in train:
        of_type[question.closed, question.types[0]][question.answer] += 1
        of_kind[question.closed][question.answer] += 1

    def best(question: Question) -> str:
        count = of_type[question.closed, question.types[0]] or of_kind[question.closed] or of_kind[not question.closed]
        return min(count, key=lambda answer: (-count[answer], answer))

    return [best(question) for question in test]


def nearest_question(train: Sequence[Question], test: Sequence[Question]) -> list[str]:
    """Copy the answer of the most similar training question, if possible of one about the same image.

    Similarity is the share of words that two questions have in common. This baseline looks at no image, only at its
    name: what it gets right on the official split is what the overlap of the two parts gives away.
    """
    words = [set(tokenise(question.text)) for question in train]
    of_image: dict[str, list[int]] = defaultdict(list)
    for number, question in enumerate(train):
        of_image[question.image].append(number)

    def similarity(mine: set[str], number: int) -> float:
        return len(mine & words[number]) / max(1, len(mine | words[number]))

    answers = []
    for question in test:
        mine = set(tokenise(question.text))
        among = of_image[question.image] or range(len(train))
        answers.append(train[max(among, key=lambda number: (similarity(mine, number), -number))].answer)
    return answers


def right(given: Sequence[str], questions: Sequence[Question]) -> list[float]:
    """Score answers in words: 1 if it is the question's own, else 0."""
    return [float(answer == question.answer) for answer, question in zip(given, questions, strict=True)]


def shuffled(which: Tensor, seed: int = 0) -> Tensor:
    """Deal the images of the questions out anew, so that no answer can come from the image; `[Q]` indices.

    Every image stays as frequent as it was. A question keeps its own image only by chance.
    """
    return which[torch.randperm(len(which), generator=torch.Generator().manual_seed(seed))]
