"""BAN: bilinear attention between every place of an image and every word of a question (Kim et al., NeurIPS 2018)."""

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from companions.vqa.question import Encoded

RANK = 3  # the attention is computed in a space so many times the hidden size


def normalised(size: int, hidden: int) -> nn.Module:
    """Make a linear map whose weights are a direction and one length for all of them, as the released code has it."""
    return weight_norm(nn.Linear(size, hidden), dim=None)  # type: ignore[arg-type]


def projection(size: int, hidden: int, dropout: float, relu: bool = True) -> nn.Sequential:
    """Make a layer as BAN has it: dropout, a linear map with weight normalisation, ReLU."""
    layers: list[nn.Module] = [nn.Dropout(dropout), normalised(size, hidden)]
    return nn.Sequential(*layers, *([nn.ReLU()] if relu else []))


def on_words(net: nn.Module, states: Tensor, mask: Tensor) -> Tensor:
    """Apply a layer where there are words, and leave zero where there are none: half of a batch is padding."""
    projected = net(states[mask])
    return projected.new_zeros(*mask.shape, projected.shape[1]).masked_scatter(mask[..., None], projected)


class BilinearAttention(nn.Module):
    """Look at the image in several glimpses; each weighs all pairs of a place and a word.

    MEVF describes an image by one vector, so a glimpse chooses among the words only.

    Args:
        image_size: length of an image vector.
        hidden: size of a word's state and of the joint representation.
        glimpses: how many.
    """

    def __init__(self, image_size: int, hidden: int, glimpses: int = 2) -> None:
        super().__init__()
        self.image = projection(image_size, RANK * hidden, 0.2)
        self.question = projection(hidden, RANK * hidden, 0.2)
        self.maps = nn.Parameter(torch.randn(glimpses, RANK * hidden) / (RANK * hidden) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(glimpses, 1, 1))
        self.drop = nn.Dropout(0.5)
        self.image_nets = nn.ModuleList(projection(image_size, hidden, 0.2) for _ in range(glimpses))
        self.question_nets = nn.ModuleList(projection(hidden, hidden, 0.2) for _ in range(glimpses))
        self.outputs = nn.ModuleList(projection(hidden, hidden, 0.2, relu=False) for _ in range(glimpses))
        self.size = hidden

    def attend(self, image: Tensor, question: Encoded) -> Tensor:
        """Compute the attention, `[B, glimpses, N, T]`.

        It sums to one over places and words together, and is zero where there is no word.
        """
        places, words = self.drop(self.image(image)), on_words(self.question, question.states, question.mask)
        logits = torch.einsum("gk,bnk,btk->bgnt", self.maps, places, words) + self.bias
        logits = logits.masked_fill(~question.mask[:, None, None], -torch.inf)
        return logits.flatten(2).softmax(2).view_as(logits)

    def forward(self, image: Tensor, question: Encoded) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            image: `[B, N, image_size]`, one vector a place.
            question: of which the state after each word is used.

        Returns:
            The joint representation, `[B, hidden]`, summed over words; and the attention, `[B, glimpses, N, T]`.
        """
        attention = self.attend(image, question)
        states = question.states
        glimpses = zip(self.image_nets, self.question_nets, self.outputs, strict=True)
        for number, (image_net, question_net, output) in enumerate(glimpses):
            words = on_words(question_net, states, question.mask)
            seen = torch.einsum("bnt,bnk,btk->bk", attention[:, number], image_net(image), words)
            states = states + output(seen)[:, None]
        return (states * question.mask[..., None]).sum(1), attention
