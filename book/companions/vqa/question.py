"""The question encoder: word vectors into one recurrent layer of 1,024 numbers."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from companions.vqa.words import PADDING

Cell = Literal["lstm", "gru"]


class Encoded(NamedTuple):
    """A question as numbers.

    Attributes:
        states: after each word, `[B, T, hidden]`; zero where there is no word.
        last: after the last word, `[B, hidden]`.
        mask: where there is a word, `[B, T]`, bool.
    """

    states: Tensor
    last: Tensor
    mask: Tensor


class QuestionEncoder(nn.Module):
    """Read a question word by word.

    The released code lets the recurrent layer run on over the padding, and SAN sees what it holds after that. Here it
    stops at the last word.

    Args:
        vectors: of the words to start with, `[V, 600]`.
        hidden: size of the recurrent layer.
        cell: "lstm", as the released code, or "gru".
    """

    def __init__(self, vectors: Tensor, hidden: int = 1024, cell: Cell = "lstm") -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(vectors, freeze=False, padding_idx=PADDING)
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[cell]
        self.recurrent = kind(vectors.shape[1], hidden, batch_first=True)

    def forward(self, words: Tensor) -> Encoded:
        """Encode questions.

        Args:
            words: of `Vocabulary.encode`, `[B, length]`.

        Returns:
            See `Encoded`; T is the length of the longest question of the batch.
        """
        mask = words != PADDING
        lengths = mask.sum(1)
        words, mask = words[:, : int(lengths.max())], mask[:, : int(lengths.max())]
        packed = pack_padded_sequence(self.embedding(words), lengths, batch_first=True, enforce_sorted=False)
        states, _ = pad_packed_sequence(self.recurrent(packed)[0], batch_first=True)
        return Encoded(states, states[torch.arange(len(words)), lengths - 1], mask)
