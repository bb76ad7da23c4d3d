"""Training: schedules, reproducible batches, interruption, refusals, and that it learns at all."""

import itertools
import json
import math
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from synthetic import MODEL, SHORT_RUN, ellipsoids, nearness, small_model
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.errors import DivergedError, InputError
from lddr.files import locked
from lddr.losses import corrcoef, orthogonality, smoothness, volume_change
from lddr.metrics import regularity
from lddr.models import build_model
from lddr.objective import LossWeights, reconstruction_loss
from lddr.train.checkpoint import is_first_process, one_writer
from lddr.train.config import TrainConfig
from lddr.train.loop import fit, learning_rate
from lddr.train.sampling import draw_batch, random_pairs
from lddr.warping import warp


def changed(**values: Any) -> TrainConfig:
    return TrainConfig.check(SHORT_RUN.model_dump() | values)


def weights(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def without_seconds(log: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name != "seconds"} for row in log]


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_cosine_schedule_falls_from_the_start_to_zero() -> None:
    config = TrainConfig(steps=1000, learning_rate=0.2)
    rates = [learning_rate(config, step) for step in range(1000)]
    assert rates[0] == 0.2
    assert rates[500] == pytest.approx(0.1)
    assert rates[250] == pytest.approx(0.2 * (1 + np.sqrt(0.5)) / 2)
    assert (np.diff(rates) < 0).all()
    assert 0 < rates[-1] < 1e-5


def test_paper_schedule_is_constant_for_three_fifths_then_halves_every_fifth() -> None:
    config = TrainConfig(steps=100, learning_rate=0.4, schedule="paper")
    assert [learning_rate(config, step) for step in range(100)] == [0.4] * 60 + [0.2] * 20 + [0.1] * 20


def test_the_released_schedule_for_ldr_alone_is_five_ever_smaller_cosines() -> None:
    config = TrainConfig(steps=100, learning_rate=0.64, schedule="released_none")
    rates = np.array([learning_rate(config, step) for step in range(100)]).reshape(5, 20)
    assert rates[:, 0] == pytest.approx([0.64, 0.08, 0.04, 0.02, 0.01])
    assert rates[:, 10] == pytest.approx(rates[:, 0] / 2)
    assert (np.diff(rates, axis=1) < 0).all()
    assert (rates[:, -1] < 0.01 * rates[:, 0]).all()


def test_the_schedule_reaches_the_optimiser() -> None:
    """Adam's first step moves a weight by the learning rate; a later one by at most 3.2 times its own."""
    model = small_model()
    seen = [weights(model)]

    def remember(model: RecursiveCascade) -> dict[str, float]:
        seen.append(weights(model))
        return {}

    config = changed(steps=10, learning_rate=0.01, validate_every=1)
    fit(model, ellipsoids(), config, validate=remember, progress=False)
    assert len(seen) == 11
    for step, (before, after) in enumerate(itertools.pairwise(seen)):
        moved = max((after[name] - before[name]).abs().max().item() for name in before)
        assert 0 < moved < 3.2 * learning_rate(config, step), step
        if step == 0:
            assert moved == pytest.approx(0.01, rel=0.01)


def test_a_batch_depends_on_seed_step_and_rank_and_nothing_else() -> None:
    images = ellipsoids()
    config = changed(batch=4)
    state = torch.get_rng_state()
    first = draw_batch(images, config, 3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    draw_batch(images, config, 11)
    for a, b in zip(first, draw_batch(images, config, 3), strict=True):
        assert torch.equal(a, b)
    others = [
        draw_batch(images, config, 4),
        draw_batch(images, config, 3, rank=1),
        draw_batch(images, changed(batch=4, seed=6), 3),
    ]
    for other in others:
        assert not torch.equal(first[0], other[0])


def test_only_moving_images_are_bent() -> None:
    images = ellipsoids()
    moving, fixed, *_ = draw_batch(images, changed(batch=8, mirror=False), 0)
    assert all(any(torch.equal(f, image) for image in images) for f in fixed)
    assert not any(torch.equal(m, image) for m in moving for image in images)


def test_both_images_of_a_pair_are_mirrored_alike() -> None:
    images = torch.rand(5, 1, 4, 5, 6, generator=torch.Generator().manual_seed(0))
    config = changed(batch=2, augmentation=0.0)
    mirrors = [[axis + 2 for axis in range(3) if code >> axis & 1] for code in range(8)]

    def which(image: Tensor) -> tuple[int, int]:
        """(subject, mirror) of an image of the batch."""
        (found,) = [
            (i, k) for i in range(5) for k in range(8) if torch.equal(images[i : i + 1].flip(mirrors[k])[0], image)
        ]
        return found

    seen = set()
    for step in range(40):
        moving, fixed, *_ = draw_batch(images, config, step)
        (m, m_mirror), (f, f_mirror) = which(moving[0]), which(fixed[0])
        assert m != f
        assert m_mirror == f_mirror
        seen.add(m_mirror)
    assert len(seen) == 8


def test_random_pairs_are_two_different_subjects_and_all_equally_likely(generator: torch.Generator) -> None:
    moving, fixed = random_pairs(4, 12_000, generator)
    counts = torch.zeros(4, 4)
    counts.index_put_((moving, fixed), torch.ones(12_000), accumulate=True)
    assert counts.diagonal().sum() == 0
    assert counts[~torch.eye(4, dtype=torch.bool)].sub(1000).abs().max() < 150


def test_the_objective_is_the_last_image_and_every_dense_flow(generator: torch.Generator) -> None:
    torch.manual_seed(0)
    model = build_model(MODEL.model_copy(update={"cascades": 2}))
    for stem in model.dense:
        torch.nn.init.normal_(stem.head.weight, std=2.0)  # so that all terms and all images differ
    torch.nn.init.uniform_(model.affine.head.bias, 0.0, 0.2)
    moving, fixed = torch.rand(2, 2, 1, 16, 16, 16, generator=generator)
    result = model(moving, fixed)
    terms = reconstruction_loss(result, fixed, LossWeights(smoothness=0.7, affine_weight=0.3))
    expected = {
        "l_rec": 1 - corrcoef(warp(moving, result.displacement), fixed).mean(),
        "smoothness": 0.7 * (smoothness(result.flows[0]) + smoothness(result.flows[1])),
        "orthogonality": 0.3 * orthogonality(result.matrix),
        "volume_change": 0.3 * volume_change(result.matrix),
    }
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value)
        assert value > 1e-5, name
    flows, images = result.flows, result.warped
    assert smoothness(flows[0]) > 1e-5
    assert smoothness(flows[1]) > 1e-5
    assert (corrcoef(images[2], fixed) - corrcoef(images[1], fixed)).abs().max() > 1e-3


def test_training_on_ellipsoids_raises_similarity_and_hardly_folds() -> None:
    images = ellipsoids(6)
    moving, fixed = images, images.roll(-1, dims=0)
    model = build_model(MODEL.model_copy(update={"width": 8}), seed=0)
    config = TrainConfig(steps=150, batch=2, learning_rate=2e-3, device="cpu")
    log = fit(model, images, config, progress=False)
    with torch.no_grad():
        result = model(moving, fixed)
    before, after = corrcoef(moving, fixed), corrcoef(result.warped[-1], fixed)
    assert before.mean() < 0.82
    assert after.mean() > 0.95
    assert (after > before).all()
    assert corrcoef(result.warped[0], fixed).mean() < after.mean() - 0.03, "the dense stem must do some of the work"
    assert regularity(result.displacement)[0] < 1
    assert not model.training
    losses = [row["loss"] for row in log]
    assert [row["step"] for row in log] == list(range(10, 151, 10))
    assert np.mean(losses[-5:]) < 0.5 * losses[0]
    for row in log:
        assert row["loss"] == pytest.approx(
            sum(v for k, v in row.items() if k not in ("step", "seconds", "loss")), rel=1e-5
        )


CHILD = """
import os, signal, sys
from collections.abc import Callable
from pathlib import Path
import torch
from lddr.train.loop import fit
from synthetic import SHORT_RUN, ellipsoids, nearness, small_model

folder, moment = sys.argv[1:]
torch.set_num_threads(1)
save, validations = torch.save, 0

def save_or_die(state, file):
    if moment == "while it writes" and state["step"] == 15:
        file.write(b"half a checkpoint")
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    save(state, file)

def validate_or_die(model):
    global validations
    validations += 1
    if moment == "between checkpoints" and validations == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return nearness(model)

torch.save = save_or_die
fit(small_model(), ellipsoids(), SHORT_RUN, folder=folder, validate=validate_or_die, progress=False)
"""


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Tensor], list[dict[str, float]], Path]:
    """Weights, log and folder of a run that nobody disturbed."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    model = small_model()
    log = fit(model, ellipsoids(), SHORT_RUN, folder=folder, validate=nearness, progress=False)
    return weights(model), log, folder


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["between checkpoints", "while it writes"])
def test_a_run_killed_and_resumed_equals_one_that_was_not(tmp_path: Path, moment: str, uninterrupted: Any) -> None:
    expected, expected_log, expected_folder = uninterrupted
    paths = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])}
    child = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path), moment], env=environment, timeout=300, check=False
    )
    assert child.returncode == -signal.SIGKILL
    reached = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["step"]
    assert reached == 10

    torch.manual_seed(1234)  # the state of the global generator must not matter
    model = small_model()
    log = fit(model, ellipsoids(), SHORT_RUN, folder=tmp_path, validate=nearness, progress=False)
    assert same(weights(model), expected)
    assert without_seconds(log) == without_seconds(expected_log)
    assert (np.diff([row["seconds"] for row in log]) >= 0).all()
    ours, theirs = (torch.load(f / "checkpoint.pt", weights_only=True) for f in (tmp_path, expected_folder))
    assert same(ours["model"], theirs["model"]), "the last weights, which need not be the best ones"
    assert [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()] == log


def test_the_log_on_disk_is_the_one_returned_and_no_row_comes_twice(uninterrupted: Any) -> None:
    _, log, folder = uninterrupted
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert rows == log
    assert [r["step"] for r in rows if "loss" in r] == list(range(2, 25, 2))
    assert [r["step"] for r in rows if "validation_dice" in r] == list(range(4, 25, 4))
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "log.jsonl"]


def test_a_finished_run_is_not_run_again(uninterrupted: Any) -> None:
    expected, log, folder = uninterrupted
    model = small_model()
    before = (folder / "checkpoint.pt").read_bytes()
    assert fit(model, ellipsoids(), SHORT_RUN, folder=folder, validate=nearness, progress=False) == log
    assert same(weights(model), expected)
    assert (folder / "checkpoint.pt").read_bytes() == before


def test_other_settings_are_refused_by_name(uninterrupted: Any) -> None:
    _, _, folder = uninterrupted
    with pytest.raises(InputError, match=r"another run \(steps, learning_rate differ\)") as refusal:
        fit(small_model(), ellipsoids(), changed(steps=30, learning_rate=0.5), folder=folder, progress=False)
    assert str(folder / "checkpoint.pt") in str(refusal.value)


def test_another_weight_of_the_loss_is_refused_by_name(uninterrupted: Any) -> None:
    _, _, folder = uninterrupted
    with pytest.raises(InputError, match=r"another run \(smoothness differ\)"):
        fit(small_model(), ellipsoids(), SHORT_RUN, LossWeights(smoothness=2.0), folder=folder, progress=False)


@pytest.mark.parametrize("changes", ["width", "start", "images"])
def test_another_model_start_or_set_of_images_is_refused(uninterrupted: Any, changes: str) -> None:
    """The student fits any grid, so its weights alone would load from a run on other scans."""
    _, _, folder = uninterrupted
    model = build_model(MODEL.model_copy(update={"width": 8 if changes == "width" else MODEL.width}), seed=0)
    model = small_model(seed=77) if changes == "start" else model
    images = ellipsoids().flip(2) if changes == "images" else ellipsoids()
    named = "images" if changes == "images" else "start"
    with pytest.raises(
        InputError, match=re.escape(f"{folder / 'checkpoint.pt'}: this folder holds another run ({named}")
    ):
        fit(model, images, SHORT_RUN, folder=folder, progress=False)


def copied(folder: Path, target: Path) -> dict[str, Any]:
    """Copy the folder of a run; gives what its checkpoint holds."""
    shutil.copytree(folder, target)
    return torch.load(target / "checkpoint.pt", weights_only=True)


def test_a_log_that_a_kill_cut_short_comes_back_with_the_checkpoint(uninterrupted: Any, tmp_path: Path) -> None:
    _, log, folder = uninterrupted
    whole = (folder / "log.jsonl").read_text()
    for left in (None, "", whole[: len(whole) // 2]):
        copied(folder, target := tmp_path / f"run{left and len(left)}")
        (target / "log.jsonl").unlink()
        if left is not None:
            (target / "log.jsonl").write_text(left)
        assert fit(small_model(), ellipsoids(), SHORT_RUN, folder=target, validate=nearness, progress=False) == log
        assert (target / "log.jsonl").read_text() == whole


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(name)


DAMAGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no model": without("model"),
    "no optimizer": without("optimizer"),
    "no log": without("log"),
    "no identity": without("identity"),
    "weights of another model": lambda state: state.update(model={"a": torch.zeros(1)}),
    "best weights of another model": lambda state: state.update(best={"a": torch.zeros(1)}),
    "model is a list": lambda state: state.update(model=[1, 2]),
    "optimizer is a number": lambda state: state.update(optimizer=7),
    "step is a word": lambda state: state.update(step="7"),
    "step is nothing": lambda state: state.update(step=None),
    "log of words": lambda state: state.update(log=["a", "b"]),
    "log without steps": lambda state: state.update(log=[{"loss": 1.0}]),
    "identity is a number": lambda state: state.update(identity=7),
    "empty": lambda state: state.clear(),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_checkpoint_with_missing_or_wrong_parts_is_one_sentence(uninterrupted: Any, tmp_path: Path, damage) -> None:
    state = copied(uninterrupted[2], tmp_path / "run")
    damage(state)
    torch.save(state, tmp_path / "run" / "checkpoint.pt")
    before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InputError, match=r"checkpoint\.pt: (the checkpoint is damaged|this is no checkpoint)"):
        fit(small_model(), ellipsoids(), SHORT_RUN, folder=tmp_path / "run", progress=False)
    assert {path: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


@pytest.mark.parametrize("content", [b"half a checkpoint", b"", "list", "cut", "bit"])
def test_a_damaged_checkpoint_is_named(uninterrupted: Any, tmp_path: Path, content: bytes | str) -> None:
    """Also one in which a single bit of a weight has changed: `torch.load` would read it."""
    path = tmp_path / "run" / "checkpoint.pt"
    state = copied(uninterrupted[2], tmp_path / "run")
    whole = bytearray(path.read_bytes())
    if content == "list":
        torch.save([1, 2], path)
    elif content == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif content == "bit":
        name = max(state["model"], key=lambda name: state["model"][name].numel())
        whole[whole.index(state["model"][name].numpy().tobytes()) + 7] ^= 1
        path.write_bytes(whole)
        assert not same(torch.load(path, weights_only=True)["model"], state["model"])
    else:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt: (the checkpoint is damaged|this is no checkpoint)"):
        fit(small_model(), ellipsoids(), SHORT_RUN, folder=tmp_path / "run", progress=False)


def test_a_checkpoint_that_cannot_be_read_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.pt").mkdir()
    with pytest.raises(InputError, match=r"checkpoint\.pt: cannot be read \(Is a directory\)"):
        fit(small_model(), ellipsoids(), SHORT_RUN, folder=tmp_path, progress=False)


def test_a_disk_that_is_full_stops_with_a_sentence_and_the_run_goes_on_later(
    uninterrupted: Any, tmp_path: Path, small_disk: Any
) -> None:
    expected, log, _ = uninterrupted
    fit(small_model(), ellipsoids(), changed(steps=5), folder=tmp_path / "short", progress=False)
    room = (tmp_path / "short" / "checkpoint.pt").stat().st_size

    def fill(model: RecursiveCascade) -> dict[str, float]:
        nonlocal calls
        calls += 1
        if calls == 2:  # at step 8: the checkpoint of step 10 finds no room
            resource.setrlimit(resource.RLIMIT_FSIZE, (room // 2, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
        return nearness(model)

    calls, folder = 0, tmp_path / "run"
    with (
        small_disk(10 * room),
        pytest.raises(InputError, match=r"checkpoint\.pt: cannot be written \(File too"),
    ):
        fit(small_model(), ellipsoids(), SHORT_RUN, folder=folder, validate=fill, progress=False)
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoint.pt", "log.jsonl"]
    assert torch.load(folder / "checkpoint.pt", weights_only=True)["step"] == 5
    model = small_model()
    found = fit(model, ellipsoids(), SHORT_RUN, folder=folder, validate=nearness, progress=False)
    assert without_seconds(found) == without_seconds(log)
    assert same(weights(model), expected)


@pytest.mark.parametrize(
    ("ranks", "first"),
    [
        ({}, True),
        ({"RANK": "0", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),  # the first of its machine, but not of all
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, False),  # started by Fabric, in a job of one task
        ({"SLURM_PROCID": "3"}, False),  # started by srun
    ],
)
def test_one_of_several_processes_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ranks: dict[str, str], first: bool
) -> None:
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ranks.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() == first
    with one_writer(tmp_path / "run"):
        assert (tmp_path / "run" / ".lddr.lock").exists() == first


def test_two_runs_in_one_folder_are_not_mixed(tmp_path: Path) -> None:
    with locked(tmp_path / ".lddr.lock", "training"):
        with pytest.raises(InputError, match=f"{tmp_path}: process {os.getpid()} on .* is training here; wait for it"):
            fit(small_model(), ellipsoids(), SHORT_RUN, folder=tmp_path, progress=False)
    fit(small_model(), ellipsoids(), changed(steps=1), folder=tmp_path, progress=False)


def test_an_interrupted_run_lets_go_of_its_folder(tmp_path: Path) -> None:
    def stop(_: RecursiveCascade) -> dict[str, float]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:  # which a notebook keeps, with all that it refers to
        fit(small_model(), ellipsoids(), SHORT_RUN, folder=tmp_path, validate=stop, progress=False)
    fit(small_model(), ellipsoids(), SHORT_RUN, folder=tmp_path, validate=nearness, progress=False)
    assert caught.tb is not None


def test_the_weights_with_the_best_validation_are_given_back() -> None:
    scores, kept = iter([0.2, 0.9, 0.4, 0.9]), []

    def validate(model: RecursiveCascade) -> dict[str, float]:
        kept.append(weights(model))
        return {"dice": next(scores)}

    model = small_model()
    log = fit(model, ellipsoids(), changed(steps=16), validate=validate, progress=False)
    assert same(weights(model), kept[1])  # the first of the two
    assert not same(kept[1], kept[3])
    assert [row["validation_dice"] for row in log if "validation_dice" in row] == [0.2, 0.9, 0.4, 0.9]


def test_a_validation_that_cannot_be_measured_keeps_the_last_weights_and_a_log_that_is_json(tmp_path: Path) -> None:
    """As with scans that have no labels: Dice is NaN, for which JSON has no word."""
    model, config = small_model(), changed(steps=8)
    log = fit(model, ellipsoids(), config, folder=tmp_path, validate=lambda _: {"dice": math.nan}, progress=False)
    last = small_model()
    fit(last, ellipsoids(), config, progress=False)
    assert same(weights(model), weights(last))
    assert [row["step"] for row in log if "validation_dice" in row and math.isnan(row["validation_dice"])] == [4, 8]

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    rows = [json.loads(line, parse_constant=refuse) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "validation_dice" in row and row["validation_dice"] is None] == [4, 8]


def test_validation_may_switch_the_model_to_inference() -> None:
    model, modes = small_model(), []
    model.dense[0].register_forward_hook(lambda module, *_: modes.append(module.training))

    def validate(model: RecursiveCascade) -> dict[str, float]:
        model.eval()
        return {"dice": 0.5}

    fit(model, ellipsoids(), changed(steps=12), validate=validate, progress=False)
    assert modes == [True] * 12
    assert not model.training


def test_without_validation_the_last_weights_stay_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    once, twice = small_model(), small_model()
    before = weights(once)
    logs = [fit(model, ellipsoids(), changed(steps=5), progress=False) for model in (once, twice)]
    assert without_seconds(logs[0]) == without_seconds(logs[1])
    assert same(weights(once), weights(twice))
    assert not same(weights(once), before)
    assert not list(tmp_path.iterdir())


def test_nan_in_the_images_stops_with_a_sentence() -> None:
    images = ellipsoids()
    images[:, :, 3, 3, 3] = float("nan")
    with pytest.raises(
        DivergedError, match=r"The loss is nan at step 0: .*smaller learning_rate \(now 0.001\), and check that"
    ) as stop:
        fit(small_model(), images, SHORT_RUN, progress=False)
    assert not isinstance(stop.value, InputError), "a training that diverged is no mistake in what a user handed over"


def test_one_image_is_no_pair() -> None:
    with pytest.raises(InputError, match="at least two images, found 1"):
        fit(small_model(), ellipsoids(1), SHORT_RUN, progress=False)
