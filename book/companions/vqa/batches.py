"""What a training works on, as tensors, and how it is cut into batches."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from companions.vqa.answers import AnswerSet
from companions.vqa.config import VqaConfig
from companions.vqa.imagenet import imagenet_features
from companions.vqa.model import CDAE, META, Inputs
from companions.vqa.questions import CDAE_SIDE, META_SIDE, Question, VqaData, resized
from companions.vqa.radiology import glove_of
from companions.vqa.words import Vocabulary, word_vectors


@dataclass(frozen=True)
class Part:
    """The questions of one part of the data, as tensors.

    Attributes:
        words: `[Q, length]`.
        which: index of each question's image, `[Q]`.
        targets: how right each answer is, `[Q, answers]`.
    """

    words: Tensor
    which: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Prepared:
    """Everything a model is trained on and tested with.

    Attributes:
        vocabulary, answers: of the training questions.
        vectors: of the words to start with, `[V, 600]`.
        images: all of them, as the model's encoders see them.
        train, test: the questions.
    """

    vocabulary: Vocabulary
    answers: AnswerSet
    vectors: Tensor
    images: Inputs
    train: Part
    test: Part


def prepare(data: VqaData, config: VqaConfig) -> Prepared:
    """Turn questions and images into tensors."""
    texts = [question.text for question in data.train]
    vocabulary, answers = Vocabulary(texts), AnswerSet(data.train)

    def part(questions: Sequence[Question]) -> Part:
        words = vocabulary.encode([question.text for question in questions])
        return Part(words, torch.tensor(data.index(questions)), answers.targets(questions))

    images = Inputs(
        small=resized(data.images, META_SIDE) if config.features in META else None,
        large=resized(data.images, CDAE_SIDE) if config.features in CDAE else None,
        frozen=imagenet_features(data.images) if config.features == "imagenet" else None,
    )
    vectors = word_vectors(vocabulary, texts, glove_of(data.name), config.seed)
    return Prepared(vocabulary, answers, vectors, images, part(data.train), part(data.test))


def batches(which: Tensor, size: int, per_image: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Cut questions into batches, in random order, a few questions of an image side by side.

    An image has ten questions on average, and encoding it is most of the work. Questions that stand in one batch share
    the encoding; with four of an image together, a batch of 32 encodes about 10 images instead of 31.

    Args:
        which: index of each question's image, `[Q]`.
        size: questions of a batch; the last one may have fewer.
        per_image: how many of an image stand together; 1 draws questions one by one.
        generator: decides.

    Yields:
        Indices of questions, each once.
    """
    order = torch.randperm(len(which), generator=generator)
    of_image: dict[int, list[int]] = defaultdict(list)
    for question, image in zip(order.tolist(), which[order].tolist(), strict=True):
        of_image[image].append(question)
    groups = [found[i : i + per_image] for found in of_image.values() for i in range(0, len(found), per_image)]
    shuffled = torch.randperm(len(groups), generator=generator).tolist()
    questions = torch.tensor([question for group in shuffled for question in groups[group]])
    yield from questions.split(size)
