"""Fifty kills of every command that writes, a soak, full disks and folders that take nothing: hours in all.

Every command runs in a process of its own, forked from one that has imported everything, and is killed by SIGKILL at a
random moment of the time that it usually takes.
"""

import json
import multiprocessing as mp
import os
import random
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel as nib
import numpy as np
import pytest
import torch
from conftest import LONG
from test_files import names
from test_teacher import cohort, make_teacher

from lddr.cli.main import main
from lddr.models import ModelConfig, build_model, load_model, save_model
from lddr.record import read_record
from lddr.train.teacher import extract

pytestmark = [pytest.mark.slow, pytest.mark.long]
FORKS = mp.get_context("forkserver")
FORKS.set_forkserver_preload(
    ["test_long_kills", "lddr.train.run", "lddr.infer.adapt", "lightning_fabric", "matplotlib"]
)
KILLS = max(3, round(50 * LONG))
BRAINS = ["dataset=simulated_brains", "size=[16, 16, 16]", "subjects=2", "width=2"]
PAIRS = [(m, f) for m in range(4) for f in range(4) if m != f]


def run(words: list[str], folder: str, limit: int | None = None) -> None:
    """Run a command in a process that this file forked; a traceback gives the exit code 99."""
    os.chdir(folder)
    torch.set_num_threads(1)
    with open(os.path.join(folder, "said.txt"), "w", buffering=1) as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    try:
        code = main(words)
    except BaseException:
        os._exit(99)
    os._exit(code)


def take_out(path: str) -> None:
    """Extract the displacements of a small teacher."""
    torch.set_num_threads(1)
    extract(make_teacher(), cohort(), PAIRS, path, batch=1, progress=False)


def finish(target: Callable[..., None], *words: Any) -> float:
    """Run a process to its end; gives the seconds it took."""
    process, begin = FORKS.Process(target=target, args=words), time.monotonic()
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - begin


def killed(usual: float, rng: random.Random, target: Callable[..., None], *words: Any) -> bool:
    """Run a process and kill it at a random moment; False if it had ended before."""
    process = FORKS.Process(target=target, args=words)
    process.start()
    process.join(rng.uniform(0, usual))
    process.kill()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def leftovers(folder: Path, known: set[str]) -> set[str]:
    """The names in a folder beside the known ones; what a kill leaves has names of its own."""
    return {name for name in names(folder) if name not in known and not name.startswith(".part-")}


TIMED = ("seconds", "seconds_per_pair", "training_seconds", "date", "commit")


def identical(one: Any, two: Any) -> bool:
    """Compare two values with all that is in them, but for times."""
    if isinstance(one, dict):
        names = set(one) - set(TIMED)
        return one.keys() == two.keys() and all(identical(one[name], two[name]) for name in names)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(identical, one, two))
    return torch.equal(one, two) if isinstance(one, torch.Tensor) else one == two


@pytest.fixture
def scans(tmp_path: Path) -> list[str]:
    """Three small scans with labels, and a model for them; gives the words that register two of them."""
    rng = np.random.default_rng(0)
    for name in ("fixed", "one", "two"):
        index = np.indices((24, 24, 24)) - 11.5 + rng.uniform(-2, 2, (3, 1, 1, 1))
        values = np.exp(-(index**2).sum(0) / 60)
        nib.save(nib.Nifti1Image(values.astype(np.float32), np.diag([2.0, 2, 2, 1])), tmp_path / f"{name}.nii.gz")
        nib.save(
            nib.Nifti1Image((values > 0.5).astype(np.uint8), np.diag([2.0, 2, 2, 1])), tmp_path / f"{name}_l.nii.gz"
        )
    config = ModelConfig(size=[16, 16, 16], width=2)
    save_model(tmp_path / "m.safetensors", build_model(config, seed=0), config, {"spacing": 3.0})
    return ["register", "--fixed", "fixed.nii.gz", "--model", "m.safetensors", "--device", "cpu"]


def of(moving: str, out: str) -> list[str]:
    return ["--moving", f"{moving}.nii.gz", "--moving-labels", f"{moving}_l.nii.gz", "--out", out]


def values_of(folder: Path) -> dict[str, bytes]:
    """What is in the files of a result: voxels, not the date in a file's head; and its own list must be right."""
    listed = json.loads((folder / "lddr.json").read_text())["files"]
    assert sorted([*listed, "lddr.json"]) == names(folder)
    return {name: np.asarray(nib.load(folder / name).dataobj).tobytes() for name in listed if name.endswith(".nii.gz")}


def test_kills_of_train(tmp_path: Path, counted: Callable[..., None]) -> None:
    words = ["train", *BRAINS, "steps=40", "checkpoint_every=3", "validate_every=5", "log_every=1", "augmentation=0.2"]
    words += ["folder=run", "record=a.json", "weights=a.safetensors"]
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    finish(run, words, str(tmp_path / "whole"))  # makes the subjects as well
    shutil.rmtree(tmp_path / "whole" / "run")
    usual = finish(run, words, str(tmp_path / "whole"))
    kills, resumed, ended, folder, rng = 0, 0, 0, tmp_path / "killed", random.Random(0)
    while kills < KILLS or ended == 0:
        checkpoint = folder / "run" / "checkpoint.pt"
        resumed += (began := checkpoint.exists())
        # Most kills fall within the steps; towards the end, runs are left to end.
        if kills < KILLS and killed(usual / 2 if began else usual, rng, run, words, str(folder)):
            kills += 1
            if checkpoint.exists():
                torch.load(checkpoint, weights_only=True)
            if (log := folder / "run" / "log.jsonl").exists():
                assert [json.loads(line) for line in log.read_text().splitlines()]
            assert not leftovers(folder, {"run", "a.json", "a.safetensors", "said.txt"})
            continue
        finish(run, words, str(folder))
        ended += 1
        ours, theirs = (tmp_path / name for name in ("killed", "whole"))
        checkpoints = [torch.load(f / "run" / "checkpoint.pt", weights_only=True) for f in (ours, theirs)]
        assert identical(*checkpoints)
        assert identical(*(load_model(f / "a.safetensors")[0].state_dict() for f in (ours, theirs)))
        assert identical(*(read_record(f / "a.json").model_dump() for f in (ours, theirs)))
        assert names(ours / "run") == ["checkpoint.pt", "log.jsonl"]
        shutil.rmtree(folder)
        folder.mkdir()
    what = "lddr train was killed at a random moment and started again, until it ended: weights, optimiser, log and "
    what += "figures are those of a run that nobody disturbed, bit for bit."
    counted(what, kills=kills, restarts_from_a_checkpoint=resumed, trainings_that_ended=ended)


def test_kills_of_extract(tmp_path: Path, counted: Callable[..., None]) -> None:
    finish(take_out, str(tmp_path / "first.h5"))  # and start the process that the others are forked from
    usual = finish(take_out, str(tmp_path / "whole.h5"))
    kills, resumed, ended, path, rng = 0, 0, 0, tmp_path / "killed" / "store.h5", random.Random(0)
    while kills < KILLS or ended == 0:
        resumed += path.with_name("store.h5.part").exists()
        if kills < KILLS and killed(usual, rng, take_out, str(path)):
            kills += 1
            continue
        finish(take_out, str(path))
        ended += 1
        assert names(path.parent) == ["store.h5"]
        with h5py.File(path) as ours, h5py.File(tmp_path / "whole.h5") as theirs:
            assert dict(ours.attrs) == dict(theirs.attrs)
            for name in theirs:
                assert (ours[name][:] == theirs[name][:]).all()
        path.unlink()
    what = "The extraction of a teacher's displacements was killed at a random moment and started again, until it "
    what += "ended: the store is that of an extraction that nobody disturbed, bit for bit."
    counted(what, kills=kills, restarts_with_a_part_of_the_store=resumed, stores_that_were_finished=ended)


def test_kills_of_evaluate(tmp_path: Path, scans: list[str], counted: Callable[..., None]) -> None:
    words = ["evaluate", "--dataset", "simulated_brains", "--model", "m.safetensors", "--json", "a.json", "--subjects"]
    finish(run, [*words, "3"], str(tmp_path))
    usual = finish(run, [*words, "3"], str(tmp_path))
    kills, replaced, rng = 0, 0, random.Random(0)
    while kills < KILLS:
        before = read_record(tmp_path / "a.json").test.pairs
        kills += killed(1.2 * usual, rng, run, [*words, "2" if before == 3 else "3"], str(tmp_path))
        record = read_record(tmp_path / "a.json")
        assert len(record.rows) == record.test.pairs
        assert record.test.pairs in (2, 3)
        replaced += record.test.pairs != before
    finish(run, [*words, "2"], str(tmp_path))
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    what = "lddr evaluate was killed at a random moment: the record is the earlier one or the new one, whole."
    counted(what, kills=kills, records_that_were_replaced=replaced)


def test_kills_of_register(tmp_path: Path, scans: list[str], counted: Callable[..., None]) -> None:
    expected = {}
    for moving in ("one", "two"):
        usual = finish(run, [*scans, *of(moving, moving)], str(tmp_path))
        expected[moving] = values_of(tmp_path / moving)
    assert expected["one"] != expected["two"]
    kills, replaced, rng, out = 0, 0, random.Random(0), tmp_path / "out"
    there = None
    while kills < KILLS:
        moving = "two" if there == "one" else "one"
        kills += killed(1.2 * usual, rng, run, [*scans, *of(moving, "out")], str(tmp_path))
        found = values_of(out) if out.exists() else None
        assert found in ([None] if there is None else []) + list(expected.values())
        now = next((name for name, values in expected.items() if values == found), None)
        replaced += now != there
        there = now
    finish(run, [*scans, *of("one", "out")], str(tmp_path))
    assert values_of(out) == expected["one"]
    assert not [name for name in names(tmp_path) if name.startswith(".")]
    what = "lddr register was killed at a random moment: all files of the folder come from one registration, the "
    what += "earlier one or the new one, and the next run removes what the killed one left."
    counted(what, kills=kills, results_that_were_replaced=replaced)


def soak(words: list[str], folder: str, times: int) -> None:
    """Register again and again in one process; notes the most memory it has used, after a warm-up and in the end."""
    os.chdir(folder)
    torch.set_num_threads(1)
    os.dup2(os.open("said.txt", os.O_CREAT | os.O_WRONLY), 1)
    peaks, unit = [], 1e6 if sys.platform == "darwin" else 1e3
    for i in range(times):
        assert main([*words, *of("one" if i % 2 else "two", "out")]) == 0
        if i in (times // 10, times - 1):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit)
    Path("peaks.json").write_text(json.dumps(peaks))


def test_soak_of_registrations(tmp_path: Path, scans: list[str], counted: Callable[..., None]) -> None:
    times = max(20, round(1000 * LONG))
    finish(soak, scans, str(tmp_path), times)
    early, late = json.loads((tmp_path / "peaks.json").read_text())
    what = "Registrations one after the other in one process: its memory does not grow after the first tenth of them."
    counted(what, registrations=times, MB_at_most=round(late), MB_more_than_after_a_tenth=round(late - early, 1))
    assert late - early < 20


def everything(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, but for what the commands said."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "said.txt"]
    return {str(path): path.read_bytes() for path in files}


def commands(scans: list[str], out: str = "") -> dict[str, list[str]]:
    """The commands that write, with outputs below `out`."""
    evaluate = ["evaluate", "--dataset", "simulated_brains", "--model", "m.safetensors", "--subjects", "2"]
    train = ["train", *BRAINS, "steps=2", "validate_every=2", "objective=l2", "teacher=m.safetensors"]
    return {
        "register": [*scans, *of("one", f"{out}out")],
        "evaluate": [*evaluate, "--json", f"{out}a.json"],
        "train": [*train, f"folder={out}run", f"record={out}b.json", f"weights={out}b.safetensors"],
        "extract": [*train, f"store={out}s.h5", "store_pairs=4", f"record={out}c.json"],
    }


def refused(words: list[str], folder: Path, limit: int | None = None) -> bool:
    """Run a command; True if it ends with exit code 2 and one last line that says why, False with 0, else it fails."""
    process = FORKS.Process(target=run, args=(words, str(folder), limit))
    process.start()
    process.join()
    said = (folder / "said.txt").read_text(errors="replace")
    assert process.exitcode in (0, 2), said
    assert "Traceback" not in said
    assert process.exitcode == 0 or said.replace("\r", "\n").splitlines()[-1].startswith("lddr: "), said
    return process.exitcode == 2


def test_full_disks(tmp_path: Path, scans: list[str], counted: Callable[..., None]) -> None:
    rng, limits = random.Random(0), max(4, round(25 * LONG))
    full, enough = 0, 0
    for words in commands(scans).values():
        assert not refused(words, tmp_path), "there is room"
        largest = max(map(len, everything(tmp_path).values()))
        for _ in range(limits):
            shutil.rmtree(tmp_path / "run", ignore_errors=True)  # what is finished would not be written again
            (tmp_path / "s.h5").unlink(missing_ok=True)
            before = everything(tmp_path)
            if not refused(words, tmp_path, limit=round(10 ** rng.uniform(2, np.log10(largest)))):
                enough += 1
                continue
            full += 1
            after = everything(tmp_path)
            for path, content in before.items():  # a record is written even if the weights beside it cannot be
                assert after[path] == content or path.endswith(("b.json", "c.json")), path
            assert not [path for path in after if "/.part-" in path]
        assert not refused(words, tmp_path), "it goes on once there is room"
    what = "Every command that writes, on a disk that is full after a random number of bytes: one sentence and exit "
    what += "code 2, what was there before stays, nothing half-written is left, and with room the command ends well."
    counted(what, runs_that_were_stopped=full, runs_that_had_room_enough=enough)


def test_where_nothing_can_be_written(tmp_path: Path, scans: list[str], counted: Callable[..., None]) -> None:
    (tmp_path / "file").touch()
    tried = 0
    before = everything(tmp_path)
    for place in ("file/", "/proc/", "/dev/null/", "file/deeper/"):
        for words in commands(scans, place).values():
            assert refused(words, tmp_path)
            assert everything(tmp_path) == before
            tried += 1
    what = "Every command that writes, with outputs where nothing can be written: one sentence and exit code 2, before "
    what += "any work."
    counted(what, runs_that_were_refused=tried)
