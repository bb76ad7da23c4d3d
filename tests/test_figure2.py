"""`book/figure2.py`: Dice of slices counted by hand, the rule of the slice, and files that hold all they promise."""

import json
from pathlib import Path

import figure2
import pytest
import torch
from PIL import Image

from lddr.models import ModelConfig, build_model, save_model

ROOT = Path(__file__).parent.parent
LICENCE = "as the template's"


def test_dice_of_slices_counted_by_hand():
    a, b = torch.zeros(3, 2, 4, dtype=torch.uint8), torch.zeros(3, 2, 4, dtype=torch.uint8)
    a[0, 0, :3], b[0, 0, 1:] = 1, 1  # two of three in common: 4 / 6
    a[1, 0], b[1, 0] = 1, 1
    a[1, 1, 0], b[1, 1, 1] = 2, 2  # label 1 whole, label 2 missed: the mean of 1 and 0
    found = figure2.slice_dice(a, b, [1, 2], "sagittal", [0, 1, 2])
    assert found[:2] == pytest.approx([2 / 3, 0.5])
    assert found[2] != found[2]  # nothing there: no number
    assert figure2.slice_dice(a[None, None], b[None, None], [1], "coronal", [0])[0] == pytest.approx(2 * 6 / 14)


def test_slices_with_a_good_part_of_the_organ():
    labels = torch.zeros(5, 4, 4)
    labels[1, 0, :3], labels[2], labels[3, 0] = 1, 2, 1  # areas 3, 16, 4
    assert figure2.organ_slices(labels, "sagittal") == [2, 3]
    assert figure2.organ_slices(labels, "sagittal", share=0.1) == [1, 2, 3]
    assert figure2.organ_slices(torch.zeros(5, 4, 4), "axial") == []


def test_the_slice_of_the_median_difference():
    assert figure2.median_slice([10, 11, 12], [0.3, -0.2, 0.1]) == 12
    assert figure2.median_slice([10, 11, 12, 13], [0.4, 0.1, 0.3, 0.2]) == 13


def make(folder, *words):
    config = ModelConfig(size=[32, 32, 32])
    models = []
    for seed, label in enumerate(("first", "second")):
        file = folder / f"{label}.safetensors"
        save_model(file, build_model(config, seed), config, {"dataset": "simulated_brains", "licence": LICENCE})
        models.append(f"{label}={file}")
    out = ["--out", str(folder), "--models", *models]
    figure2.main(["--dataset", "simulated_brains", "--subjects", "3", *words, *out])


def test_two_figures_and_a_complete_record(tmp_path, capsys):
    make(tmp_path, "--fixed", "1")
    record = json.loads((tmp_path / "records" / "simulated_brains" / "figure2.json").read_text())
    assert record["command"].endswith("--moving 0 2 --models first=first.safetensors second=second.safetensors")
    assert str(tmp_path) not in json.dumps(record)
    assert {"commit", "date", "machine", "licence", "rule", "dataset", "plane"} <= set(record)
    assert len({about["weights_sha256"] for about in record["models"].values()}) == 2
    assert [(one["moving"], one["fixed"]) for one in record["shown"]] == [
        ("brain_048", "brain_049"),
        ("brain_050", "brain_049"),
    ]
    for row in record["rows"]:
        assert len(row["slice_dice"]) == len(record["slices"][row["fixed"]])
        assert 0 < row["dice"] < 1
        assert row["folding_percent"] >= 0
    for one in record["shown"]:
        assert one["slice"] in record["slices"][one["fixed"]]
        assert {"first", "second"} == {r["model"] for r in record["rows"] if r["moving"] == one["moving"]}
    for name in record["figures"]:
        file = tmp_path / "figures" / Path(name).name
        assert file.stat().st_size <= 400_000
        assert min(Image.open(file).size) > 300
    assert not list(tmp_path.rglob("*.part"))
    assert "second: mean Dice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--fixed", "1", "--moving", "1"], "expected different subjects of the test split, 0 to 2"),
        (["--fixed", "7"], "expected different subjects of the test split, 0 to 2"),
    ],
)
def test_subjects_that_are_not_there_get_a_sentence(tmp_path, words, found):
    with pytest.raises(SystemExit, match=found):
        make(tmp_path, *words)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--models", "mine.safetensors"], r"found 'mine.safetensors', expected LABEL=MODEL"),
        (["--models", "one=hippocampus"], "needs two models or more"),
        (["--dataset", "simulated_brains"], "needs two models or more"),
    ],
)
def test_models_that_cannot_be_compared_get_a_sentence(capsys, words, found):
    with pytest.raises(SystemExit):
        figure2.parse(words)
    assert found in capsys.readouterr().err
