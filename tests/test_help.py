"""Every command's help ends in two examples, and they work as they are printed."""

import shlex

import nibabel as nib
import numpy as np
import pytest
from scanners import blob, grid

from lddr.cli.main import COMMANDS, main


def examples(command, capsys):
    """The examples as the help prints them, each as its words."""
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    _, _, end = capsys.readouterr().out.partition("\nexamples:\n")
    lines = end.replace("\\\n", " ").splitlines()
    assert all(line.startswith("  lddr ") for line in lines)
    return [shlex.split(line)[1:] for line in lines]


@pytest.fixture
def files(tmp_path, monkeypatch):
    """What a user might have: two scans of a body in 160 mm, labels and landmarks."""
    monkeypatch.chdir(tmp_path)
    shape, affine, _ = grid("LPS", (4.0, 4.0, 5.0), shape=(40, 40, 32))
    for name, centre in (("fixed", (0, 0, 0)), ("moving", (8, 4, -5))):
        nib.save(nib.Nifti1Image(500 * blob(shape, affine, centre, 30), affine), f"{name}.nii.gz")
    labels = (blob(shape, affine, (8, 4, -5), 30) > 0.5).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, affine), "labels.nii.gz")
    (tmp_path / "landmarks.csv").write_text("x,y,z\n8,4,-5\n")
    return tmp_path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_two_examples(command, capsys):
    found = examples(command, capsys)
    assert len(found) == 2
    assert all(words[0] == command for words in found)


@pytest.mark.slow
def test_the_examples_of_register_and_apply_work(files, capsys):
    for command in ("register", "apply"):
        for words in examples(command, capsys):
            assert main(words) == 0, words
    made = {p.relative_to(files).as_posix() for p in files.rglob("*") if p.is_file()}
    result = {"displacement.nii.gz", "lddr.json", "quality.png", "warped.nii.gz"}
    assert {f"result/{name}" for name in result} <= made
    assert {f"adapted/{name}" for name in (*result, "warped_labels.nii.gz")} <= made
    assert {"warped_labels.nii.gz", "landmarks_fixed.csv"} <= made
    landmark = np.loadtxt("landmarks_fixed.csv", delimiter=",", skiprows=1)
    assert np.abs(landmark).max() < 8, "the middle of the moving body comes near the middle of the fixed one"


@pytest.mark.slow
@pytest.mark.parametrize("command", ["evaluate", "train", "models"])
def test_the_other_examples_work(files, capsys, command):
    for words in examples(command, capsys):
        assert main(words) == 0, words
    outputs = {"evaluate": {"brains.json", "adapted.json"}, "models": set()}
    outputs["train"] = {"mine.safetensors", "mine.json", "longer.safetensors"}
    assert outputs[command] <= {p.name for p in files.iterdir()}
