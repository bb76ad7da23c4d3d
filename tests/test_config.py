"""Settings: every mistake gets one sentence that names the parameter, what was found and what would be right."""

import ast
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from lddr.config import read_parameters
from lddr.errors import InputError
from lddr.models import ModelConfig
from lddr.objective import LossWeights
from lddr.train.config import FIELDS, PARTS, DistillConfig, RunConfig, TrainConfig
from study.chapter import ChapterConfig


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"learning_rat": 1.0}, "There is no parameter 'learning_rat': did you mean 'learning_rate'?"),
        ({"steps": "many"}, "Parameter 'steps' is 'many': input should be a valid integer."),
        ({"steps": 3.5}, "Parameter 'steps' is 3.5: input should be a valid integer."),
        ({"steps": 0}, "Parameter 'steps' is 0: input should be greater than or equal to 1."),
        ({"mirror": 1}, "Parameter 'mirror' is 1: input should be a valid boolean."),
        ({"mirror": "yes"}, "Parameter 'mirror' is 'yes': input should be a valid boolean."),
        ({"learning_rate": "1e-3"}, "Parameter 'learning_rate' is '1e-3': input should be a valid number."),
        ({"learning_rate": 0.0}, "Parameter 'learning_rate' is 0.0: input should be greater than 0."),
        ({"learning_rate": float("inf")}, "Parameter 'learning_rate' is inf: input should be a finite number."),
        ({"augmentation": 1.5}, "Parameter 'augmentation' is 1.5: input should be less than or equal to 1."),
        ({"schedule": "line"}, "Parameter 'schedule' is 'line': input should be 'cosine', 'paper' or 'released_none'."),
    ],
)
def test_a_mistake_is_answered_with_a_sentence(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        TrainConfig.check(values)
    assert str(error.value) == sentence


def test_an_unknown_name_far_from_all_others_lists_them() -> None:
    with pytest.raises(InputError) as error:
        ModelConfig.check({"zzz": 1})
    known = ", ".join(sorted(ModelConfig.model_fields))
    assert str(error.value) == f"There is no parameter 'zzz': the known ones are {known}."


def test_several_mistakes_are_all_named() -> None:
    with pytest.raises(
        InputError, match=r"'network' is 'unet': .*\. .*'cascades' is 0: .*\. There is no parameter 'widt'"
    ):
        ModelConfig.check({"widt": 8, "network": "unet", "cascades": 0})


@pytest.mark.parametrize("size", [[64, 64], [64, 64, 64, 64], [64, 64, "a"], 64])
def test_a_size_is_three_whole_numbers(size: Any) -> None:
    with pytest.raises(InputError, match="Parameter 'size"):
        ModelConfig.check({"size": size})


def test_right_values_are_kept_as_they_are() -> None:
    config = TrainConfig.check({"steps": 7, "learning_rate": 1, "schedule": "paper"})
    assert (config.steps, config.learning_rate, config.schedule) == (7, 1, "paper")
    assert config.batch == TrainConfig().batch
    assert TrainConfig.check(config.model_dump()) == config


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(ValidationError):
        TrainConfig().steps = 5


def test_no_two_parts_of_a_run_use_one_name() -> None:
    """A flat file names the settings of all parts side by side: a name in two of them would set both."""
    assert FIELDS.keys() == RunConfig().flat().keys()
    assert len(FIELDS) == sum(len(part.model_fields) for part in PARTS.values())
    assert PARTS.keys() == RunConfig.model_fields.keys()


def test_flat_values_reach_the_parts_that_know_them() -> None:
    flat = {"steps": 7, "width": 8, "smoothness": 0.5, "gamma": 0.2, "dataset": "hippocampus", "teacher": "t"}
    config = RunConfig.check(flat | {"record": "a.json"})
    assert config.train == TrainConfig(steps=7)
    assert config.model == ModelConfig(width=8)
    assert config.loss == LossWeights(smoothness=0.5)
    assert config.distill == DistillConfig(gamma=0.2)
    assert (config.data.dataset, config.teaching.teacher, config.output.record) == ("hippocampus", "t", "a.json")
    assert RunConfig.check(config.flat()) == config
    changed = {name: value for name, value in config.flat().items() if value != RunConfig().flat()[name]}
    assert changed == flat | {"record": "a.json"}


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"smoothnes": 1.0}, "There is no parameter 'smoothnes': did you mean 'smoothness'?"),
        (
            {"stepz": 1, "widht": 2},
            "There is no parameter 'stepz': did you mean 'steps'? There is no parameter 'widht': did you mean 'width'?",
        ),
        ({"gamma": 2.0}, "Parameter 'gamma' is 2.0: input should be less than or equal to 1."),
        (
            {"dataset": "livers"},
            "Parameter 'dataset' is 'livers': the known data sets are simulated_brains, hippocampus, liver_mr, "
            "liver_mr_body, sliver, lits, lspig, lpba.",
        ),
    ],
)
def test_a_mistake_in_a_run_is_answered_with_the_name_that_was_written(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError) as error:
        RunConfig.check(values)
    assert str(error.value) == sentence


def written(path: Path, text: str) -> str:
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_words_are_read_as_numbers_lists_and_names_and_the_last_one_wins(tmp_path: Path) -> None:
    first = written(tmp_path / "a.yaml", "steps: 5\nrecord: Größe 1.json\nsize: [32, 32, 32]\n")
    second = written(tmp_path / "b.yaml", "steps: 6\nmirror: true\n")
    words = ["learning_rate=1e-4", "teacher=null", "weights=a=b.safetensors", 'recipe="3"', "width=4"]
    assert read_parameters([first, "width=2", second, *words]) == {
        "steps": 6,
        "record": "Größe 1.json",
        "size": [32, 32, 32],
        "width": 4,
        "mirror": True,
        "learning_rate": 1e-4,  # which YAML would take for a word
        "teacher": None,
        "weights": "a=b.safetensors",
        "recipe": "3",
    }
    assert read_parameters(["steps=9", first])["steps"] == 5


def test_what_a_shared_file_has_for_others_is_passed_over_and_said(tmp_path: Path, capsys: Any) -> None:
    file = written(tmp_path / "all.yaml", "steps: 5\nmoving_file: a.nii.gz\nscans: null\nshared: true\n")
    assert read_parameters([file], ["steps", "width"]) == {"steps": 5}
    assert capsys.readouterr().out == f"{file}: not used here: moving_file, scans.\n"
    assert read_parameters([file, "moving_file=b"], ["steps", "width"]) == {"steps": 5, "moving_file": "b"}, "a word"


def test_of_several_shared_files_each_is_passed_over_where_it_is_for_others(tmp_path: Path, capsys: Any) -> None:
    one = written(tmp_path / "one.yaml", "steps: 5\nmoving_file: a.nii.gz\nshared: true\n")
    two = written(tmp_path / "two.yaml", "steps: 7\nscans: null\nshared: true\n")
    assert read_parameters([one, two], FIELDS) == {"steps": 7}
    assert capsys.readouterr().out == f"{one}: not used here: moving_file.\n{two}: not used here: scans.\n"


def test_a_misspelt_name_is_not_passed_over_even_in_a_shared_file(tmp_path: Path) -> None:
    file = written(tmp_path / "all.yaml", "stepz: 5\nfild: 1\nscans: null\nshared: true\n")
    values = read_parameters([file], FIELDS)
    assert values == {"stepz": 5, "fild": 1}
    with pytest.raises(InputError, match="no parameter 'stepz': did you mean 'steps'"):
        RunConfig.check(values)


def test_no_parameter_of_a_chapter_counts_as_a_slip_for_one_of_a_run(tmp_path: Path) -> None:
    """A file for all chapters must serve `lddr train` too."""
    names = ChapterConfig.model_fields
    file = written(tmp_path / "all.yaml", "".join(f"{name}: null\n" for name in names) + "steps: 5\nshared: true\n")
    assert read_parameters([file], FIELDS) == {"steps": 5}


def test_a_file_that_is_not_shared_is_taken_at_its_word(tmp_path: Path, capsys: Any) -> None:
    for ending in ("", "shared: false\n"):
        file = written(tmp_path / "own.yaml", f"steps: 5\nscans: null\n{ending}")
        assert read_parameters([file], ["steps"]) == {"steps": 5, "scans": None}
    assert capsys.readouterr().out == ""


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("size: " + "[" * 5000, "it is nested too deeply for settings."),
        ("size: " + "[" * 21 + "]" * 21, "it is nested too deeply for settings."),
        (BOMB, "references (*name) are not taken here; write the values out."),
        ("recipe: " + "x" * 100_000, "the file is too large for settings."),
        ("mirror: !!bool perhaps", "this is not YAML."),
        ("recipe: 2020-99-99", "this is not YAML."),
        ("recipe: !!python/object/apply:os.getcwd []", "this is not YAML."),
        ("1: 2\n", "expected lines of the form 'name: value'."),
        ("on: 2\n", "expected lines of the form 'name: value'."),
        ("", "expected lines of the form 'name: value'."),
    ],
)
def test_a_file_that_is_no_settings_is_refused_at_once(tmp_path: Path, text: str, sentence: str) -> None:
    file = written(tmp_path / "a.yaml", text)
    with pytest.raises(InputError) as error:
        read_parameters([file])
    assert str(error.value) == f"{file}: {sentence}"


@pytest.mark.parametrize("word", ["size=" + "[" * 100_000, "steps=" + "9" * 5000, "recipe=!!timestamp x"])
def test_a_word_of_an_absurd_value_is_refused_in_a_sentence(word: str) -> None:
    with pytest.raises(InputError) as error:
        read_parameters([word])
    assert len(str(error.value)) < 200


def test_places_that_are_no_files_of_settings(tmp_path: Path) -> None:
    for word, sentence in (
        (str(tmp_path), "cannot be read (Is a directory); this is a folder, name a file in it."),
        ("x" * 300, "cannot be read (File name too long); give it a shorter name."),
        ("/dev/zero", "this is a device or a pipe; expected a file."),
    ):
        with pytest.raises(InputError) as error:
            read_parameters([word])
        assert str(error.value).endswith(f": {sentence}")


@pytest.mark.parametrize("name", ["seed", "steps", "batch", "store_pairs", "subjects", "learning_rate"])
def test_numbers_of_more_digits_than_a_computer_counts_are_refused(name: str) -> None:
    with pytest.raises(InputError) as error:
        RunConfig.check({name: 12345678901234567890123})
    assert str(error.value) == f"Parameter '{name}' is 12345678901234567890123: input should have fewer digits."
    assert RunConfig.check({"seed": 2**63 - 1}).train.seed == 2**63 - 1


def test_what_was_found_is_shown_in_brief() -> None:
    with pytest.raises(InputError) as error:
        TrainConfig.check({"steps": "x" * 10_000, "batch": [[[[[1]]]]] * 1000})
    assert len(str(error.value)) < 400


def test_a_tilde_in_a_path_is_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/users/me")
    names = ("start", "teacher", "store", "folder", "record", "weights")
    flat = RunConfig.check({name: f"~/{name}" for name in names}).flat()
    assert [flat[name] for name in names] == [f"/users/me/{name}" for name in names]
    assert RunConfig.check({"teacher": "a~b"}).teaching.teacher == "a~b"
    assert RunConfig.check({"recipe": "~"}).output.recipe == "~", "no path"


def test_files_are_read_as_utf_8_whatever_the_locale(tmp_path: Path) -> None:
    file = written(tmp_path / "a.yaml", "\ufeffrecipe: Größe\n")
    words = f"from lddr.config import read_parameters; print(ascii(read_parameters([{file!r}])))"
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    result = subprocess.run([sys.executable, "-c", words], env=environment, capture_output=True, text=True, check=True)
    assert ast.literal_eval(result.stdout) == {"recipe": "Größe"}
