"""The classical tools' answers arrive as displacements in this book's convention: a known shift comes back."""

import numpy as np
import pytest
from scipy import ndimage

from lddr.baselines import TOOLS


@pytest.mark.parametrize("name", list(TOOLS))
def test_a_known_shift_comes_back_in_voxels_along_the_right_axes(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).random((48, 52, 44))
    image = ndimage.gaussian_filter(noise, 3)
    image = ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
    shift = (3, -2, 1)
    fixed = np.roll(image, [-s for s in shift], axis=(0, 1, 2))  # fixed(x) = image(x + shift)
    displacement = TOOLS[name](image, fixed)
    assert displacement.shape == (1, 3, 48, 52, 44)
    inside = displacement[0, :, 12:-12, 12:-12, 12:-12].mean(dim=(1, 2, 3))
    assert np.allclose(inside, shift, atol=0.25)
    assert not list(tmp_path.iterdir())


def test_syn_answers_twice_the_same():
    """The tool draws samples; only with its seed in the environment does it draw the same ones again."""
    image = ndimage.gaussian_filter(np.random.default_rng(1).random((32, 32, 32)), 2).astype(np.float32)
    fixed = np.roll(image, 2, axis=0)
    assert np.array_equal(TOOLS["ants_syn"](image, fixed), TOOLS["ants_syn"](image, fixed))
