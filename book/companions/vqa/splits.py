"""How questions are parted into training and test, and how much of the test is given away."""

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from companions.vqa.questions import Question

TEST_SHARE = 0.2  # of the images of each organ


class Leakage(NamedTuple):
    """What the training questions give away about the test.

    Attributes:
        images, images_in_training: test images, and how many of them stand in training too.
        questions, open_questions: test questions, and the open ones among them.
        patterns: test questions about whose image training has a question made from a pattern ("frame"), of the same
            type and with the same answer: as a rule, it is the test question itself in other words.
        pairs: test questions whose very words were asked about the same image in training.
        same_open_answer: open test questions about whose image a training question has the same answer.
        unseen, unseen_open: test questions, and open ones, whose answer never occurs in training.
    """

    images: int
    images_in_training: int
    questions: int
    open_questions: int
    patterns: int
    pairs: int
    same_open_answer: int
    unseen: int
    unseen_open: int

    @property
    def ceiling(self) -> float:
        """The accuracy that no classifier over training answers can exceed."""
        return 1 - self.unseen / self.questions

    @property
    def open_ceiling(self) -> float:
        """The same for open questions."""
        return 1 - self.unseen_open / self.open_questions if self.open_questions else 1.0


def measure_leakage(train: Sequence[Question], test: Sequence[Question]) -> Leakage:
    """Count what the training questions give away about the test questions."""
    seen_images = {question.image for question in train}
    seen_pairs = {(question.image, words(question)) for question in train}
    frames = {(q.image, q.types, q.answer) for q in train if q.phrase == "frame"}
    seen_facts = {(question.image, question.answer) for question in train}
    answers = {question.answer for question in train}
    images = {question.image for question in test}
    unseen = [question for question in test if question.answer not in answers]
    return Leakage(
        images=len(images),
        images_in_training=len(images & seen_images),
        questions=len(test),
        open_questions=sum(not question.closed for question in test),
        patterns=sum((q.image, q.types, q.answer) in frames for q in test),
        pairs=sum((question.image, words(question)) in seen_pairs for question in test),
        same_open_answer=sum((q.image, q.answer) in seen_facts for q in test if not q.closed),
        unseen=len(unseen),
        unseen_open=sum(not question.closed for question in unseen),
    )


def words(question: Question) -> str:
    """Write a question's text so that two that differ in case or spaces only are equal."""
    return " ".join(question.text.lower().split())


def split_by_image(
    questions: Sequence[Question], share: float = TEST_SHARE, seed: int = 0
) -> tuple[tuple[Question, ...], tuple[Question, ...]]:
    """Part questions so that no image is in both parts.

    A fifth of the images of each organ is drawn for the test. Questions made from a pattern ("frame") are left out of
    the test, as in the official one.

    Returns:
        Training and test questions, in the order given.
    """
    images = defaultdict(set)
    for question in questions:
        images[question.organ].add(question.image)
    drawn: set[str] = set()
    for organ in sorted(images):
        names = sorted(images[organ])
        random.Random(f"{seed} {organ}").shuffle(names)
        drawn.update(names[: round(share * len(names))])
    train = tuple(question for question in questions if question.image not in drawn)
    test = tuple(question for question in questions if question.image in drawn and question.phrase != "frame")
    return train, test
