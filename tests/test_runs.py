"""`lddr train` leaves behind a record that says how to make it again, and weights that give the recorded figures."""

import json
import shlex
from pathlib import Path

import h5py
import nbformat
import pytest
import torch
import yaml
from safetensors.torch import load_file

from lddr import cli, runs
from lddr.complexity import count_macs, count_parameters
from lddr.data import evaluation_pairs, load_cohort
from lddr.evaluate import evaluate, summarise
from lddr.models import ModelConfig, build_model, load_model, save_model
from lddr.settings import Settings

ROOT = Path(__file__).parent.parent
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


def asked_for(record):
    """What the notebook of a recorded command would run with: its own cell, then what the command says."""
    program, notebook, _, option, values = shlex.split(record["command"])
    assert (program, option) == ("papermill", "-y")
    cells = nbformat.read(ROOT / notebook, as_version=4).cells
    (cell,) = (cell for cell in cells if "parameters" in cell.metadata.get("tags", []))
    names = {}
    exec(cell.source, names)
    return Settings.from_notebook({k: v for k, v in names.items() if k != "__builtins__"} | yaml.safe_load(values))


def test_the_command_of_a_notebook_s_record_asks_for_what_the_record_holds():
    files = sorted((ROOT / "book" / "records").rglob("*.json"))
    records = [json.loads(file.read_text()) for file in files]
    records = [record for record in records if record["command"].startswith("papermill")]
    assert len(records) == 3
    for record in records:  # older records know fewer names
        assert asked_for(record).model_dump().items() >= record["parameters"].items()


def test_a_notebook_s_record_names_what_its_own_cell_has_otherwise(tmp_path, monkeypatch):
    """A grid of 64 voxels and all subjects are the defaults of `Settings`, not those of chapter 06."""
    settings = Settings(record=str(tmp_path / "it's a.json"))
    test = load_cohort("simulated_brains", "test", size=[16] * 3, subjects=2)
    model = build_model(ModelConfig(width=2))
    rows = evaluate(model, test, evaluation_pairs(2))
    runs.write_run(settings, "06_student", model, [{"step": 1, "seconds": 0.0, "loss": 1.0}], (test, test, test), rows)
    assert asked_for(json.loads((tmp_path / "it's a.json").read_text())) == settings


def test_a_teacher_that_is_not_asked_is_said(tmp_path, teacher, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, f"teacher={teacher}"]) == 0
    assert "No teacher is asked: the objective is none." in capsys.readouterr().out
    assert cli.main(["train", *TINY]) == 0
    assert "teacher" not in capsys.readouterr().out


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
    assert load_file("a.safetensors").keys() == plain.state_dict().keys()  # read past `load_model`, which builds one
    assert count_parameters(model) == count_parameters(plain)
    assert count_macs(model, SIZE) == count_macs(plain, SIZE)
    plain.load_state_dict(load_file("a.safetensors"))
    moving, fixed = torch.rand(2, 1, 1, *SIZE)
    assert torch.equal(model(moving, fixed).displacement, plain.eval()(moving, fixed).displacement)


def test_training_can_start_from_a_model(tmp_path, monkeypatch):
    """With a vanishing learning rate, what comes out is what went in."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "weights=a.safetensors"]) == 0
    assert cli.main(["train", *TINY, "start=a.safetensors", "learning_rate=1e-30", "weights=b.safetensors"]) == 0
    a, b = (load_model(f"{name}.safetensors")[0].state_dict() for name in ("a", "b"))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("network", ["ldr", "vtn"])
def test_a_longer_cascade_can_grow_from_a_single_one(tmp_path, monkeypatch, network):
    """With a vanishing learning rate, three networks do what the one does three times in a row."""
    monkeypatch.chdir(tmp_path)
    shape = [f"network={network}", *(["levels=3"] if network == "vtn" else [])]
    assert cli.main(["train", *TINY, *shape, "weights=a.safetensors"]) == 0
    more = ["start=a.safetensors", "cascades=3", "learning_rate=1e-30", "weights=b.safetensors"]
    assert cli.main(["train", *TINY, *shape, *more]) == 0
    one, three = load_model("a.safetensors")[0], load_model("b.safetensors")[0]
    assert (len(one.dense), len(three.dense)) == (1, 3)
    moving, fixed = torch.rand(2, 1, 1, *SIZE)
    ours, repeated = three(moving, fixed).displacement, one(moving, fixed, repeats=3).displacement
    assert repeated.abs().max() > 1e-4
    assert torch.allclose(ours, repeated, atol=2e-3 * repeated.abs().max().item())  # weights are kept as float16


def test_a_store_is_made_on_the_way_and_gives_a_reproducible_run(tmp_path, teacher, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = ["objective=l2", f"teacher={teacher}", "store=store.h5", "store_pairs=4", "every=1"]
    made = []
    for name in ("a", "b"):  # the second run finds the file
        assert cli.main(["train", *TINY, *more, f"weights={name}.safetensors"]) == 0
        made.append((tmp_path / "store.h5").stat().st_mtime_ns)
    assert made[0] == made[1]
    with h5py.File(tmp_path / "store.h5") as store:
        pairs = store["pairs"][:].tolist()
        assert store["done"][:].all()
        assert 1 <= len(pairs) <= 4
        assert all(moving != fixed for moving, fixed in pairs)
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
        (
            ["objective=l2", "teacher=TEACHER", "store=s.h5", "augmentation=0.2"],
            "set augmentation to 0, mirror to false",
        ),
        (["fine_size=[40, 32, 32]"], "Simulated brains come on cubes"),
        (["size=[8, 8, 8]"], "Parameter 'size.0' is 8: input should be greater than or equal to 16"),
        (["weights=list.yaml/w.safetensors"], "list.yaml is no folder to write in"),
        (["weights=taken"], "taken: cannot be written, since a folder has this name."),
        (["folder=list.yaml"], "list.yaml: cannot be written, since "),
        (["folder=list.yaml/run"], "list.yaml is no folder to write in"),
        (["folder=/proc/run"], "/proc/run: cannot be written, since "),
        (["noise.yaml"], "noise.yaml: this is not YAML."),
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
    (tmp_path / "noise.yaml").write_bytes(bytes(range(128, 256)))
    (tmp_path / "taken").mkdir()
    monkeypatch.setattr(runs, "fit", lambda *_: pytest.fail("training began"))
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
