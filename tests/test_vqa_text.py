"""Words, their vectors, and the encoder that reads them."""

import numpy as np
import pytest
import torch

from companions.vqa.question import QuestionEncoder
from companions.vqa.words import DIMENSIONS, Vocabulary, read_glove, smoothing, tokenise, word_vectors
from lddr.errors import InputError


def test_tokens():
    assert tokenise("Is/Are the ribs fractured? -yes/no") == ["is", "are", "the", "ribs", "fractured"]
    assert tokenise("What's the patient's x ray, exactly?") == [
        "what",
        "'s",
        "the",
        "patient",
        "'s",
        "x-ray",
        "exactly",
    ]
    assert tokenise("Where is it? - open") == ["where", "is", "it"]


def test_a_vocabulary_numbers_training_words_and_pads_cuts_and_marks_the_others():
    vocabulary = Vocabulary(["is it left", "is it right"])
    assert vocabulary.words == ["", "?", "is", "it", "left", "right"]
    rows = vocabulary.encode(["It is LEFT?", "is unheard", "???", "is it is it"], length=3)
    assert rows.tolist() == [[3, 2, 4], [2, 1, 0], [1, 0, 0], [2, 3, 2]]


def test_smoothing_by_hand():
    """Questions "a b" and "a c": a borrows from b and c alike; b and c from a only; padding keeps to itself."""
    vocabulary = Vocabulary(["a b", "a c"])
    matrix = smoothing(vocabulary, ["a b", "a c"])
    a, b, c = 2, 3, 4
    assert matrix[a].tolist() == [0, 0, 0, 0.5, 0.5]
    assert matrix[b, a] == matrix[c, a] == 1
    assert torch.allclose(matrix.sum(1), torch.ones(5))


def test_smoothing_prefers_rare_words():
    """In "a b", "c b" and "a d": of the words beside a, b is in two questions and d in one."""
    texts = ["a b", "c b", "a d"]
    vocabulary = Vocabulary(texts)
    place = vocabulary.place
    row = smoothing(vocabulary, texts)[place["a"]]
    assert row[place["d"]] == pytest.approx(2 / 3)
    assert row[place["b"]] == pytest.approx(1 / 3)


def test_word_vectors_are_glove_and_its_smoothed_copy():
    vocabulary = Vocabulary(["a b"])
    glove = {"a": np.ones(DIMENSIONS, np.float32), "b": np.full(DIMENSIONS, 2, np.float32)}
    both = word_vectors(vocabulary, ["a b"], glove)
    assert both.shape == (4, 600)
    assert both[2].unique().tolist() == [1, 2]  # a, and b, which it borrows from
    assert both[0].abs().sum() == both[1].abs().sum() == 0


def test_glove_files_are_checked(tmp_path):
    file = tmp_path / "glove.npz"
    with pytest.raises(InputError, match="there is no such file"):
        read_glove(file)
    file.write_bytes(b"nothing")
    with pytest.raises(InputError, match="these are no word vectors"):
        read_glove(file)
    np.savez(file, words=np.array(["a"]), vectors=np.zeros((1, 50)))
    with pytest.raises(InputError, match="expected 300 numbers for each of 1 words"):
        read_glove(file)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_a_question_is_encoded_as_if_it_were_alone(cell, generator):
    """Padding, and longer questions beside it, change nothing: the last state is that of PyTorch on the bare words."""
    encoder = QuestionEncoder(torch.randn(9, 20, generator=generator), hidden=6, cell=cell)
    words = torch.tensor([[3, 4, 0, 0, 0], [5, 6, 7, 8, 0]])
    found = encoder(words)
    assert found.states.shape == (2, 4, 6)
    assert found.mask.tolist() == [[True, True, False, False], [True] * 4]
    for row, length in enumerate((2, 4)):
        alone, _ = encoder.recurrent(encoder.embedding(words[row : row + 1, :length]))
        assert torch.allclose(found.states[row, :length], alone[0], atol=1e-6)
        assert torch.allclose(found.last[row], alone[0, -1], atol=1e-6)
        assert found.states[row, length:].abs().sum() == 0
