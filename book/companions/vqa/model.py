"""The whole model: image encoders, question encoder, attention, classifier."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from companions.vqa.ban import BilinearAttention, normalised
from companions.vqa.cdae import CODE, Cdae
from companions.vqa.config import VqaConfig
from companions.vqa.meta_net import WIDTH, MetaNet
from companions.vqa.question import QuestionEncoder
from companions.vqa.san import StackedAttention

META, CDAE = ("meta", "mevf", "mmq", "mmq_mevf"), ("cdae", "mevf", "mmq_mevf")  # features that use each encoder
FROZEN = 1280  # numbers of EfficientNet-Lite0 at each place of an image
PROJECTED = 2 * WIDTH  # numbers that are made of them: as many as MEVF has


class Inputs(NamedTuple):
    """The images of a batch, as far as a model looks at them.

    Attributes:
        small: for the meta-models, `[M, 1, 84, 84]`.
        large: for the auto-encoder, `[M, 1, 128, 128]`.
        frozen: features of EfficientNet-Lite0, `[M, places, 1280]`.
    """

    small: Tensor | None = None
    large: Tensor | None = None
    frozen: Tensor | None = None

    def rows(self, index: Tensor) -> "Inputs":
        """Take some of the images."""
        return Inputs(*(x if x is None else x[index].float() for x in self))


class Output(NamedTuple):
    """What a model says.

    Attributes:
        logits: of each answer, `[B, answers]`.
        attention: see `san` and `ban`; None for a model that sees no image.
        reconstructed: what the auto-encoder makes of the first images, `[decoded, 1, 128, 128]`; None without one.
    """

    logits: Tensor
    attention: Tensor | None
    reconstructed: Tensor | None


class ImageEncoder(nn.Module):
    """Describe an image by vectors: of meta-models and auto-encoder side by side, or of a frozen network.

    Args:
        features: see `VqaConfig`.
        meta_models: how many meta-models are side by side.
    """

    def __init__(self, features: str, meta_models: int = 1) -> None:
        super().__init__()
        self.meta = nn.ModuleList(MetaNet() for _ in range(meta_models if features in META else 0))
        self.cdae = Cdae() if features in CDAE else None
        self.convert = nn.Linear(CODE, WIDTH) if features in CDAE else None
        self.project = nn.Linear(FROZEN, PROJECTED) if features == "imagenet" else None
        self.size = PROJECTED if features == "imagenet" else WIDTH * (len(self.meta) + (features in CDAE))

    def forward(self, images: Inputs, decoded: int = 0) -> tuple[Tensor, Tensor | None]:
        """Describe images.

        Args:
            images: M of them.
            decoded: how many of them the auto-encoder shall reconstruct.

        Returns:
            `[M, places, size]`, where MEVF has a single place; and the reconstructions.
        """
        if self.project is not None and images.frozen is not None:
            return torch.relu(self.project(images.frozen)), None
        parts = [net(images.small) for net in self.meta]
        reconstructed = None
        if self.cdae is not None and self.convert is not None and images.large is not None:
            code = self.cdae.encode(images.large)
            parts.append(self.convert(code.flatten(1)))
            reconstructed = self.cdae.decode(code[:decoded]) if decoded else None
        return torch.cat(parts, dim=1)[:, None], reconstructed


class VqaModel(nn.Module):
    """Answer questions about images.

    Args:
        config: features, attention and sizes.
        vectors: of the words to start with, `[V, 600]`.
        answers: how many there are to choose from.
        meta_models: how many meta-models are side by side.
    """

    def __init__(self, config: VqaConfig, vectors: Tensor, answers: int, meta_models: int = 1) -> None:
        super().__init__()
        self.question = QuestionEncoder(vectors, config.hidden, config.cell)
        self.image = ImageEncoder(config.features, meta_models) if config.features != "none" else None
        self.attention: StackedAttention | BilinearAttention | None = None
        if self.image is not None and config.attention == "san":
            self.attention = StackedAttention(self.image.size, config.hidden, config.stacks, config.dropout)
        elif self.image is not None:
            self.attention = BilinearAttention(self.image.size, config.hidden, config.glimpses)
        self.classifier = nn.Sequential(
            normalised(config.hidden, 2 * config.hidden),
            nn.ReLU(),
            nn.Dropout(config.dropout),
            normalised(2 * config.hidden, answers),
        )

    def forward(self, words: Tensor, images: Inputs, which: Tensor, decoded: int = 0) -> Output:
        """Answer questions.

        Args:
            words: of `Vocabulary.encode`, `[B, length]`.
            images: M different ones; questions about the same image share its encoding.
            which: for each question, the place of its image among them, `[B]`.
            decoded: how many of the images are reconstructed.
        """
        question = self.question(words)
        if self.image is None or self.attention is None:
            return Output(self.classifier(question.last), None, None)
        seen, reconstructed = self.image(images, decoded)
        joint, attention = self.attention(seen[which], question)
        return Output(self.classifier(joint), attention, reconstructed)
