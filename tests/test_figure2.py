"""Figure 2: Dice of slices counted by hand, the rule of the slice, and files that hold all they promise."""

import shlex
from pathlib import Path

import pytest
import torch
from PIL import Image
from synthetic import ellipsoids

from lddr.data.cohort import Cohort
from lddr.infer.evaluate import by_network, evaluate
from lddr.models import ModelConfig, build_model, load_model, save_model
from lddr.record import FigureRecord, read_record
from study import figure2
from study.records import PROJECT

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


def make(folder, *words, about=None, labels=("first", "second")):
    config = ModelConfig(size=[32, 32, 32])
    models = []
    for seed, label in enumerate(labels):
        file = folder / f"{label}.safetensors"
        save_model(
            file, build_model(config, seed), config, about or {"dataset": "simulated_brains", "licence": LICENCE}
        )
        models.append(f"{label}={file}")
    out = ["--out", str(folder), "--models", *models]
    figure2.main(["--dataset", "simulated_brains", "--subjects", "3", *words, *out])


def test_two_figures_and_a_complete_record(tmp_path, capsys):
    make(tmp_path, "--fixed", "1", "--pairs", "all")
    file = tmp_path / "records" / "simulated_brains" / "figure2.json"
    record = read_record(file)
    assert isinstance(record, FigureRecord)
    assert record.command.endswith("--moving 0 2 --models first=first.safetensors second=second.safetensors")
    assert str(tmp_path) not in file.read_text()
    assert (record.dataset, record.plane, record.fold, record.pair_list) == ("simulated_brains", "axial", None, "all")
    assert record.licence.startswith("made from the ICBM 2009a")
    assert len({about["weights_sha256"] for about in record.models.values()}) == 2
    assert [(one["moving"], one["fixed"]) for one in record.shown] == [
        ("brain_048", "brain_049"),
        ("brain_050", "brain_049"),
    ]
    for row in record.rows:
        assert list(row)[:3] == ["model", "moving", "fixed"]
        assert "seconds" not in row
        assert len(row["slice_dice"]) == len(record.slices[row["fixed"]])
        assert 0 < row["dice"] < 1
        assert row["folding_percent"] >= 0
    # Pair by pair, within a pair model by model; the drawn pairs first.
    assert [row["model"] for row in record.rows] == ["first", "second"] * 6
    pairs = [(row["moving"], row["fixed"]) for row in record.rows]
    assert pairs[::2] == pairs[1::2]
    assert pairs[:4:2] == [(one["moving"], one["fixed"]) for one in record.shown]
    assert len(set(pairs)) == 6
    for one in record.shown:
        assert one["slice"] in record.slices[one["fixed"]]
        first, second = (row for row in record.rows if (row["moving"], row["fixed"]) == (one["moving"], one["fixed"]))
        gains = [b - a for a, b in zip(first["slice_dice"], second["slice_dice"], strict=True)]
        own = gains[record.slices[one["fixed"]].index(one["slice"])]
        assert sum(gain <= own for gain in gains) >= len(gains) / 2
        assert sum(gain >= own for gain in gains) >= len(gains) / 2
    for name in record.figures:
        file = tmp_path / "figures" / Path(name).name
        assert file.stat().st_size <= 400_000
        assert min(Image.open(file).size) > 300
    assert not list(tmp_path.rglob(".part*"))
    assert "second: mean Dice" in capsys.readouterr().out


@pytest.fixture
def two_grids(monkeypatch):
    """Three subjects on a grid of 32 voxels a side, and on a finer one over the same box, in place of real scans."""
    cohorts = {}
    for side, spacing in ((32, 2.0), (63, 1.0)):
        images = ellipsoids(3, (side, side, side))
        labels = (images > 0.3).to(torch.uint8)
        cohorts[side] = Cohort("two grids", "test", ("a", "b", "c"), images, labels, {1: "body"}, spacing, LICENCE)
    monkeypatch.setattr(figure2, "load_cohort", lambda name, split, *, size, subjects, fold: cohorts[size[0]])
    return cohorts


@pytest.mark.slow
def test_its_command_makes_the_same_record_again_and_its_numbers_are_those_of_evaluate(
    two_grids, tmp_path, monkeypatch
):
    """From the folder where the weights lie, under names that a shell would take apart, measured on a finer grid."""
    folder = tmp_path / "my models"
    folder.mkdir()
    make(folder, "--fixed", "1", "--fine", "63", "--moving", "0", labels=("it's first", "second; $x"))
    place = Path("records", "simulated_brains", "figure2.json")
    words = shlex.split(read_record(folder / place).command)
    assert words[:3] == ["python", "-m", "study.figure2"]
    monkeypatch.chdir(folder)
    figure2.main([*words[3:], "--out", str(tmp_path / "again")])
    once, again = (read_record(file) for file in (folder / place, tmp_path / "again" / place))
    assert once.model_dump(exclude={"date"}) == again.model_dump(exclude={"date"})
    assert once.drawn_on == [63] * 3
    model = load_model("second; $x.safetensors")[0]
    (row,) = evaluate(by_network(model), two_grids[32], [(0, 1)], fine=two_grids[63])
    assert once.rows[1]["model"] == "second; $x"
    for name in ("dice", "jaccard", "folding_percent", "dice_1"):
        assert once.rows[1][name] == pytest.approx(row[name], abs=1e-5)


def test_models_are_named_without_the_folders_of_this_machine(tmp_path):
    assert figure2.relative("student_1cas_none") == "student_1cas_none"
    assert figure2.relative("runs/mine.safetensors") == "runs/mine.safetensors"
    assert figure2.relative(str(PROJECT / "runs" / "a" / "weights.safetensors")) == "runs/a/weights.safetensors"
    assert figure2.relative(str(tmp_path / "mine.safetensors")) == "mine.safetensors"
    files = figure2.parse(["--dataset", "liver_mr", "--fold", "2"]).models.values()
    assert all(Path(file).is_relative_to(PROJECT) and "_fold2/" in file for file in files)  # from any working folder


def test_a_model_that_has_seen_the_test_scans_is_refused(tmp_path, refused):
    words = ["--dataset", "liver_mr"]
    said = refused(lambda words: make(tmp_path, *words, about={"dataset": "liver_mr", "fold": 2}), words)
    assert "trained for fold 2, this model has seen the test scans of fold 0" in said


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--fixed", "1", "--moving", "1"], "expected different subjects of the test split, 0 to 2"),
        (["--fixed", "7"], "expected different subjects of the test split, 0 to 2"),
    ],
)
def test_subjects_that_are_not_there_get_a_sentence(tmp_path, refused, words, found):
    assert found in refused(lambda words: make(tmp_path, *words), words)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--models", "mine.safetensors"], r"found 'mine.safetensors', expected LABEL=MODEL"),
        (["--models", "one=hippocampus"], "needs two models or more"),
        (["--dataset", "simulated_brains"], "needs two models or more"),
        (["--dataset", "hippocampi"], "did you mean 'hippocampus'?"),
        (["--fold", "1"], "The fold is 1, but hippocampus is not tested in folds; leave it out."),
        (["--dataset", "liver_mr", "--fold", "4"], "found '4', expected a whole number from 0 to 3"),
        (["--moving", "-1"], "--moving"),
    ],
)
def test_models_that_cannot_be_compared_get_a_sentence(refused, words, found):
    assert found in refused(figure2.main, words)
