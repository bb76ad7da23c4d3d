"""Devices: batches are brought to them and never the whole cohort; several of them train one model, and one reports."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from synthetic import SHORT_RUN, ellipsoids, nearness, small_model
from torch import Tensor

from lddr.data.registry import load_cohort
from lddr.errors import InputError
from lddr.models import ModelConfig, build_model, load_model
from lddr.objective import LossWeights, reconstruction_loss
from lddr.record import read_record
from lddr.train.config import TrainConfig
from lddr.train.loop import fit, learning_rate
from lddr.train.sampling import draw_batch


class Watched(Tensor):
    """Images that note the number of values of everything any operation makes of them."""

    made: list[tuple[str, int]]

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            result = function(*args, **kwargs or {})
        if isinstance(result, Tensor):
            cls.made.append((function.__name__, result.numel()))
        return result


def test_fit_takes_batches_from_the_images_and_nothing_else() -> None:
    """What never exists outside the given tensor was not moved: training data may be larger than a device."""
    images = ellipsoids(12).as_subclass(Watched)
    config, Watched.made = TrainConfig.check(SHORT_RUN.model_dump() | {"steps": 6}), []
    fit(small_model(), images, config, validate=nearness, progress=False)
    taken, a_batch = Watched.made, config.batch * images[0].numel()
    assert [name for name, _ in taken[:12]] == ["__getitem__"] * 12, "moving and fixed images of six steps"
    assert {size for _, size in taken[:12]} == {a_batch}
    assert max(size for _, size in taken) == a_batch


def test_only_batches_are_brought_to_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    moved, to = [], Tensor.to

    def noting(tensor: Tensor, *words: Any, **more: Any) -> Tensor:
        if tensor.ndim == 5 and tensor.shape[2:] == (16, 16, 16):
            moved.append(len(tensor))
        return to(tensor, *words, **more)

    monkeypatch.setattr(Tensor, "to", noting)
    monkeypatch.setattr(Tensor, "cuda", lambda *_: pytest.fail("past Tensor.to"))
    fit(small_model(), ellipsoids(12), TrainConfig(steps=3, batch=2, device="cpu"), progress=False)
    assert moved.count(2) >= 2 * 3
    assert max(moved) == 2


def test_a_device_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="no CUDA device is there"):
        fit(small_model(), ellipsoids(), TrainConfig(device="cuda"), progress=False)


# `lddr`, with a note of which process writes what; Fabric starts it again for every further device.
PROGRAM = """
import os, sys
from lddr.cli.main import main
from lddr.train import checkpoint, loop, run

def noting(call):
    def wrapper(path, *words, **more):
        with open("written.txt", "a") as file:
            file.write(f"{os.getpid()} {os.path.basename(path)}\\n")
        return call(path, *words, **more)
    return wrapper

def spoilt(images, config, step, rank, pairs, draw=loop.draw_batch):
    batch = draw(images, config, step, rank, pairs)
    return batch._replace(fixed=batch.fixed * float("nan")) if (step, rank) == (1, 1) else batch

if "SPOILT" in os.environ:
    loop.draw_batch = spoilt
run.write_record, run.save_model = noting(run.write_record), noting(run.save_model)
checkpoint.atomic_write, checkpoint.save_tensors = noting(checkpoint.atomic_write), noting(checkpoint.save_tensors)
sys.exit(main(sys.argv[1:]))
"""
WORDS = ["dataset=simulated_brains", "size=[16, 16, 16]", "subjects=3", "width=2", "device=cpu", "devices=2"]


def lddr(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess:
    """Train with two processes, in a folder, without what an outer job may have said about ranks."""
    (folder / "program.py").write_text(PROGRAM)
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "LOCAL_RANK")}
    command = [sys.executable, "program.py", "train", *WORDS, *words]
    environment |= {"OMP_NUM_THREADS": "1"} | variables
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_two_devices_train_one_model_and_the_first_process_alone_reports(tmp_path: Path) -> None:
    (tmp_path / "all.yaml").write_text("scans: null\nshared: true\n")
    words = ["steps=2", "batch=2", "learning_rate=0.01", "seed=3", "validate_every=2", "log_every=1"]
    words += ["folder=f", "record=a.json", "weights=a.safetensors", "teacher=hippocampus"]
    done = lddr(tmp_path, "all.yaml", *words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[:2] == ["all.yaml: not used here: scans.", "No teacher is asked: the objective is none."]
    assert lines[2].startswith("Test: Dice 0.")
    assert lines[3:] == ["Next: see a.json and a.safetensors."]
    assert "Starting with 2 processes" in done.stderr
    written = [line.split() for line in (tmp_path / "written.txt").read_text().splitlines()]
    assert [name for _, name in written] == ["checkpoint.pt", "log.jsonl", "a.json", "a.safetensors"]
    assert len({process for process, _ in written}) == 1
    record = read_record(tmp_path / "a.json")
    assert record.test.pairs == 3
    assert [row["step"] for row in record.log if "loss" in row] == [1, 2]

    # The same steps by hand: the gradient is the mean over both processes' batches.
    train = load_cohort("simulated_brains", "train", size=(16, 16, 16), subjects=3)
    config = TrainConfig(steps=2, batch=2, learning_rate=0.01, seed=3)
    model = build_model(ModelConfig(size=[16, 16, 16], width=2), seed=3)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate)
    for step in range(2):
        optimizer.param_groups[0]["lr"] = learning_rate(config, step)
        optimizer.zero_grad()
        for rank in range(2):
            batch = draw_batch(train.images, config, step, rank)
            terms = reconstruction_loss(model(batch.moving, batch.fixed), batch.fixed, LossWeights())
            (torch.stack(list(terms.values())).sum() / 2).backward()
        optimizer.step()
    found = load_model(tmp_path / "a.safetensors")[0].state_dict()
    alone = build_model(ModelConfig(size=[16, 16, 16], width=2), seed=3)
    fit(alone, train.images, config, progress=False)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found[name], value, atol=2e-4, rtol=1e-3)  # weights are kept as float16
    assert max((found[name] - value).abs().max() for name, value in alone.state_dict().items()) > 5e-3


@pytest.mark.slow
def test_two_processes_that_diverge_stop_together_with_one_sentence(tmp_path: Path) -> None:
    """Also where only what the second one has drawn is spoilt."""
    done = lddr(tmp_path, "steps=20", "record=a.json", SPOILT="1")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("lddr: The loss is nan at step 1: training has diverged.") == 1
    assert done.stderr.count("lddr: ") == 1
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "a.json").exists()
