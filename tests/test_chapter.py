"""A chapter's parameters: those of its own cell, what papermill puts after it, and files that chapters share."""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml
from papermill.parameterize import parameterize_notebook

from lddr.data.registry import load_cohort
from lddr.errors import InputError
from lddr.infer.evaluate import by_network, evaluate
from lddr.models import ModelConfig, build_model
from lddr.objective import LossWeights
from lddr.record import Method, Record, read_record
from lddr.train.config import DistillConfig, RunConfig, TrainConfig
from study.chapter import FAMILY, Parameters, chapter_parameters, given_values, literals
from study.chapter_run import write_chapter_run
from study.records import PROJECT, RECORDS

CELL = """dataset = "simulated_brains"  # or "hippocampus"
size = [32, 32, 32]
steps = 5
learning_rate = 0.001
smoothness = 1.0
record = None
"""
USES = ["dataset", "size", "steps", "learning_rate", "smoothness", "record"]


def notebook(source: str = CELL) -> nbformat.NotebookNode:
    """A notebook that is nothing but its cell of parameters."""
    cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["parameters"]})
    about = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    about |= {"papermill": {}}  # as it is once papermill has read it
    return nbformat.v4.new_notebook(cells=[cell], metadata=about)


def history(given: dict[str, Any], source: str = CELL) -> list[str]:
    """The code that has run when papermill was given these values, as IPython keeps it."""
    cells = parameterize_notebook(notebook(source), given).cells if given else notebook(source).cells
    return ["", *(cell.source for cell in cells)]


def ask(cells: list[str], uses: list[str] = USES) -> Parameters:
    return chapter_parameters({"In": [*cells, "p = chapter_parameters(globals(), [...])"]}, uses)


def test_without_papermill_the_chapter_has_its_own_values() -> None:
    values = {"dataset": "simulated_brains", "size": [32, 32, 32], "steps": 5, "learning_rate": 0.001}
    assert vars(ask(history({}))) == values | {"smoothness": 1.0, "record": None}


def test_what_papermill_puts_after_the_cell_wins() -> None:
    given = {"steps": 9, "record": "it's a.json", "size": [16, 16, 16], "dataset": "hippocampus"}
    assert vars(ask(history(given))) == {"learning_rate": 0.001, "smoothness": 1.0} | given


def test_the_values_reach_the_settings_that_know_them() -> None:
    p = ask(history({"steps": 9, "smoothness": 2.0, "record": "a.json"}))
    assert p.part(TrainConfig) == TrainConfig(steps=9)
    assert p.part(ModelConfig) == ModelConfig(size=[32, 32, 32])
    assert p.part(LossWeights) == LossWeights(smoothness=2.0)
    assert p.part(DistillConfig) == DistillConfig()
    flat = {"dataset": "simulated_brains", "size": [32, 32, 32], "steps": 9, "smoothness": 2.0, "record": "a.json"}
    assert p.run == RunConfig.check(flat)


def test_cells_that_run_again_count_as_they_ran_last() -> None:
    """In a notebook that is edited by hand, the cell of parameters may run more than once."""
    edited = CELL.replace("steps = 5", "steps = 70")
    other = ["import torch", "print(p.steps)", "model = 5", "steps += 1"]
    assert ask([*history({}), *other, edited]).steps == 70
    assert ask([*history({"steps": 9}), edited]).steps == 70, "the cell ran after what papermill had put there"
    assert ask([*history({"steps": 9}), edited, history({"steps": 9})[2]]).steps == 9
    assert ask([*history({}), *other, edited, CELL]).steps == 5


def test_one_parameter_that_is_set_in_a_cell_of_its_own_counts() -> None:
    p = ask([*history({"smoothness": 2.0}), "steps = 70"])
    assert (p.steps, p.smoothness, p.size) == (70, 2.0, [32, 32, 32])


def test_a_cell_of_parameters_that_computes_something_is_refused() -> None:
    with pytest.raises(InputError, match="plain values"):
        ask([*history({}), CELL.replace("[32, 32, 32]", "[48] * 3")])


def test_names_that_a_chapter_gives_later_are_not_its_parameters() -> None:
    later = ["n = 3", "title = 'LDR'", "step = 5\nrate = step / 2", "def f():\n    steps = 9", "(steps, size) = 1, 2"]
    assert ask([*history({}), *later]) == ask(history({}))


@pytest.mark.parametrize(
    ("source", "values"),
    [
        (
            "a = 1\nb = [1, 'x', None, -2.5, {'c': (True,)}]  # words",
            {"a": 1, "b": [1, "x", None, -2.5, {"c": (True,)}]},
        ),
        ("", {}),
        ("# Parameters\nsteps = 3\n", {"steps": 3}),
        ("a = 1\nprint(a)", None),
        ("a = b", None),
        ("a, b = 1, 2", None),
        ("a += 1", None),
        ("a = ", None),
        ("%matplotlib inline", None),
    ],
)
def test_only_names_for_plain_values_are_read(source: str, values: dict[str, Any] | None) -> None:
    assert literals(source) == values


def test_what_papermill_gave_is_told_from_the_chapter_s_own() -> None:
    values, given = given_values(history({"steps": 9, "width": 3}), USES)
    assert given == ["steps", "width"]
    assert (values["steps"], values["width"], values["size"]) == (9, 3, [32, 32, 32])
    assert given_values(history({}), USES)[1] == []
    assert given_values([], USES) == ({}, [])


REFUSED = (
    "This chapter does not use {}; it uses dataset, size, steps, learning_rate, smoothness, record. "
    "A YAML file may hold parameters of other chapters if its last line is 'shared: true'."
)
SECOND = " Make one of two such files: names of a second one look like those of -p."


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"width": 8}, REFUSED.format("'width'")),
        ({"steps": 9, "gamma": 0.5, "moving_file": "a.nii.gz"}, REFUSED.format("'gamma' and 'moving_file'")),
        ({"stepz": 9}, "There is no parameter 'stepz': did you mean 'steps'?"),
        ({"steps": 9.5}, "Parameter 'steps' is 9.5: input should be a valid integer."),
        ({"steps": "9"}, "Parameter 'steps' is '9': input should be a valid integer."),
        ({"learning_rate": "fast"}, "Parameter 'learning_rate' is 'fast': input should be a valid number."),
        ({"smoothness": -1.0}, "Parameter 'smoothness' is -1.0: input should be greater than or equal to 0."),
        (
            {"size": [32, 32]},
            "Parameter 'size' is [32, 32]: list should have at least 3 items after validation, not 2.",
        ),
        ({"record": 5}, "Parameter 'record' is 5: input should be a valid string."),
    ],
)
def test_a_wrong_parameter_is_refused_in_a_sentence(given: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        ask(history(given))
    assert str(error.value) == sentence


def test_a_name_far_from_all_others_lists_those_of_the_chapter() -> None:
    with pytest.raises(
        InputError, match="no parameter 'zzz': the known ones are dataset, learning_rate, record, size, "
    ):
        ask(history({"zzz": 1}))


def test_a_parameter_of_a_chapter_alone_is_checked_too() -> None:
    source, uses = 'model = "hippocampus"\nmoving = 0\n', ["model", "moving"]
    assert ask(history({"moving": 3}, source), uses).moving == 3
    with pytest.raises(InputError, match="Parameter 'moving' is -1"):
        ask(history({"moving": -1}, source), uses)


def test_a_cell_that_has_not_run_is_named() -> None:
    with pytest.raises(InputError, match="'dataset' has no value: run the cell of parameters first"):
        ask([])
    with pytest.raises(InputError, match="'record' has no value"):
        ask(history({}, CELL.replace("record = None\n", "")))


def test_without_a_history_the_values_are_taken_as_they_stand() -> None:
    """As under nbval, whose kernel keeps none, and in a script."""
    there: dict[str, Any] = {}
    for cell in history({"steps": 9, "width": 8}):
        exec(cell, there)
    wanted = vars(ask(history({"steps": 9})))
    assert vars(chapter_parameters(there | {"In": [""]}, USES)) == vars(chapter_parameters(there, USES)) == wanted
    with pytest.raises(InputError, match="Parameter 'steps' is 'many'"):
        chapter_parameters(there | {"steps": "many"}, USES)
    del there["record"]
    with pytest.raises(InputError, match="'record' has no value: run the cell of parameters first"):
        chapter_parameters(there, USES)


def test_a_history_counts_for_more_than_what_a_name_stands_for_now() -> None:
    assert chapter_parameters({"In": history({}), "steps": 70}, USES).steps == 5
    with pytest.raises(InputError, match="'record' has no value"):
        chapter_parameters({"In": history({}, CELL.replace("record = None\n", "")), "record": None}, USES)


def in_file(text: str, **single: Any) -> dict[str, Any]:
    """What papermill makes of `-f` with a file of this text, then of single `-p`."""
    return yaml.safe_load(text) | single


def test_a_shared_file_may_hold_what_other_chapters_use(capsys: pytest.CaptureFixture) -> None:
    p = ask(history(in_file("width: 8\nsteps: 9\nmoving_file: a.nii.gz\nshared: true\n")))
    assert vars(p) == vars(ask(history({"steps": 9})))
    assert capsys.readouterr().out == "Not used in this chapter: width, moving_file.\n"
    ask(history(in_file("steps: 9\nshared: true\n")))
    assert capsys.readouterr().out == ""


def test_a_single_value_after_a_shared_file_wins_and_must_be_the_chapter_s_own(capsys: pytest.CaptureFixture) -> None:
    shared = "width: 8\nsteps: 9\nshared: true\n"
    assert ask(history(in_file(shared, steps=3))).steps == 3
    assert ask(history(in_file(shared, smoothness=3.0))).smoothness == 3
    with pytest.raises(InputError) as error:
        ask(history(in_file(shared, gamma=0.5)))
    assert str(error.value) == REFUSED.format("'gamma'") + SECOND


def test_of_two_shared_files_the_sentence_says_that_one_must_be_made() -> None:
    """papermill merges them: what the second one adds looks like a single value."""
    first, second = (yaml.safe_load(text) for text in ("width: 8\nshared: true\n", "steps: 9\nshared: true\n"))
    assert ask(history(first | second)).steps == 9
    with pytest.raises(InputError) as error:
        ask(history(first | {"gamma": 0.5} | second))
    assert str(error.value) == REFUSED.format("'gamma'") + SECOND


@pytest.mark.parametrize("text", ["width: 8\nsteps: 9\n", "width: 8\nsteps: 9\nshared: false\n"])
def test_a_file_of_one_chapter_holds_its_parameters_and_no_others(text: str) -> None:
    with pytest.raises(InputError) as error:
        ask(history(in_file(text)))
    assert str(error.value) == REFUSED.format("'width'")


def test_a_misspelt_name_is_refused_in_a_shared_file_too() -> None:
    with pytest.raises(InputError) as error:
        ask(history(in_file("widht: 8\nsteps: 9\nshared: true\n")))
    assert str(error.value) == "There is no parameter 'widht': did you mean 'width'?"


def test_every_shared_file_of_the_book_is_made_of_known_names() -> None:
    for file in (PROJECT / "notebooks" / "params").glob("*.yaml"):
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert list(values)[-1] == "shared", file.name
        assert values.keys() - {"shared"} <= FAMILY.keys(), file.name
        for part in set(FAMILY.values()):
            part.check({name: value for name, value in values.items() if name in part.model_fields})


CHAPTERS = sorted((PROJECT / "notebooks").glob("[0-9]*.ipynb"))


@pytest.mark.parametrize("path", CHAPTERS, ids=[path.stem for path in CHAPTERS])
def test_every_chapter_takes_its_own_cell_and_every_shared_file(path: Path, capsys: pytest.CaptureFixture) -> None:
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    own = [cell.source for cell in cells if "parameters" in cell.metadata.get("tags", [])]
    if not own:
        pytest.skip("a chapter without parameters")
    uses = list(literals(own[0]))
    calls = [cell.source for cell in cells if "chapter_parameters(globals()" in cell.source]
    assert len(own) == len(calls) == 1
    assert all(f'"{name}"' in calls[0] for name in uses), "the cell that asks names the same parameters"
    assert vars(ask(["", own[0]], uses)) == literals(own[0])
    for file in (PROJECT / "notebooks" / "params").glob("*.yaml"):
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
        p = ask(history(values, own[0]), uses)
        assert vars(p) == literals(own[0]) | {name: value for name, value in values.items() if name in uses}


def asked_for(record: Record) -> Parameters:
    """What the notebook of a recorded command would run with: its own cell, then what the command says."""
    program, path, _, option, values = shlex.split(record.command)
    assert (program, option) == ("papermill", "-y")
    cells = nbformat.read(PROJECT / path, as_version=4).cells
    (own,) = (cell.source for cell in cells if "parameters" in cell.metadata.get("tags", []))
    return ask(history(yaml.safe_load(values), own), list(literals(own)))


def test_the_command_of_a_notebook_s_record_asks_for_what_the_record_holds() -> None:
    found = [read_record(file) for file in sorted(RECORDS.rglob("*.json"))]
    found = [record for record in found if record.command.startswith("papermill")]
    assert len(found) == 3
    for record in found:
        asked = asked_for(record).run.flat()
        held = {name: value for name, value in record.parameters.items() if name in asked}
        for name in ("log_every", "checkpoint_every"):  # of no effect on what is learnt; chapters no longer have them
            held.pop(name, None)
        assert held.keys() >= {"steps", "size", "seed", "learning_rate", "cascades", "smoothness", "augmentation"}
        assert asked.items() >= held.items()


def written(folder: Path, **changes: Any) -> tuple[Parameters, Record]:
    """The record that chapter 06 leaves with these parameters."""
    (own,) = (
        cell.source
        for cell in nbformat.read(PROJECT / "notebooks" / "06_student.ipynb", as_version=4).cells
        if "parameters" in cell.metadata.get("tags", [])
    )
    file = folder / 'it\'s a "first" Größe.json'
    p = ask(history({"record": str(file), **changes}, own), list(literals(own)))
    test = load_cohort("simulated_brains", "test", size=(16, 16, 16), subjects=2)
    model = build_model(ModelConfig(width=2), seed=0)
    rows = evaluate(by_network(model), test, [(0, 1), (1, 0)])
    summary = write_chapter_run(p, "06_student", model, [{"step": 1, "seconds": 0.5, "loss": 1.0}], [test] * 3, rows)
    record = read_record(file)
    assert record.test == summary
    return p, record


def test_a_chapter_s_record_says_how_to_make_it_again(tmp_path: Path) -> None:
    p, record = written(tmp_path, steps=7, seed=3)
    assert asked_for(record) == p
    assert record.parameters == p.run.flat() | {"recipe": "chapter 06"}
    assert (record.notebook, record.training_seconds, record.licence[:9]) == ("06_student", 0.5, "made from")
    about = {"objective": "none", "recipe": "chapter 06", "seed": 3}
    assert record.method == Method.of_network(p.part(ModelConfig), **about)


def test_a_small_number_survives_the_command_of_a_record(tmp_path: Path) -> None:
    p, record = written(tmp_path, learning_rate=1e-5)
    assert asked_for(record) == p


SETTINGS = """import json
from study.chapter import chapter_parameters
p = chapter_parameters(globals(), ["dataset", "size", "steps", "learning_rate", "smoothness", "record"])
print(json.dumps(vars(p)))
"""


@pytest.mark.slow
def test_papermill_hands_a_chapter_what_the_command_line_says(tmp_path: Path) -> None:
    """With a shared file, a single value after it, and one that needs quotes."""
    chapter = notebook()
    chapter.cells.append(nbformat.v4.new_code_cell(SETTINGS))
    nbformat.write(chapter, tmp_path / "in.ipynb")
    (tmp_path / "shared.yaml").write_text("gamma: 0.5\nsteps: 9\nsmoothness: 2.0\nsize: [16, 16, 16]\nshared: true\n")
    words = ["in.ipynb", "out.ipynb", "-f", "shared.yaml", "-p", "steps", "3", "-r", "record", """it's "a".json"""]
    command = [sys.executable, "-m", "papermill", *words, "--no-progress-bar"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    (output,) = nbformat.read(tmp_path / "out.ipynb", as_version=4).cells[-1].outputs
    said, values = output.text.splitlines()
    assert said == "Not used in this chapter: gamma."
    assert json.loads(values) == {
        "dataset": "simulated_brains",
        "size": [16, 16, 16],
        "steps": 3,
        "learning_rate": 0.001,
        "smoothness": 2.0,
        "record": """it's "a".json""",
    }


def test_a_tilde_in_the_name_of_a_file_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/me")
    given = {"fixed_file": "~/a.nii.gz", "record": "~/r.json", "steps": 5, "learning_rate": 1, "recipe": "~"}
    found = vars(chapter_parameters(given, [*given]))
    assert found == given | {"fixed_file": "/users/me/a.nii.gz", "record": "/users/me/r.json"}
    assert type(found["learning_rate"]) is int, "as it was written"
