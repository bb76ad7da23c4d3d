"""The recorded runs: commands make what records say, records have a reader, weights are made before they are read."""

import argparse
import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import nbformat
import pytest

from lddr.cli import evaluate as evaluate_command
from lddr.config import read_parameters
from lddr.data.published import FOLDER, SETS
from lddr.data.registry import DATASETS
from lddr.models import shipped_models
from lddr.record import CostRecord, FigureRecord, Method, Record, read_record, write_record
from lddr.train.config import FIELDS, RunConfig
from study import classical, cost, figure2, grid, runs
from study.chapter import FAMILY
from study.grid import Run, Runs
from study.methods import METHODS, title
from study.minutes import settings_of
from study.records import PROJECT, RECORDS


@pytest.fixture
def everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    """The runs of a reader who has the paper's sets too; only the names of these files count here."""
    (tmp_path / FOLDER).mkdir()
    for test, _ in SETS.values():
        (tmp_path / FOLDER / test).touch()
    monkeypatch.setenv("LDDR_DATA", str(tmp_path))
    return grid.commands()


def evaluation(run: Run) -> argparse.Namespace:
    """What `lddr evaluate` makes of a command."""
    parser = argparse.ArgumentParser()
    evaluate_command.add_options(parser)
    return parser.parse_args(run.words[2:])


def method_of(run: Run, known: Runs) -> Method | None:
    """The method that the record of a command will have; None if it is no record of a method."""
    if config := settings_of(run.words):
        # What `write_run` says of a run, and what `write_chapter_run` calls one of a chapter.
        recipe = "chapter 06" if run.words[0] == "papermill" else config.output.recipe
        about = {"objective": config.distill.objective, "recipe": recipe, "seed": config.train.seed}
        return Method.of_network(config.model, **about)
    if run.words[1:3] == ["-m", "study.classical"]:
        return Method(tool=classical.parse(run.words[3:]).tool)
    if run.words[:2] != ["lddr", "evaluate"]:
        return None
    options, makers = evaluation(run), runs.makers(known)
    if options.model in makers:
        trained = method_of(known[makers[options.model]], known)
    else:
        trained = read_record(PROJECT / shipped_models()[options.model]["record"]).method
    assert trained is not None
    return trained.model_copy(update={"adapted": options.adapt or 0, "repeats": options.repeats})


def test_every_training_command_has_valid_parameters_and_leaves_its_own_record(everything: Runs) -> None:
    training = {name: run.words[2:] for name, run in everything.items() if run.words[:2] == ["lddr", "train"]}
    # As `lddr train` reads them, at the top of the project.
    trained = {n: read_parameters([str(PROJECT / file), *words], FIELDS) for n, (file, *words) in training.items()}
    assert {name.partition("/")[0] for name in trained} >= {"hippocampus", "liver_mr", "sliver", "lpba"}
    for name, given in trained.items():
        config = RunConfig.check(given)
        assert config == settings_of(everything[name].words)
        assert config.output.record == f"book/records/{name}.json"
        assert config.output.weights == f"{config.output.folder}/weights.safetensors"
        # The teacher named in a file of parameters is a shipped model.
        told = {config.teaching.start, config.teaching.teacher} - set(shipped_models()) - {None}
        assert told == set(everything[name].reads) - set(shipped_models())
    for part in ("folder", "weights"):
        assert len({given[part] for given in trained.values()}) == len(trained)


def test_every_other_command_is_understood_by_the_program_it_calls_and_leaves_its_own_record(everything: Runs) -> None:
    programs = {"study.classical": classical, "study.cost": cost, "study.figure2": figure2}
    counted = dict.fromkeys((*programs, "evaluate", "papermill"), 0)
    for name, run in everything.items():
        folder, _, stem = name.partition("/")
        if run.words[:2] == ["python", "-m"]:
            options, program = programs[run.words[2]].parse(run.words[3:]), run.words[2]
            if program == "study.classical":
                fold = "" if options.fold is None else f"_fold{options.fold}"
                assert (options.dataset, f"baseline_{options.tool}{fold}") == (folder, stem)
            elif program == "study.cost":
                assert (folder, stem) == ("cost", f"cost_cpu_{options.threads}")
            else:
                assert (options.dataset, stem) == (folder, "figure2")
                assert [str(PROJECT / file) for file in run.reads] == list(options.models.values())
        elif run.words[:2] == ["lddr", "evaluate"]:
            options, program = evaluation(run), "evaluate"
            assert (options.dataset, options.json) == (folder, f"book/records/{name}.json")
            assert run.reads == (options.model,)
            assert (options.fold is not None) == (DATASETS[folder].folds > 0)
        elif run.words[0] == "papermill":
            program, (notebook, _, flag, file) = "papermill", run.words[1:]
            assert (PROJECT / notebook).exists()
            assert flag == "-f"
            assert read_parameters([str(PROJECT / file)], FAMILY)["record"] == f"book/records/{name}.json"
        else:
            assert run.words[:2] == ["lddr", "train"]
            continue
        counted[program] += 1
    assert all(counted.values()), counted


def test_every_run_leaves_the_method_that_its_record_has() -> None:
    known = grid.commands()
    kinds = dict.fromkeys(("lddr train", "papermill", "lddr evaluate", "python -m"), 0)
    for name, run in known.items():
        file = RECORDS / f"{name}.json"
        record = read_record(file) if file.exists() else None
        if isinstance(record, Record):
            implied = method_of(run, known)
            assert implied is not None, name
            if implied.tool:  # its grid is the data set's own, unless the command says otherwise
                implied = implied.model_copy(update={"size": record.method.size})
            assert implied == record.method, name
            words = " ".join(run.words[:2])
            kinds[next(kind for kind in kinds if words.startswith(kind))] += 1
        elif record is not None:
            assert isinstance(record, CostRecord | FigureRecord)
            assert method_of(run, known) is None
    assert sum(kinds.values()) > 170
    assert all(kinds.values()), kinds


def test_the_settings_of_a_training_run_are_those_its_record_was_made_with() -> None:
    known, compared = grid.commands(), 0
    for name, run in known.items():
        file = RECORDS / f"{name}.json"
        words = shlex.split(read_record(file).command) if file.exists() else []
        if words[:2] == ["lddr", "train"]:
            assert settings_of(words) == settings_of(run.words), name
            compared += 1
    assert compared > 130


def test_the_fold_of_a_run_is_that_of_its_record() -> None:
    for name in grid.commands():
        file = RECORDS / f"{name}.json"
        record = read_record(file) if file.exists() else None
        if isinstance(record, Record):
            assert name.endswith(f"_fold{record.fold}") if DATASETS[record.dataset].folds else record.fold is None


def test_names_are_unique(everything: Runs) -> None:
    parts = [grid.hippocampus_runs(), *map(grid.liver_runs, range(grid.FOLDS)), grid.paper_runs(), grid.other_runs()]
    assert sum(map(len, parts)) == len(everything)
    assert len({tuple(run.words) for run in everything.values()}) == len(everything)


def test_every_record_of_the_book_has_a_command() -> None:
    recorded = {f"{file.parent.name}/{file.stem}" for file in RECORDS.glob("*/*.json")}
    trials = {name for name in recorded if name.startswith("reliability/")}  # by tests, which `make test-long` runs
    assert recorded - trials <= set(grid.commands())


def test_a_family_is_one_run_with_other_seeds_and_folds(everything: Runs) -> None:
    """Its records tell what the others take, so nothing else may differ in it."""
    families: dict[str, list[str]] = {}
    for name, run in everything.items():
        families.setdefault(run.family, []).append(name)
    assert max(map(len, families.values())) == grid.FOLDS
    free = ("seed", "fold", "folder", "record", "weights", "start", "teacher")
    for names in families.values():
        settings = [settings_of(everything[name].words) for name in names]
        flat = [{k: v for k, v in config.flat().items() if k not in free} for config in settings if config]
        assert all(one == flat[0] for one in flat)
        methods = [method_of(everything[name], everything) for name in names]
        assert len({str(m and m.model_copy(update={"seed": None})) for m in methods}) == 1
    assert len(families["hippocampus/student_1cas_none"]) == 1  # chapter 06's trained ten times as long


def test_no_row_of_table_1_stays_empty_for_want_of_a_command(everything: Runs) -> None:
    adapted = {f"LDR, best recipe, {n} cascade{'s' * (n > 1)}, adapted to each pair" for n in (1, 3)}
    adapted |= {"RCN, VTN, 3 cascades, adapted to each pair"}
    wanted = {"hippocampus": adapted}
    wanted["liver_mr"] = {f"LDR, best recipe with l2, {n} cascade{'s' * (n > 1)}" for n in (1, 2, 3)}
    wanted["liver_mr"] |= {"RCN, VTN, 3 cascades, softer"}  # all of these are extra rows of one data set
    for dataset, without in wanted.items():
        own = [run for name, run in everything.items() if name.startswith(f"{dataset}/")]
        methods = [method for run in own if (method := method_of(run, everything))]
        assert set(METHODS) - {title(method) for method in methods} == without


def asked_for(source: str) -> Iterator[str]:
    """Every text of a Python source, but docstrings; what the code fills into one may be anything, as in fnmatch."""
    for node in ast.walk(ast.parse(source)):
        for child in ast.iter_child_nodes(node):
            parts = child.values if isinstance(child, ast.JoinedStr) else [child]
            texts = [part.value if isinstance(part, ast.Constant) else "*" for part in parts]
            if isinstance(node, ast.Expr | ast.JoinedStr) or not all(isinstance(text, str) for text in texts):
                continue  # a docstring, a part of what was seen as a whole, a number
            text = "".join(texts)
            if re.match("[a-z0-9]{2}", text):  # no pattern that fits all
                yield text


def test_every_record_has_a_reader(everything: Runs) -> None:
    """It is in a row of Table 1, or some code of the book asks for its recipe, its objective or its name."""
    chapters = sorted((PROJECT / "notebooks").glob("[01]*.ipynb"))
    cells = [cell for path in chapters for cell in nbformat.read(path, as_version=4).cells]
    sources = [cell.source for cell in cells if cell.cell_type == "code"]
    makers = ("grid.py", "runs.py", "minutes.py")
    sources += [path.read_text() for path in (PROJECT / "book" / "study").glob("*.py") if path.name not in makers]
    asked = {text for source in sources for text in asked_for(source)}
    # The run of three minutes is the one of the README, which says what Dice to expect.
    asked |= {"student_1cas_3min"} if "params/hippocampus_3min.yaml" in (PROJECT / "README.md").read_text() else set()
    for name, run in everything.items():
        method, record = method_of(run, everything), name.partition("/")[2].partition("_fold")[0]
        on_training_subjects = "--split" in run.words  # these stand in no row, whatever registered them
        if method and not on_training_subjects and (title(method) or method.recipe in asked - {"plain"}):
            continue
        if method and not on_training_subjects and method.recipe == "plain" and method.objective in asked:
            continue
        assert any(fnmatchcase(record, text) for text in asked) or name.startswith("cost/"), name  # read all at once


def test_a_dry_run_expects_minutes_for_every_command(
    everything: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runs, "PROJECT", tmp_path)  # no record is there
    runs.main([])
    lines = capsys.readouterr().out.splitlines()[::2]
    assert len(lines) == len(everything)
    assert [line for line in lines if not re.fullmatch(r"# [\w./-]+: no record, about [1-9][\d,]* min", line)] == []
    assert "# hippocampus/teacher_3cas: no record, about 102 min" in lines
    assert "# liver_mr/teacher_3cas_fold2: no record, about 13 min" in lines
    record = read_record(RECORDS / "liver_mr" / "teacher_3cas_fold0.json")
    file = tmp_path / "book" / "records" / "liver_mr" / "teacher_3cas_fold0.json"
    write_record(file, record.model_copy(update={"training_seconds": 3000.0}))
    runs.main([])
    text = capsys.readouterr().out
    assert "# liver_mr/teacher_3cas_fold0: 50 min\n" in text  # what was measured wins
    assert "# liver_mr/teacher_3cas_fold2: no record, about 50 min\n" in text
    # A network like it, for its own voxels: 9,000 steps of 48 x 64 x 48.
    steps = settings_of(everything["liver_mr/teacher_3cas_fold0"].words).train.steps
    assert f"# hippocampus/teacher_3cas: no record, about {50 * 9000 / steps * 64 / 48:,.0f} min\n" in text


@pytest.mark.slow
def test_it_lists_from_any_folder_and_says_which_names_there_are(tmp_path: Path) -> None:
    listed = subprocess.run([sys.executable, "-m", "study"], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "# hippocampus/student_1cas_none: 87 min\npapermill notebooks/06_student.ipynb" in listed.stdout
    words = [sys.executable, "-m", "study", "--run", "students"]
    refused = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert refused.returncode == 2
    assert refused.stderr == "There is no run named students; 'python -m study' lists them.\n"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs that are made, in their order; nothing runs, but weights and records appear."""
    names: list[str] = []

    def call(*words: str) -> None:
        name = next(n for n, run in grid.commands().items() if run.words == list(words))
        names.append(name)
        files = [word.partition("=")[2] for word in words if word.startswith("weights=")]
        for file in [*files, f"book/records/{name}.json"]:
            (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file).write_text("{}")

    monkeypatch.delenv("LDDR_DATA", raising=False)
    monkeypatch.setattr(runs, "PROJECT", tmp_path)
    monkeypatch.setattr(runs, "call", call)
    return names


def test_weights_that_are_not_there_are_made_first_even_if_their_record_is(
    made: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = tmp_path / "book" / "records" / "liver_mr" / "teacher_3cas_fold1.json"
    record.parent.mkdir(parents=True)
    record.write_text("{}")
    runs.main(["--run", "liver_mr/student_?cas_paper_seed0_fold1"])
    students = [f"liver_mr/student_{n}cas_paper_seed0_fold1" for n in (1, 2, 3)]
    assert made == ["liver_mr/teacher_1cas_fold1", "liver_mr/teacher_3cas_fold1", *students]
    assert "liver_mr/teacher_3cas_fold1, because a run after it reads its weights" in capsys.readouterr().out
    runs.main(["--run", students[1]])
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
    runs.main(["--run", name])
    assert made[-1] == name
    assert set(made[:-1]) == before
    assert len(made) == len(before) + 1
    if name.endswith("figure2"):
        assert made.index("liver_mr/teacher_3cas_fold0") < made.index("liver_mr/student_1cas_paper_seed0_fold0")


def test_without_records_everything_is_made_once_and_in_order(made: list[str]) -> None:
    runs.main(["--run"])
    known = grid.commands()
    assert sorted(made) == sorted(known)
    makers = runs.makers(known)
    after = [(made.index(n), made.index(makers[file])) for n in known for file in known[n].reads if file in makers]
    assert len(after) >= grid.FOLDS * 4  # three students and a run that is adapted, each fold
    assert all(maker < reader for reader, maker in after)
