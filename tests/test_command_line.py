"""What happens around a command: pipes, terminals, encodings, rights, interruptions, disks that take nothing more."""

import io
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lddr.cli import main as cli
from lddr.data import simulated
from lddr.data.simulated import load_simulated_brains
from lddr.errors import InputError
from lddr.models import ModelConfig, build_model, load_model, save_model
from lddr.record import read_record
from lddr.train import run as runs

ALONE = os.environ | {"OMP_NUM_THREADS": "1"}  # for processes beside this one
LDDR = [sys.executable, "-m", "lddr.cli"]
BRAINS = ["dataset=simulated_brains", "size=[16, 16, 16]", "subjects=2", "width=2"]
TINY = [*BRAINS, "steps=2", "validate_every=2", "log_every=1"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


# What is printed, and who reads it


@pytest.mark.parametrize("words", ["models", "models --json", "--help", "train --help"])
def test_a_reader_who_has_seen_enough_gets_no_traceback(words: str) -> None:
    streams: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*LDDR, *words.split()], env=ALONE, **streams)
    process.stdout.close()  # sooner than `head -1`, which would have to be waited for
    assert process.stderr.read() == ""
    assert process.wait() in (0, 1)  # 0 if Python noticed nothing


@pytest.mark.slow
def test_closed_streams_are_no_reason_to_fail_and_nothing_is_printed_into_a_file(here: Path) -> None:
    lddr, words = f"{sys.executable} -m lddr.cli", " ".join(map(repr, TINY))
    for command in (
        f"{lddr} models >&-",
        f"{lddr} models 2>&-",
        f"{lddr} train {words} record=a.json weights=a.safetensors <&- >&- 2>&-",
    ):
        assert subprocess.run(command, shell=True, env=ALONE, timeout=300, check=False).returncode == 0, command
    assert names(here) == ["a.json", "a.safetensors"]
    read_record("a.json")
    load_model("a.safetensors")


def test_a_name_that_the_terminal_cannot_show_is_escaped(
    here: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for stream in ("stdout", "stderr"):
        monkeypatch.setattr(sys, stream, io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    name = "Größe 脳\udcff.json"  # its end is a byte that is no UTF-8
    words = ["--dataset", "simulated_brains", "--model", str(model), "--subjects", "2", "--json"]
    assert cli.main(["evaluate", *words, name]) == 0
    record = read_record(name)
    assert record.test.pairs == 2
    assert "Größe 脳?.json" in record.command
    sys.stdout.seek(0)
    assert r"Next: Gr\xf6\xdfe \u8133\udcff.json holds every pair" in sys.stdout.read()
    assert cli.main(["evaluate", *words, f"{name}/a"]) == 2
    sys.stderr.seek(0)
    assert r"Gr\xf6\xdfe" in sys.stderr.read()


def test_a_settings_file_is_utf8_whatever_the_language_of_the_terminal(here: Path) -> None:
    Path("a.yaml").write_text("recipe: Größe 脳\nrecord: a.json\nsteps: 1\n", encoding="utf-8")
    environment = ALONE | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = subprocess.run([*LDDR, "train", *BRAINS, "a.yaml"], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert read_record("a.json").parameters["recipe"] == "Größe 脳"


# Rights


@pytest.fixture
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = ModelConfig(size=[16, 16, 16], width=2)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    save_model(path, build_model(config, seed=0), config, {"spacing": 12.0})
    return path


def test_weights_and_record_follow_the_umask(here: Path) -> None:
    before = os.umask(0o027)
    try:
        assert cli.main(["train", *TINY, "record=a.json", "weights=a.safetensors", "folder=run"]) == 0
    finally:
        os.umask(before)
    for path in (here / "a.json", here / "a.safetensors", here / "run" / "checkpoint.pt", here / "run" / "log.jsonl"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640, path


def test_a_cache_that_takes_nothing_is_a_warning_and_the_subjects_are_the_same(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("LDDR_CACHE", str(here / "cache"))
    expected = load_simulated_brains("test", (16, 16, 16), 3)
    capsys.readouterr()
    (here / "file").touch()
    monkeypatch.setenv("LDDR_CACHE", str(here / "file" / "cache"))
    found = load_simulated_brains("test", (16, 16, 16), 3)
    for name in ("images", "labels", "velocities"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert len(warnings) == 1
    assert "simulated brains are not kept for next time" in warnings[0]
    assert "is no folder to write in" in warnings[0]


def test_a_cache_that_was_cut_short_or_changed_is_made_again(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LDDR_CACHE", str(here))
    expected = load_simulated_brains("test", (16, 16, 16), 4)
    files = sorted(here.rglob("*.pt"))
    files[0].write_bytes(files[0].read_bytes()[:1000])
    torch.save([1, 2, 3], files[1])
    torch.save((torch.zeros(1, 1, 8, 8, 8), torch.zeros(1), torch.zeros(1)), files[2])
    changed = bytearray(files[3].read_bytes())
    changed[len(changed) // 2] ^= 4
    files[3].write_bytes(changed)
    made: list[int] = []
    make = simulated.make_subject
    monkeypatch.setattr(simulated, "make_subject", lambda i, *more: made.append(i) or make(i, *more))
    for count in (4, 4):  # and then it is in order again
        found = load_simulated_brains("test", (16, 16, 16), 4)
        assert torch.equal(found.images, expected.images)
        assert len(made) == count


# Disks, and outputs that are inputs


def test_the_record_survives_weights_that_cannot_be_written_and_the_other_way_round(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """The disk fills up, or the folder vanishes, while it trains: what is refused beforehand does not count."""
    words = ["train", *TINY, "record=r/a.json", "weights=w/a.safetensors", "folder=run"]

    def train_and_lose(lost: str) -> None:
        def measure(*measured: Any, **more: Any) -> Any:
            Path(lost).touch()  # where a folder is needed
            return evaluate(*measured, **more)

        with monkeypatch.context() as patch:
            patch.setattr(runs, "evaluate", measure)
            assert cli.main(words) == 2
        Path(lost).unlink()
        said = capsys.readouterr().err.splitlines()[-1]
        assert said.startswith(f"lddr: {lost}/a")
        assert said.endswith("The training is kept in run: mend this, and run the same command again.")

    evaluate = runs.evaluate
    train_and_lose("w")
    assert names(here) == ["r", "run"]
    assert read_record("r/a.json").test.pairs == 2
    shutil.rmtree("r")
    train_and_lose("r")
    assert names(here) == ["run", "w"]
    load_model("w/a.safetensors")
    assert cli.main(words) == 0
    assert names(here) == ["r", "run", "w"]


def test_weights_for_which_there_is_no_room_are_a_sentence(here: Path, small_disk: Any) -> None:
    config = ModelConfig(size=[16, 16, 16], width=2)
    Path("a.safetensors").write_text("what was there before")
    with small_disk(10_000), pytest.raises(InputError, match=r"a\.safetensors: cannot be written \(File too large\)"):
        save_model("a.safetensors", build_model(config), config, {})
    assert names(here) == ["a.safetensors"]
    assert Path("a.safetensors").read_text() == "what was there before"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["record={model}"], "model.safetensors: would be written over"),
        (["weights={model}"], "model.safetensors: would be written over"),
        (["store={model}"], "model.safetensors: would be written over"),
        (["record=a.yaml"], "a.yaml: would be written over a.yaml"),
        (["record=b", "weights=./b"], "./b: would be written over b"),
        (["folder=run", "weights=run/checkpoint.pt"], "run/checkpoint.pt: would be written over run/checkpoint.pt"),
        (["record=/dev/null"], "/dev/null: cannot be written, since this is a device or a pipe"),
        (["folder=a.yaml"], "a.yaml: cannot be written, since"),
    ],
)
def test_a_training_does_not_write_over_what_it_reads(
    here: Path, model: Path, capsys: pytest.CaptureFixture, words: list[str], sentence: str
) -> None:
    Path("a.yaml").write_text("steps: 1\n")
    before = model.read_bytes()
    words = [word.format(model=model) for word in words]
    assert cli.main(["train", *TINY, "a.yaml", f"teacher={model}", "objective=l2", *words]) == 2
    assert sentence in capsys.readouterr().err
    assert names(here) == ["a.yaml"]
    assert Path("a.yaml").read_text() == "steps: 1\n"
    assert model.read_bytes() == before


def test_a_record_of_an_evaluation_does_not_take_the_place_of_the_model(
    here: Path, model: Path, capsys: pytest.CaptureFixture
) -> None:
    Path("link.json").symlink_to(model)
    before = model.read_bytes()
    words = ["--dataset", "simulated_brains", "--model", str(model)]
    for name in (str(model), "link.json"):
        assert cli.main(["evaluate", *words, "--json", name]) == 2
        assert "would be written over" in capsys.readouterr().err
    assert model.read_bytes() == before


# Interruptions


def stopped(words: list[str], when: Callable[[], bool]) -> tuple[int, str]:
    """Press Ctrl-C once `when` holds; gives the exit code and what was said on stderr."""
    streams: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*LDDR, *words], env=ALONE, **streams)
    deadline = time.monotonic() + 120
    while not when():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=60)[1]
    return process.returncode, said


@pytest.mark.slow
def test_an_interrupted_training_says_that_it_goes_on_and_it_does(here: Path) -> None:
    words = ["train", *BRAINS, "steps=100000", "checkpoint_every=3", "folder=run", "record=a.json"]
    code, said = stopped(words, (here / "run" / "log.jsonl").exists)
    assert code == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == ("lddr: interrupted. The same command goes on from the last checkpoint in run.")
    assert names(here) == ["run"]
    assert names(here / "run") == ["checkpoint.pt", "log.jsonl"]
    reached = torch.load("run/checkpoint.pt", weights_only=True)["step"]
    code, said = stopped(words, lambda: torch.load("run/checkpoint.pt", weights_only=True)["step"] > reached)
    assert code == 130


def test_an_interruption_is_one_line_and_exit_code_130(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "load_splits", stop)
    monkeypatch.setattr("lddr.models.load_model", stop)
    assert cli.main(["train", *TINY]) == 130
    assert capsys.readouterr().err == (
        "\nlddr: interrupted. The same command begins anew; with folder=DIR it would go on where it was.\n"
    )
    words = ["--dataset", "simulated_brains", "--model", "hippocampus", "--json", "a.json"]
    assert cli.main(["evaluate", *words]) == 130
    assert capsys.readouterr().err == "\nlddr: interrupted.\n"
    assert names(here) == []
