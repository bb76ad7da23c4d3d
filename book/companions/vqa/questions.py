"""What the task is about: a question on an image, its answer, and a data set of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

STORED = 224  # pixels a side of the stored images; what a network sees is made from them
META_SIDE, CDAE_SIDE = 84, 128  # of the images that the two encoders of MEVF take


@dataclass(frozen=True)
class Question:
    """A question with its answer.

    Attributes:
        qid: its number in the data set.
        image: name of the image it is about.
        organ: what the image shows, for example "HEAD".
        text: the question.
        answer: as `plain` writes it.
        closed: whether it can be answered by choosing from a few given words, mostly yes and no.
        types: what is asked for, for example ("PRES",): whether something is present.
        phrase: "freeform", as a physician asked it; "para", the same in other words; "frame", made from a pattern.
    """

    qid: int
    image: str
    organ: str
    text: str
    answer: str
    closed: bool
    types: tuple[str, ...] = ("OTHER",)
    phrase: str = "freeform"


@dataclass(frozen=True)
class VqaData:
    """Images, and the questions about them to train on and to be tested with.

    Attributes:
        name: of the data set.
        split: how training and test questions were parted, see `companions.vqa.splits`.
        names: of the images, in their order.
        images: `[N, 1, 224, 224]`, uint8 grey values; a picture of other proportions was squeezed to a square.
        train, test: the questions.
        licence: of the images.
    """

    name: str
    split: str
    names: tuple[str, ...]
    images: Tensor
    train: tuple[Question, ...]
    test: tuple[Question, ...]
    licence: str | None = None

    def index(self, questions: Sequence[Question]) -> list[int]:
        """Find the index of the image of each question."""
        place = {name: index for index, name in enumerate(self.names)}
        return [place[question.image] for question in questions]

    def training_images(self) -> list[int]:
        """List the indices of the images that training questions are about: no other may be learnt from."""
        return sorted(set(self.index(self.train)))


def plain(answer: str | int | float) -> str:
    """Write an answer in lower case, with single spaces, so that "Yes " and "yes" are one."""
    return " ".join(str(answer).lower().split())


def resized(images: Tensor, side: int) -> Tensor:
    """Bring stored images to another size.

    Args:
        images: `[N, 1, 224, 224]`, uint8.
        side: in pixels.

    Returns:
        `[N, 1, side, side]`, float32 in [0, 1].
    """
    return F.interpolate(images.float() / 255, (side, side), mode="bilinear", antialias=True, align_corners=False)
