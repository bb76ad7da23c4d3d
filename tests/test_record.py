"""Records: what is written comes back, as JSON that any reader takes; a file that is none is refused in a sentence."""

import datetime
import json
import math
import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lddr import record as module
from lddr.errors import InputError
from lddr.models import ModelConfig
from lddr.record import (
    SCHEMA_VERSION,
    AnyRecord,
    CostRecord,
    FigureRecord,
    Machine,
    Method,
    Record,
    Summary,
    TrialRecord,
    column,
    commit,
    finite,
    machine,
    provenance,
    read_record,
    rounded,
    write_json,
    write_record,
)

MACHINE = Machine(cpu="a processor", cores=2, threads=1, gpu=None, system="Linux", python="3.11", torch="2.4")
COMMON: dict[str, Any] = {"command": "lddr evaluate", "commit": "abc+changes", "machine": MACHINE, "date": "2026-01-01"}
ROWS = [
    {"moving": "a", "fixed": "b", "dice": 0.75, "dice_1": math.nan, "seconds": 0.25},
    {"moving": "b", "fixed": "a", "dice": 0.5, "dice_1": 0.125, "seconds": 2},
]
SUMMARY = Summary(
    pairs=2,
    dice_mean=0.625,
    dice_std=0.125,
    dice_per_label={"one": 0.125, "absent": math.nan},
    jaccard_mean=0.5,
    dice_initial=0.25,
    folding_percent=0.0,
    jacobian_std=0.1,
    seconds_per_pair=1.125,
)
RECORD = Record(
    **COMMON,
    licence="CC0",
    method=Method.of_network(ModelConfig(cascades=3), objective="l2", seed=1, adapted=5),
    dataset="made up",
    split={"test": 2},
    fold=3,
    pair_list="all",
    measured_on=[128, 128, 128],
    parameters={"steps": 7, "learning_rate": 1e-3, "teacher": None, "size": [16, 16, 16], "mirror": False},
    test=SUMMARY,
    log=[{"step": 1, "seconds": 0.5, "loss": 1.0}, {"step": 2, "seconds": 1, "validation_dice": math.nan}],
    rows=ROWS,
)
COST = CostRecord(
    **COMMON,
    device="cpu",
    threads=1,
    size=[16, 16, 16],
    networks={"LDR": {"parameters": 5, "seconds": 0.5, "quartiles": [0.25, 0.75]}},
    tools={"elastix": {"seconds": math.inf}},
)
FIGURE = FigureRecord(
    **COMMON,
    dataset="made up",
    split={"test": 2},
    pair_list="ring",
    size=[16, 16, 16],
    drawn_on=[16, 16, 16],
    labels="linear",
    plane="axial",
    models={"LDR": {"dice": 0.5}},
    figures=["figure.png"],
    rule="the median",
    shown=[{"moving": "a", "fixed": "b"}],
    slices={"a": [3, 4]},
    rows=ROWS,
)
TRIAL = TrialRecord(**COMMON, what="It was killed, and went on.", counts={"kills": 50, "MB": 1.5}, seconds=3.0)


def strictly(path: Path) -> Any:
    """What a reader of JSON that knows no NaN makes of a file."""

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.mark.parametrize("record", [RECORD, COST, FIGURE, TRIAL], ids=["record", "cost", "figure", "trial"])
def test_what_is_written_comes_back_in_full(tmp_path: Path, record: AnyRecord) -> None:
    path = tmp_path / "deeper" / "a.json"
    write_record(path, record)
    found = read_record(path)
    assert type(found) is type(record)
    assert found.model_dump() == finite(record.model_dump())
    assert [p.name for p in path.parent.iterdir()] == ["a.json"]
    stored = strictly(path)
    assert stored == found.model_dump()
    assert stored["schema_version"] == SCHEMA_VERSION
    write_record(tmp_path / "again.json", found)
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


def test_whole_numbers_and_text_keep_their_type(tmp_path: Path) -> None:
    parameters = {"steps": 1, "learning_rate": 1.0, "mirror": True, "teacher": "1", "seed": 0, "size": [1, 2, 3]}
    write_record(tmp_path / "a.json", RECORD.model_copy(update={"parameters": parameters}))
    found = read_record(tmp_path / "a.json")
    assert {name: repr(value) for name, value in found.parameters.items()} == {
        name: repr(value) for name, value in parameters.items()
    }
    assert [type(row["seconds"]) for row in found.rows] == [float, int]
    assert [type(row["step"]) for row in found.log] == [int, int]


def test_what_does_not_exist_is_null_in_the_file_and_nan_in_a_column(tmp_path: Path) -> None:
    write_record(tmp_path / "a.json", RECORD)
    stored, found = strictly(tmp_path / "a.json"), read_record(tmp_path / "a.json")
    assert [row["dice_1"] for row in stored["rows"]] == [None, 0.125]
    assert stored["test"]["dice_per_label"] == {"one": 0.125, "absent": None}
    assert stored["log"][1]["validation_dice"] is None
    assert found.test.dice_per_label["absent"] is None
    for rows in (RECORD.rows, found.rows):
        np.testing.assert_array_equal(column(rows, "dice_1"), [np.nan, 0.125])
        np.testing.assert_array_equal(column(rows, "dice"), [0.75, 0.5])
    with pytest.raises(KeyError):
        column(found.rows, "jaccard")


def test_of_all_that_is_not_finite_json_has_nothing(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [math.inf, {"c": (-math.inf, 1.5)}], "d": "NaN", "e": 2, "f": None, "g": True}
    write_json(tmp_path / "a.json", value)
    expected = {"a": None, "b": [None, {"c": [None, 1.5]}], "d": "NaN", "e": 2, "f": None, "g": True}
    assert strictly(tmp_path / "a.json") == expected


def test_floats_are_rounded_to_five_digits_wherever_they_are() -> None:
    found = rounded([{"dice": 0.123456789, "name": "a", "n": 7, "inner": [1.000004, {"x": 2.000006}]}])
    assert found == [{"dice": 0.12346, "name": "a", "n": 7, "inner": [1.0, {"x": 2.00001}]}]
    assert math.isnan(rounded([{"dice": math.nan}])[0]["dice"])


def test_a_record_cannot_be_changed_or_hold_what_it_does_not_know() -> None:
    with pytest.raises(ValueError, match="frozen"):
        RECORD.fold = 0
    with pytest.raises(ValueError, match="dice"):
        Record(**(RECORD.model_dump() | {"dice": 1.0}))


def spoilt(**changes: Any) -> str:
    """A record as text, with some of its fields changed; a change to `...` leaves the field out."""
    values = finite(RECORD.model_dump()) | changes
    return json.dumps({name: value for name, value in values.items() if value is not ...})


@pytest.mark.parametrize(
    ("text", "where"),
    [
        (spoilt(schema_version=1), "schema_version"),
        (spoilt(schema_version=3), "schema_version"),
        (spoilt(kind=...), "the file"),
        (spoilt(kind="recipe"), "the file"),
        (spoilt(test=...), "record.test"),
        (spoilt(dice_mean=0.5), "record.dice_mean"),
        (spoilt(fold="first"), "record.fold"),
        (spoilt(rows={"dice": 1}), "record.rows"),
        (spoilt()[:-20], "the file"),
        ("", "the file"),
        ("[1, 2]", "the file"),
        ("dice: 0.5", "the file"),
        ("\xff\xfe", "the file"),
    ],
)
def test_what_is_no_record_is_refused_in_a_sentence(tmp_path: Path, text: str, where: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError) as error:
        read_record(path)
    start = f"{path}: not a record of schema version {SCHEMA_VERSION} ("
    assert str(error.value).startswith(start)
    assert where in str(error.value).removeprefix(start)
    assert str(error.value).count("\n") == 0


def test_a_file_that_is_not_there_or_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.json: cannot be read \(No such file or directory\)"):
        read_record(tmp_path / "none.json")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        read_record(tmp_path)


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    write_record(path, RECORD)
    before = path.read_bytes()
    with pytest.raises(TypeError):
        write_json(path, {"image": torch.zeros(2)})
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(InputError, match="cannot be written"):
        write_record(path, COST)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


WORDS = [
    ["lddr", "train", "record=a b.json"],
    ["lddr", "train", """record=it's a "first".json"""],
    ["lddr", "train", "recipe=größer → 中", "size=[16, 16, 16]"],
    ["lddr", "evaluate", "--model", "$HOME/`m`.safetensors", "--json", "a;b&c|d>e*?!.json", ""],
    ["papermill", "in.ipynb", "-y", '{"record": "it\'s a \\"b\\" \\\\ c", "teacher": null}'],
    ["lddr", "line\nbreak", "tab\t", "~", "#", "-"],
]


@pytest.mark.parametrize("words", WORDS)
def test_a_command_survives_the_file_and_a_shell(tmp_path: Path, words: list[str]) -> None:
    write_record(tmp_path / "a.json", RECORD.model_copy(update=provenance(words)))
    command = read_record(tmp_path / "a.json").command
    assert shlex.split(command) == words
    shell = shutil.which("bash")
    if shell is None:
        pytest.skip("there is no bash here")
    printed = subprocess.run([shell, "-c", f"printf '%s\\0' {command}"], capture_output=True, check=True)
    assert printed.stdout.decode().split("\0")[:-1] == words


def test_provenance_tells_code_machine_and_time() -> None:
    found = provenance(["lddr", "train"])
    assert found.keys() == {"command", "commit", "machine", "date"}
    assert found["machine"] == machine()
    assert found["machine"].threads == torch.get_num_threads()
    age = datetime.datetime.now(datetime.UTC) - datetime.datetime.fromisoformat(found["date"])
    assert datetime.timedelta(0) <= age < datetime.timedelta(minutes=5)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder under git that the package seems to lie in; the commit of this process is forgotten, and again after."""
    monkeypatch.setattr(module, "__file__", str(tmp_path / "lddr" / "record.py"))
    (tmp_path / "lddr").mkdir()
    commit.cache_clear()
    yield tmp_path
    commit.cache_clear()


def test_the_commit_is_that_of_the_code_and_says_if_files_differ(repository: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
        return subprocess.run(["git", *who, *words], cwd=repository, capture_output=True, text=True, check=True).stdout

    def found() -> str:
        commit.cache_clear()
        return commit()

    git("init", "-q")
    assert found() == "unknown", "nothing is committed yet"
    (repository / "lddr" / "record.py").write_text("1")
    git("add", ".")
    git("commit", "-q", "-m", "one")
    head = git("rev-parse", "HEAD").strip()
    (repository / "notes.txt").write_text("of no account")
    assert found() == head
    (repository / "lddr" / "record.py").write_text("2")
    assert commit() == head, "the code this process began with"
    assert found() == f"{head}+changes"


def test_outside_git_the_commit_is_unknown(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit() == "unknown"
    commit.cache_clear()
    monkeypatch.setenv("PATH", "")
    assert commit() == "unknown"
