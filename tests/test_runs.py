"""`lddr train` leaves behind a record that says how to make it again, and weights that give the recorded figures."""

import shlex

import h5py
import pytest
import torch
from safetensors.torch import load_file

from lddr.cli import main as cli
from lddr.config import read_parameters
from lddr.data.cohort import evaluation_pairs
from lddr.data.registry import load_cohort
from lddr.deploy.cost import count_macs, count_parameters
from lddr.infer.evaluate import by_network, evaluate, summarise
from lddr.models import ModelConfig, build_model, load_model, save_model
from lddr.record import Method, read_record
from lddr.train import run as runs
from lddr.train.config import RunConfig

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
    name = """it's a "first" Größe.json"""
    more = [f"record={name}", "weights=a.safetensors", f"objective={objective}", f"teacher={teacher}", "every=2"]
    assert cli.main(["train", *TINY, *more]) == 0
    record = read_record(name)
    (tmp_path / name).unlink()
    program, *words = shlex.split(record.command)
    assert program == "lddr"
    assert cli.main(words) == 0
    again = read_record(name)
    for rows in (record.rows, again.rows):
        for row in rows:
            row.pop("seconds")
    assert again.rows == record.rows
    assert again.parameters == record.parameters
    seen = {name for row in record.log for name in row}
    assert ({"l_dis", "d_student", "d_teacher", "penalty", "gradient_norm"} <= seen) == (objective == "paper")


def test_the_record_of_a_run_says_what_ran(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = [*TINY, "recipe=brief", "seed=3", "train_subjects=2", "record=a.json", "weights=a.safetensors"]
    assert cli.main(["train", *words]) == 0
    record = read_record("a.json")
    config = RunConfig.check(read_parameters(words))
    assert record.parameters == config.flat()
    assert record.method == Method.of_network(config.model, objective="none", recipe="brief", seed=3)
    assert (record.dataset, record.pair_list, record.fold) == ("simulated_brains", "ring", None)
    assert record.split == {"train": 2, "validation": 3, "test": 3}
    assert (record.measured_on, record.notebook, record.labels) == (None, None, "linear")
    model, _, about = load_model("a.safetensors")
    assert record.weight_count == count_parameters(model)["total"]
    assert record.test.pairs == len(record.rows) == 3
    assert record.test.dice_mean == pytest.approx(sum(row["dice"] for row in record.rows) / 3, abs=1e-5)
    assert record.test.hd95_mean == pytest.approx(sum(row["hd95"] for row in record.rows) / 3, abs=1e-4)
    assert record.training_seconds == record.log[-1]["seconds"]
    assert [row["step"] for row in record.log if "validation_dice" in row] == [2, 4]
    known = {"dataset": "simulated_brains", "objective": "none", "recipe": "brief", "seed": 3, "record": "a.json"}
    assert known.items() <= about.items()
    assert "fold" not in about
    assert about["dice_mean"] == record.test.dice_mean


def test_a_training_that_diverges_leaves_with_exit_code_1(tmp_path, monkeypatch, capsys):
    """It is no mistake in the input, which has exit code 2; and no record is left behind."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(["train", *TINY, "learning_rate=1e30", "record=a.json", "weights=a.safetensors"]) == 1
    output = capsys.readouterr()
    assert output.err.splitlines()[-1].startswith("lddr: The loss is ")
    assert "training has diverged. Try a smaller learning_rate (now 1e+30)" in output.err
    assert "Test: Dice" not in output.out
    assert not list(tmp_path.iterdir())


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
    model, config, about = load_model("a.safetensors")
    test = load_cohort("simulated_brains", "test", size=SIZE, subjects=3)
    figures = summarise(evaluate(by_network(model), test, evaluation_pairs(3)), test.label_names)
    assert figures.dice_mean == pytest.approx(read_record("a.json").test.dice_mean, abs=2e-3)  # kept as float16
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
        (["none.yaml"], "none.yaml: there is no such file."),
        (["objective=["], "objective=[: this is not YAML."),
        (["list.yaml"], "list.yaml: expected lines of the form 'name: value'."),
    ],
)
def test_mistakes_are_one_sentence(tmp_path, teacher, monkeypatch, capsys, words, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text("- 1\n- 2\n")
    (tmp_path / "noise.yaml").write_bytes(bytes(range(128, 256)))
    (tmp_path / "taken").mkdir()
    monkeypatch.setattr(runs, "fit", lambda *_, **__: pytest.fail("training began"))
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
