"""The classical tools' answers arrive as displacements in this book's convention: a known shift comes back."""

import inspect
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from scipy import ndimage

from lddr.data.registry import load_cohort
from lddr.infer.classical import TOOLS, ants_syn, elastix
from lddr.infer.evaluate import evaluate
from lddr.record import Method, read_record
from study import classical
from study.records import read_records


def as_images(array: np.ndarray) -> torch.Tensor:
    """`[1, 1, D, H, W]`, as registrars take it."""
    return torch.from_numpy(np.ascontiguousarray(array))[None, None]


@pytest.mark.slow
@pytest.mark.parametrize("tool", [ants_syn, partial(elastix, iterations=50)], ids=["ants_syn", "elastix"])
def test_a_known_shift_comes_back_in_voxels_along_the_right_axes(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    noise = np.random.default_rng(0).random((48, 52, 44))
    image = ndimage.gaussian_filter(noise, 3)
    image = ((image - image.min()) / (image.max() - image.min())).astype(np.float32)
    shift = (3, -2, 1)
    fixed = np.roll(image, [-s for s in shift], axis=(0, 1, 2))  # fixed(x) = image(x + shift)
    displacement = tool(as_images(image), as_images(fixed))
    assert displacement.shape == (1, 3, 48, 52, 44)
    inside = displacement[0, :, 12:-12, 12:-12, 12:-12].mean(dim=(1, 2, 3))
    assert np.allclose(inside, shift, atol=0.25)
    assert not list(tmp_path.iterdir())


def test_elastix_takes_as_many_iterations_as_by_its_own_default():
    import itk

    usual = str(inspect.signature(elastix).parameters["iterations"].default)
    for kind in ("affine", "bspline"):
        assert itk.ParameterObject.GetDefaultParameterMap(kind, 3)["MaximumNumberOfIterations"] == (usual,)


def test_syn_answers_twice_the_same():
    """The tool draws samples; only with its seed in the environment does it draw the same ones again."""
    image = ndimage.gaussian_filter(np.random.default_rng(1).random((32, 32, 32)), 2).astype(np.float32)
    pair = as_images(image), as_images(np.roll(image, 2, axis=0))
    assert torch.equal(TOOLS["ants_syn"](*pair), TOOLS["ants_syn"](*pair))


def still(moving: torch.Tensor, fixed: torch.Tensor) -> torch.Tensor:
    """Moves nothing."""
    return torch.zeros(1, 3, *moving.shape[2:])


@pytest.fixture
def brains(monkeypatch):
    """Three simulated subjects, also on a second grid, and a tool that takes no time."""
    monkeypatch.setattr(classical, "TOOLS", {"still": still})
    cohort = load_cohort("simulated_brains", "test", size=[16] * 3, subjects=3)
    load = {16: cohort, 18: replace(cohort, images=torch.zeros(3, 1, 18, 18, 18), labels=torch.zeros(3, 1, 18, 18, 18))}
    monkeypatch.setattr(classical, "load_cohort", lambda *_, size, fold: load[size[0]])
    return cohort


def test_the_record_says_what_was_measured_and_how(brains, tmp_path):
    words = ["--dataset", "simulated_brains", "--size", "16", "--pairs", "all", "--out", str(tmp_path / "my records")]
    classical.main(words)
    record = read_record(tmp_path / "my records" / "simulated_brains" / "baseline_still.json")
    assert record.command == "python -m study.classical --tool still --dataset simulated_brains --pairs all --size 16"
    assert record.method == Method(tool="still", size=[16, 16, 16])
    assert (record.dataset, record.split, record.fold, record.pair_list) == (
        "simulated_brains",
        {"test": 3},
        None,
        "all",
    )
    assert (record.threads, record.labels, record.licence) == (1, "linear", brains.licence)
    rows = evaluate(still, brains, [(i, j) for i in range(3) for j in range(3) if i != j], surfaces=True)
    for row, wanted in zip(record.rows, rows, strict=True):
        assert set(row) == set(wanted)
        assert all(row[name] == pytest.approx(wanted[name], abs=1e-5) for name in ("dice", "hd95", "dice_initial"))
        assert 0 <= row["seconds"] < 1
    assert record.test.dice_mean == pytest.approx(np.mean([row["dice"] for row in rows]))


def test_a_fold_goes_into_the_record_and_its_name(brains, tmp_path):
    for words, fold in (([], 0), (["--fold", "2"], 2)):
        classical.main(["--dataset", "liver_mr", "--size", "16", *words, "--out", str(tmp_path)])
        record = read_record(tmp_path / "liver_mr" / f"baseline_still_fold{fold}.json")
        assert record.fold == fold
        assert f"--fold {fold}" in record.command


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--fold", "1"], "The fold is 1, but hippocampus is not tested in folds; leave it out."),
        (["--dataset", "hippocampi"], "did you mean 'hippocampus'?"),
        (["--tool", "demons"], "invalid choice: 'demons'"),
    ],
)
def test_bad_options_get_a_sentence(words, found, refused):
    assert found in refused(classical.main, words)


def test_the_words_about_a_tool_are_those_of_the_recorded_runs():
    assert classical.SETTINGS.keys() == TOOLS.keys()
    recorded = [run for dataset in ("hippocampus", "liver_mr") for run in read_records(dataset).values()]
    tools = [run for run in recorded if run.method.tool]
    assert {run.method.tool for run in tools} == set(TOOLS)
    assert all(run.settings == classical.SETTINGS[run.method.tool] for run in tools)


def test_a_record_is_not_overwritten_by_figures_of_another_grid_or_other_pairs(brains, tmp_path, refused):
    """Its name does not tell the two apart."""
    words = ["--dataset", "simulated_brains", "--out", str(tmp_path), "--size"]
    for _ in range(2):  # again is no other
        classical.main([*words, "16"])
    file = tmp_path / "simulated_brains" / "baseline_still.json"
    before = file.read_text()
    for other, key in (
        (["18"], "size"),
        (["16", "--pairs", "all"], "pairs"),
        (["18", "--pairs", "all"], "size and pairs"),
    ):
        said = refused(classical.main, [*words, *other])
        assert f"{file} differs in {key}; give --out to keep both." in said
    assert file.read_text() == before
    file.write_text("{}")
    assert "not a record of schema version" in refused(classical.main, [*words, "16"])
