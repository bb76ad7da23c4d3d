"""The recorded runs: every command is valid, every record has a reader, weights are made before they are read."""

import ast
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest
import study

from lddr.cli import read_parameters
from lddr.data.published import FOLDER, SETS
from lddr.results import METHODS
from lddr.settings import Settings

ROOT = study.ROOT


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The commands of a reader who has the paper's sets too; only the names of these files count here."""
    (tmp_path / FOLDER).mkdir()
    for test, _ in SETS.values():
        (tmp_path / FOLDER / test).touch()
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    return study.commands()


def test_every_training_command_has_valid_parameters_and_leaves_its_own_record(runs: dict[str, list[str]]) -> None:
    training = {name: words[2:] for name, words in runs.items() if words[:2] == ["lddr", "train"]}
    trained = {name: read_parameters([str(ROOT / file), *words]) for name, (file, *words) in training.items()}
    assert {name.partition("/")[0] for name in trained} >= {"hippocampus", "liver_mr", "sliver", "lpba"}
    for name, given in trained.items():
        settings = Settings.check(given)
        assert settings.record == f"book/records/{name}.json"
        assert settings.weights == f"{settings.folder}/weights.safetensors"
    for part in ("folder", "weights"):
        assert len({given[part] for given in trained.values()}) == len(trained)


def test_names_are_unique(runs: dict[str, list[str]]) -> None:
    parts = [{f"hippocampus/{name}" for name in study.hippocampus_runs()}, *map(study.liver_runs, study.FOLDS)]
    parts += [study.paper_runs(), study.other_runs()]
    assert sum(map(len, parts)) == len(runs)
    assert len({tuple(words) for words in runs.values()}) == len(runs)


def test_no_row_of_table_1_stays_empty_for_want_of_a_command(runs: dict[str, list[str]]) -> None:
    adapted = {f"LDR, best recipe, {n} cascade{'s' * (n > 1)}, adapted to each pair" for n in (1, 3)}
    adapted |= {"RCN, VTN, 3 cascades, adapted to each pair"}
    wanted = {"hippocampus": adapted}
    wanted["liver_mr"] = {f"LDR, best recipe with l2, {n} cascade{'s' * (n > 1)}" for n in (1, 2, 3)}
    wanted["liver_mr"] |= {"RCN, VTN, 3 cascades, softer"}  # all of these are extra rows of one data set
    for dataset, without in wanted.items():
        names = {re.sub(r"_fold\d", "", name.partition("/")[2]) for name in runs if name.startswith(f"{dataset}/")}
        empty = {method for method, pattern in METHODS.items() if not any(re.fullmatch(pattern, n) for n in names)}
        assert empty == without


def texts(source: str) -> Iterator[str]:
    """Every text of a Python source that could name records, as a pattern; what the code fills in may be anything."""
    anything = r"[\w.-]+"
    for node in ast.walk(ast.parse(source)):
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        pattern = "".join(str(part.value) if isinstance(part, ast.Constant) else anything for part in parts)
        if re.match(r"[a-z]{4}", pattern) and re.fullmatch(r"[\w.\\?*+()|-]+", pattern.replace(anything, "")):
            yield pattern + anything * pattern.endswith("_")  # as in `name.startswith("beyond_")`


def test_every_record_has_a_reader(runs: dict[str, list[str]]) -> None:
    chapters = sorted((ROOT / "notebooks").glob("[01]*.ipynb"))
    cells = [cell for path in chapters for cell in nbformat.read(path, as_version=4).cells]
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    sources += [path.read_text() for path in (ROOT / "book").glob("*.py") if path.stem != "study"]
    patterns = set(METHODS.values()) | {text for source in sources for text in texts(source)}
    # The run of three minutes is the one of the README, which says what Dice to expect.
    patterns |= {"student_1cas_3min"} if "params/hippocampus_3min.yaml" in (ROOT / "README.md").read_text() else set()
    names = {re.sub(r"_fold\d", "", name.partition("/")[2]) for name in runs}
    assert {n for n in names if not any(re.fullmatch(pattern, n) for pattern in patterns)} == set()


def test_a_dry_run_expects_minutes_for_every_command(
    runs: dict[str, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "notebooks" / "params", tmp_path / "notebooks" / "params")
    monkeypatch.setattr(study, "ROOT", tmp_path)  # no record is there
    study.main([])
    lines = capsys.readouterr().out.splitlines()[::2]
    assert len(lines) == len(runs)
    assert [line for line in lines if not re.fullmatch(r"# [\w./-]+: no record, about [1-9][\d,]* min", line)] == []
    assert "# hippocampus/teacher_3cas: no record, about 102 min" in lines
    assert "# liver_mr/teacher_3cas_fold2: no record, about 13 min" in lines
    record = tmp_path / "book" / "records" / "liver_mr" / "teacher_3cas_fold0.json"
    record.parent.mkdir(parents=True)
    record.write_text(json.dumps({"training_seconds": 3000.0}))
    study.main([])
    text = capsys.readouterr().out
    assert "# liver_mr/teacher_3cas_fold0: 50 min\n" in text  # what was measured wins
    assert "# liver_mr/teacher_3cas_fold2: no record, about 50 min\n" in text


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are made, in their order; nothing runs, but weights and records appear."""
    names: list[str] = []

    def call(*words: str) -> None:
        name = next(n for n, command in study.commands().items() if command == list(words))
        names.append(name)
        files = [word.partition("=")[2] for word in words if word.startswith("weights=")]
        for file in [*files, f"book/records/{name}.json"]:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text("{}")

    monkeypatch.delenv("LDDR_DATA", raising=False)
    monkeypatch.setattr(study, "ROOT", tmp_path)
    monkeypatch.setattr(study, "BUILD", tmp_path / "_build")
    monkeypatch.setattr(study, "call", call)
    return names


def test_weights_that_are_not_there_are_made_first_even_if_their_record_is(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "book" / "records" / "liver_mr" / "teacher_3cas_fold1.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    study.main(["--run", "liver_mr/student_?cas_paper_seed0_fold1"])
    students = [f"liver_mr/student_{n}cas_paper_seed0_fold1" for n in (1, 2, 3)]
    assert made == ["liver_mr/teacher_1cas_fold1", "liver_mr/teacher_3cas_fold1", *students]
    assert "liver_mr/teacher_3cas_fold1, because a run after it reads its weights" in capsys.readouterr().out
    study.main(["--run", students[1]])
    assert made[5:] == [students[1]]  # now they are there


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("hippocampus/teacher_3cas_fine", {"hippocampus/teacher_3cas"}),
        ("hippocampus/student_2cas_paper_seed1", set()),  # its teacher is shipped
        ("liver_mr/adapted_1cas_fold2", {"liver_mr/beyond_1cas_none_fold2"}),
        ("liver_mr/adapted_3cas_fold2", {"liver_mr/beyond_1cas_none_fold2", "liver_mr/beyond_3cas_none_fold2"}),
        (
            "liver_mr/figure2",  # a student needs a teacher of its own
            {f"liver_mr/{n}_fold0" for n in ("student_1cas_none_seed0", "student_1cas_paper_seed0", "teacher_1cas")}
            | {"liver_mr/teacher_3cas_fold0"},
        ),
    ],
)
def test_what_a_run_reads_is_made_before_it(made: list[str], name: str, before: set[str]) -> None:
    study.main(["--run", name])
    assert made[-1] == name
    assert set(made[:-1]) == before
    assert len(made) == len(before) + 1
    if name.endswith("figure2"):
        assert made.index("liver_mr/teacher_3cas_fold0") < made.index("liver_mr/student_1cas_paper_seed0_fold0")


def test_without_records_everything_is_made_once_and_in_order(made: list[str]) -> None:
    study.main(["--run"])
    assert sorted(made) == sorted(study.commands())
    runs = study.commands()
    makers = {w.removeprefix("weights="): n for n, words in runs.items() for w in words if w.startswith("weights=")}
    after = [(made.index(n), made.index(makers[f])) for n in runs for f in study.reads(runs[n]) if f in makers]
    assert len(after) >= len(study.FOLDS) * 4  # three students and a run that is adapted, each fold
    assert all(maker < reader for reader, maker in after)
