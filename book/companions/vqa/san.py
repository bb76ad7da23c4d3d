"""SAN: stacked attention, which looks at the image twice before it answers (Yang et al., CVPR 2016)."""

import torch
from torch import Tensor, nn

from companions.vqa.question import Encoded


class StackedAttention(nn.Module):
    """Ask the image's vectors, several times in a row, which of them matter for the question.

    MEVF describes an image by ONE vector. A softmax over one place is 1, whatever the question is: there is nothing to
    attend to, and SAN comes down to adding the image's vector to the question's.

    Args:
        image_size: length of an image vector.
        hidden: size of the question's vector and of the joint one.
        stacks: how often.
        dropout: on the joint representation that attention is computed from.
    """

    def __init__(self, image_size: int, hidden: int, stacks: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.image = nn.Linear(image_size, hidden)
        self.of_image = nn.ModuleList(nn.Linear(hidden, hidden, bias=False) for _ in range(stacks))
        self.of_question = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(stacks))
        self.weigh = nn.ModuleList(nn.Linear(hidden, 1) for _ in range(stacks))
        self.drop = nn.Dropout(dropout)
        self.size = hidden

    def forward(self, image: Tensor, question: Encoded) -> tuple[Tensor, Tensor]:
        """Attend.

        Args:
            image: `[B, N, image_size]`, one vector a place.
            question: of which the last state is used.

        Returns:
            The joint representation, `[B, hidden]`; and the attention of each stack, `[B, stacks, N]`, which sums to
            one over the N places.
        """
        places = torch.tanh(self.image(image))
        query, attention = question.last, []
        for of_image, of_question, weigh in zip(self.of_image, self.of_question, self.weigh, strict=True):
            joint = self.drop(torch.tanh(of_image(places) + of_question(query)[:, None]))
            weights = weigh(joint).squeeze(2).softmax(1)
            query = query + (weights[..., None] * places).sum(1)
            attention.append(weights)
        return query, torch.stack(attention, dim=1)
