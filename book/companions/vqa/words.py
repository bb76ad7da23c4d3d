"""From a question's text to numbers: words, their places in a vocabulary, and their GloVe vectors.

Each word has 600 numbers: its 300 of GloVe, and a copy of 300 that is smoothed over the words it is asked together
with. Both go on learning.
"""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lddr.errors import InputError, unreadable

DIMENSIONS = 300  # of a GloVe vector
LENGTH = 12  # words of a question that are read
PADDING, UNKNOWN = 0, 1  # places in the vocabulary that stand for "no word" and "a word not seen in training"
MARKERS = re.compile(r"\? ?-\s*(yes/no|open)\b")  # some questions of VQA-RAD end with a note on their kind


def tokenise(text: str) -> list[str]:
    """Cut a question into words: lower case, without punctuation, "is/are" as two words, "x ray" as one."""
    text = MARKERS.sub("", text.lower()).replace("'s", " 's").replace("x ray", "x-ray").replace("/", " ")
    return re.sub(r"[,?.!:;()\"]", " ", text).split()


class Vocabulary:
    """The words of the training questions, numbered from 2 in the order of their first use.

    Args:
        questions: texts to train on.
    """

    def __init__(self, questions: Sequence[str]) -> None:
        found = dict.fromkeys(word for text in questions for word in tokenise(text))
        self.words = ["", "?", *found]
        self.place = {word: place for place, word in enumerate(self.words) if place > UNKNOWN}

    def __len__(self) -> int:
        """Count the rows that an embedding needs, padding and the unknown word included."""
        return len(self.words)

    def encode(self, texts: Sequence[str], length: int = LENGTH) -> Tensor:
        """Write questions as numbers of words, `[B, length]` int64; longer ones are cut, shorter ones padded with 0.

        A question without any word is one unknown word, as a recurrent network cannot read nothing.
        """
        rows = torch.full((len(texts), length), PADDING)
        for row, text in zip(rows, texts, strict=True):
            places = [self.place.get(word, UNKNOWN) for word in tokenise(text)][:length] or [UNKNOWN]
            row[: len(places)] = torch.tensor(places)
        return rows


def read_glove(path: Path) -> dict[str, np.ndarray]:
    """Read word vectors that `data_scripts/fetch_vqa_rad.py` stored: word -> `[300]`.

    Raises:
        InputError: no such file, or another one.
    """
    try:
        with np.load(path) as stored:
            words, vectors = stored["words"], stored["vectors"].astype(np.float32)
    except OSError as error:
        raise unreadable(path, error) from None
    except (ValueError, KeyError, EOFError):
        raise InputError(f"{path}: these are no word vectors; expected arrays 'words' and 'vectors'.") from None
    if vectors.shape != (len(words), DIMENSIONS):
        raise InputError(
            f"{path}: expected {DIMENSIONS} numbers for each of {len(words)} words, found {vectors.shape}."
        )
    return dict(zip(words.tolist(), vectors, strict=True))


def glove_rows(vocabulary: Vocabulary, glove: dict[str, np.ndarray]) -> Tensor:
    """Put the GloVe vectors of a vocabulary in its order, `[V, 300]`; words that GloVe does not know are zero."""
    zero = np.zeros(DIMENSIONS, np.float32)
    return torch.from_numpy(np.stack([glove.get(word, zero) for word in vocabulary.words]))


def smoothing(vocabulary: Vocabulary, questions: Sequence[str]) -> Tensor:
    """Compute how much each word borrows from the words it is asked together with.

    A pair of words in one question counts 1 / (questions with the second word), so common words weigh little; each
    row is then divided by its sum. Words that never stand beside another one keep to themselves.

    Returns:
        `[V, V]`, rows that sum to one.

    Source: BAN's "tf-idf" copies of the word vectors. The released code divides by the frequency of the wrong words
    (it indexes the list of pairs by a word's number); this is what it means to compute.
    """
    texts = [[vocabulary.place[word] for word in tokenise(text) if word in vocabulary.place] for text in questions]
    frequency = Counter(word for text in texts for word in set(text))
    matrix = torch.zeros(len(vocabulary), len(vocabulary))
    for text in texts:
        for one, other in itertools.combinations(text, 2):
            matrix[one, other] += 1 / frequency[other]
            matrix[other, one] += 1 / frequency[one]
    alone = matrix.sum(1) == 0
    matrix[alone, alone] = 1
    return matrix / matrix.sum(1, keepdim=True)


def word_vectors(
    vocabulary: Vocabulary, questions: Sequence[str], glove: dict[str, np.ndarray] | None, seed: int = 0
) -> Tensor:
    """Make the starting word vectors: GloVe and its smoothed copies, side by side.

    Args:
        vocabulary: of the questions.
        questions: texts to train on.
        glove: see `read_glove`; None draws random vectors, for data whose words need no meaning from elsewhere.
        seed: of the random ones.

    Returns:
        `[V, 600]`; the row of the padding is zero.
    """
    if glove is None:
        generator = torch.Generator().manual_seed(seed)
        rows = 0.3 * torch.randn(len(vocabulary), DIMENSIONS, generator=generator)
    else:
        rows = glove_rows(vocabulary, glove)
    rows[PADDING] = 0
    both = torch.cat([rows, smoothing(vocabulary, questions) @ rows], dim=1)
    both[PADDING] = 0
    return both
