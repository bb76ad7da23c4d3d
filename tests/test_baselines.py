"""The classical tools' answers arrive as displacements in this book's convention: a known shift comes back."""

import json
from dataclasses import replace

import baselines
import numpy as np
import pytest
import torch
from scipy import ndimage

from lddr.baselines import TOOLS
from lddr.data import load_cohort


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


def test_a_record_is_not_overwritten_by_figures_of_another_grid_or_other_pairs(tmp_path, monkeypatch, capsys):
    """Its name does not tell the two apart."""

    def still(moving: np.ndarray, fixed: np.ndarray) -> torch.Tensor:
        """Moves nothing."""
        return torch.zeros(1, 3, *moving.shape)

    monkeypatch.setattr(baselines, "TOOLS", {"still": still})
    monkeypatch.setattr(baselines, "RECORDS", tmp_path)
    cohort = load_cohort("simulated_brains", "test", size=[16] * 3, subjects=3)
    load = {16: cohort, 18: replace(cohort, images=torch.zeros(3, 1, 18, 18, 18), labels=torch.zeros(3, 1, 18, 18, 18))}
    monkeypatch.setattr(baselines, "load_cohort", lambda *_, size, fold: load[size[0]])
    words = ["--dataset", "simulated_brains", "--size"]
    for _ in range(2):  # again is no other
        baselines.main([*words, "16"])
    file = tmp_path / "simulated_brains" / "baseline_still.json"
    before = file.read_text()
    assert "--out" not in json.loads(before)["command"]
    for other, key in (
        (["18"], "size"),
        (["16", "--pairs", "all"], "pairs"),
        (["18", "--pairs", "all"], "size and pairs"),
    ):
        with pytest.raises(SystemExit):
            baselines.main([*words, *other])
        assert f"{file} differs in {key}; give --out to keep both" in capsys.readouterr().err
    assert file.read_text() == before
    baselines.main([*words, "16", "--pairs", "all", "--out", str(tmp_path / "mine")])
    mine = json.loads((tmp_path / "mine" / "simulated_brains" / "baseline_still.json").read_text())
    assert len(mine["rows"]) == 6
    assert file.read_text() == before
