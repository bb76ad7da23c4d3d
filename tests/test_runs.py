"""`lddr train` leaves behind a record that says how to make it again, and weights that give the recorded figures."""

import json
import shlex

import pytest
import torch

from lddr import cli
from lddr.data import evaluation_pairs, load_cohort
from lddr.evaluate import evaluate, summarise
from lddr.models import ModelConfig, build_model, load_model, save_model

SIZE = [32, 32, 32]
TINY = [
    "dataset=simulated_brains",
    f"size={SIZE}",
    "subjects=3",
    "steps=4",
    "width=2",
    "validate_every=2",
    "log_every=1",
]


@pytest.fixture
def teacher(tmp_path):
    config = ModelConfig(network="vtn", affine="light", cascades=2, width=2, size=SIZE)
    model = build_model(config, seed=0)
    for stem in model.dense:
        torch.nn.init.normal_(stem.head.weight, std=0.01)
    save_model(tmp_path / "teacher.safetensors", model, config, {"spacing": 12.0}, half=False)
    return tmp_path / "teacher.safetensors"


@pytest.mark.parametrize("objective", ["none", "paper"])
def test_the_recorded_command_makes_the_same_figures_again(tmp_path, teacher, monkeypatch, objective):
    monkeypatch.chdir(tmp_path)
    more = ["record=a.json", "weights=a.safetensors", f"objective={objective}", f"teacher={teacher}", "every=2"]
    assert cli.main(["train", *TINY, *more]) == 0
    record = json.loads((tmp_path / "a.json").read_text())
    (tmp_path / "a.json").rename(tmp_path / "first.json")
    program, *words = shlex.split(record["command"])
    assert program == "lddr"
    assert cli.main(words) == 0
    again = json.loads((tmp_path / "a.json").read_text())
    for rows in (record["rows"], again["rows"]):
        for row in rows:
            row.pop("seconds")
    assert again["rows"] == record["rows"]
    seen = {name for row in record["log"] for name in row}
    assert ({"l_dis", "d_student", "d_teacher", "penalty", "gradient_norm"} <= seen) == (objective == "paper")


def test_the_weights_give_the_recorded_figures_and_hold_no_trace_of_the_teacher(tmp_path, teacher, monkeypatch):
    monkeypatch.chdir(tmp_path)
    common = ["objective=l2", f"teacher={teacher}", "every=1"]
    assert cli.main(["train", *TINY, *common, "record=a.json", "weights=a.safetensors"]) == 0
    record = json.loads((tmp_path / "a.json").read_text())
    model, config, about = load_model("a.safetensors")
    test = load_cohort("simulated_brains", "test", size=SIZE, subjects=3)
    figures = summarise(evaluate(model, test, evaluation_pairs(3)), test.label_names)
    assert figures["dice_mean"] == pytest.approx(record["test"]["dice_mean"], abs=2e-3)  # kept as float16
    assert about["objective"] == "l2"
    plain = build_model(config)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in model.state_dict().items()}


def test_training_can_start_from_a_model(tmp_path, monkeypatch):
    """With a vanishing learning rate, what comes out is what went in."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "weights=a.safetensors"]) == 0
    assert cli.main(["train", *TINY, "start=a.safetensors", "learning_rate=1e-30", "weights=b.safetensors"]) == 0
    a, b = (load_model(f"{name}.safetensors")[0].state_dict() for name in ("a", "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_longer_cascade_can_grow_from_a_single_one(tmp_path, monkeypatch):
    """With a vanishing learning rate, three networks do what the one does three times in a row."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "weights=a.safetensors"]) == 0
    more = ["start=a.safetensors", "cascades=3", "learning_rate=1e-30", "weights=b.safetensors"]
    assert cli.main(["train", *TINY, *more]) == 0
    one, three = load_model("a.safetensors")[0], load_model("b.safetensors")[0]
    assert (len(one.dense), len(three.dense)) == (1, 3)
    moving, fixed = torch.rand(2, 1, 1, *SIZE)
    assert torch.equal(three(moving, fixed).displacement, one(moving, fixed, repeats=3).displacement)


def test_a_store_is_made_on_the_way_and_gives_a_reproducible_run(tmp_path, teacher, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["objective=l2", f"teacher={teacher}", "store=store.h5", "store_pairs=4", "every=1"]
    for name in ("a", "b"):  # the second run finds the file
        assert cli.main(["train", *TINY, *more, f"weights={name}.safetensors"]) == 0
    assert (tmp_path / "a.safetensors").read_bytes() != b""
    a, b = (load_model(f"{name}.safetensors")[0].state_dict() for name in ("a", "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["objective=l2"], "The objective 'l2' needs a teacher: a shipped model's name or a file."),
        (
            ["objective=l2", "teacher=TEACHER", "size=[16, 16, 16]"],
            "this teacher works on the grid [32, 32, 32], not on",
        ),
        (["start=TEACHER"], "this is another network than the settings describe (network='vtn'"),
        (["stepz=3"], "There is no parameter 'stepz': did you mean 'steps'?"),
        (["none.yaml"], "none.yaml: cannot be read (No such file or directory)."),
        (["objective=["], "objective=[: this is not YAML."),
        (["list.yaml"], "list.yaml: expected lines of the form 'name: value'."),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, teacher, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    before = sorted(tmp_path.iterdir())
    words = [word.replace("TEACHER", str(teacher)) for word in words]
    for split in ("train", "validation", "test"):  # made on first use, with a bar
        load_cohort("simulated_brains", split, size=(16, 16, 16), subjects=3)
    capsys.readouterr()
    assert cli.main(["train", *TINY, *words, "record=a.json"]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.count("\n") == 1
    assert sorted(tmp_path.iterdir()) == before
