"""Train a cascade without labels: draw pairs, warp, compare, step; survive interruption.

Every random number of step k comes from the seed and k alone. So a checkpoint holds weights, optimiser state and the
step count, nothing about generators, and a resumed run takes exactly the steps the interrupted one would have taken.
"""

import json
import math
import pickle
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from tqdm.auto import tqdm

from lddr.augment import augment
from lddr.cascade import RecursiveCascade, Registration
from lddr.config import Config
from lddr.data.cohort import random_pairs
from lddr.distill import Batch, Distillation, adversarial_step
from lddr.errors import InputError
from lddr.files import written
from lddr.losses import corrcoef_loss, orthogonality, smoothness, volume_change
from lddr.models import weights_hash

Validate = Callable[[RecursiveCascade], dict[str, float]]


class FitConfig(Config):
    """Everything that decides the outcome of a training run, apart from the model and the images; chapter 06."""

    steps: int = Field(1000, ge=1, description="optimiser steps")
    batch: int = Field(1, ge=1, description="pairs a step")
    learning_rate: float = Field(1e-3, gt=0, description="of Adam, at the start")
    schedule: Literal["cosine", "paper", "released_none"] = Field("cosine", description="see `learning_rate`")
    smoothness: float = Field(1.0, ge=0, description="weight of each dense field's roughness")
    affine_weight: float = Field(0.1, ge=0, description="weight of the two affine regularisers")
    augmentation: float = Field(0.0, ge=0, le=1, description="amplitude of the random bending of moving images")
    mirror: bool = Field(False, description="mirror both images of a pair along random axes")
    seed: int = Field(0, ge=0, description="of pairs and augmentation; set the model's own before you build it")
    device: Literal["auto", "cpu", "cuda"] = "auto"
    devices: int = Field(1, ge=1, description="how many of them; more than one trains data-parallel")
    precision: Literal["float32", "bfloat16"] = Field("float32", description="bfloat16: autocast in the networks")
    log_every: int = Field(10, ge=1)
    validate_every: int = Field(250, ge=1)
    checkpoint_every: int = Field(250, ge=1)


def reconstruction_loss(result: Registration, fixed: Tensor, config: FitConfig) -> dict[str, Tensor]:
    """The unsupervised objective, term by term: similarity of the LAST image, roughness of every field; chapter 06.

    Args:
        result: of the cascade.
        fixed: `[B, 1, D, H, W]`.
        config: the weights.

    Returns:
        `l_rec` and the weighted regularisers; their sum is what is minimised.
    """
    return {
        "l_rec": corrcoef_loss(result.warped[-1], fixed),
        "smoothness": config.smoothness * torch.stack([smoothness(flow) for flow in result.flows]).sum(),
        "orthogonality": config.affine_weight * orthogonality(result.matrix),
        "volume_change": config.affine_weight * volume_change(result.matrix),
    }


def learning_rate(config: FitConfig, step: int) -> float:
    """The learning rate of step `step` (from 0).

    `cosine` falls to zero along half a cosine. The released code has two: with ALDK (`paper`) the rate is constant for
    three fifths, then halved every fifth; for LDR alone (`released_none`) each fifth is a cosine to zero, from 1, 1/8,
    1/16, 1/32 and 1/64 of the rate. Chapter 08 measures what this difference is worth.
    """
    fifth, within = divmod(5 * step / config.steps, 1)
    if config.schedule == "paper":
        return config.learning_rate * 0.5 ** max(0, fifth - 2)
    if config.schedule == "released_none":
        peak, share = config.learning_rate * (1, 1 / 8, 1 / 16, 1 / 32, 1 / 64)[int(fifth)], within
    else:
        peak, share = config.learning_rate, step / config.steps
    return peak * (1 + math.cos(math.pi * share)) / 2


def draw_batch(
    images: Tensor, config: FitConfig, step: int, rank: int = 0, pairs: Sequence[tuple[int, int]] | None = None
) -> Batch:
    """The pairs of step `step`: a function of its arguments, nothing else (chapter 08).

    Args:
        images: `[N, 1, D, H, W]`.
        config: seed, batch and augmentation.
        step: from 0.
        rank: of this process in a data-parallel run.
        pairs: draw from these (moving, fixed) indices only; None draws from all ordered pairs.
    """
    seed = int(np.random.SeedSequence([config.seed, step, rank]).generate_state(1)[0])
    generator = torch.Generator().manual_seed(seed)
    if pairs is None:
        moving_ids, fixed_ids = random_pairs(len(images), config.batch, generator)
    else:
        drawn = torch.randint(len(pairs), (config.batch,), generator=generator)
        moving_ids, fixed_ids = torch.tensor(pairs)[drawn].T
    moving, fixed = augment(images[moving_ids], config.augmentation, generator), images[fixed_ids]
    if config.mirror:
        axes = [axis for axis in (2, 3, 4) if torch.rand((), generator=generator) < 0.5]
        moving, fixed = moving.flip(axes), fixed.flip(axes)
    return Batch(moving, fixed, moving_ids, fixed_ids)


def fit(
    model: RecursiveCascade,
    images: Tensor,
    config: FitConfig,
    folder: str | Path | None = None,
    validate: Validate | None = None,
    distillation: Distillation | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` in place; afterwards it holds the weights with the best validation Dice (else the last ones).

    Args:
        model: a cascade, on any device; it is brought back there.
        images: training images `[N, 1, D, H, W]` in [0, 1].
        config: see `FitConfig`.
        folder: where `checkpoint.pt` and `log.jsonl` live. If the folder holds the checkpoint of an interrupted run
            with the same settings, images, teacher and start, that run goes on. None: nothing is written.
        validate: called with the model every `validate_every` steps and at the end; returns figures for the log, among
            them "dice".
        distillation: a teacher and an objective; its term enters on the steps its strategy names. None: images alone.
        pairs: train on these (moving, fixed) indices only, as a teacher's stored displacements ask for.
        progress: show a bar.

    Returns:
        The log, one row every `log_every` steps, with the figures of the last adversarial step up to it, and one for
        each validation; each with the `seconds` spent so far, those of interrupted runs included, validation left out.

    Raises:
        InputError: fewer than two images; listed pairs that would be augmented; a device that is not there, or several
            for a discriminator; the folder holds another run or a damaged file; the loss is not finite.

    Source: chapter 06.
    """
    if len(images) < 2:
        raise InputError(f"Training needs at least two images, found {len(images)}.")
    if pairs is not None:
        refuse_augmentation(config)
    if config.device == "cuda" and not torch.cuda.is_available():
        raise InputError("The device is to be cuda, but no CUDA device is there; use cpu or auto.")
    if distillation and config.devices > 1:
        raise InputError("Each device would train a discriminator of its own: set devices to 1.")
    from lightning_fabric import Fabric  # here, because importing it takes seconds

    precision: Literal["bf16-mixed", "32-true"] = "bf16-mixed" if config.precision == "bfloat16" else "32-true"
    fabric = Fabric(accelerator=config.device, devices=config.devices, precision=precision)
    fabric.launch()
    home = next(model.parameters()).device
    wrapped, optimizer = fabric.setup(model, torch.optim.Adam(model.parameters(), lr=config.learning_rate))
    parts: dict[str, Any] = {"model": model, "optimizer": optimizer}
    if distillation:
        distillation.discriminator.to(fabric.device)
        parts["distillation"] = distillation
    identity: dict[str, Any] = {}
    if folder:  # it holds one run: the settings, and checksums of what else decides the outcome
        scans = zlib.crc32(images.cpu().numpy().tobytes())
        identity = config.model_dump() | {"start": weights_hash(model), "images": scans, "pairs": pairs and list(pairs)}
        if distillation:
            identity |= distillation.config.model_dump() | {"teacher": getattr(distillation.teacher, "origin", None)}
    run = _Run(folder, parts, identity)
    images = fabric.to_device(images)
    model.train()
    bar = tqdm(total=config.steps, initial=run.step, desc="training", unit="step", disable=not progress)
    while run.step < config.steps:
        begin = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, run.step)
        batch = draw_batch(images, config, run.step, fabric.global_rank, pairs)
        result = wrapped(batch.moving, batch.fixed)
        terms = reconstruction_loss(result, batch.fixed, config)
        loss = torch.stack(list(terms.values())).sum()
        if distillation and adversarial_step(distillation.config, run.step, config.steps):
            change, run.figures = distillation.step(terms["l_rec"], result.displacement, batch)
            loss = loss + change
        if not torch.isfinite(loss):
            raise InputError(
                f"The loss is {loss.item()} at step {run.step}: training has diverged. Try a smaller learning_rate "
                f"(now {config.learning_rate}), and check that the images hold values in [0, 1]."
            )
        optimizer.zero_grad()
        fabric.backward(loss)
        optimizer.step()
        run.step += 1
        run.seconds += time.perf_counter() - begin
        bar.update()
        last = run.step == config.steps
        if run.step % config.log_every == 0 or last:
            run.add({"loss": loss.item()} | {k: v.item() for k, v in terms.items()} | run.figures)
            run.figures = {}
            bar.set_postfix(loss=f"{loss.item():.4f}", refresh=False)
        if validate and (run.step % config.validate_every == 0 or last):
            run.add_validation(validate(model))
            model.train()
        if run.step % config.checkpoint_every == 0 or last:
            run.save(fabric.global_rank)
    bar.close()
    if run.best is not None:
        model.load_state_dict(run.best)
    model.to(home).eval()
    return run.log


def refuse_augmentation(config: FitConfig) -> None:
    """Displacements of the images as they are (stored ones, true ones) are wrong once these are bent or mirrored."""
    if config.augmentation or config.mirror:
        raise InputError(
            "These displacements belong to the images as they are: set augmentation to 0, mirror to false."
        )


KEPT = ("identity", "step", "seconds", "log", "figures", "best", "best_dice")  # in the checkpoint, beside the parts


class _Run:
    """What a training run must remember: step, log, best weights; and its file."""

    def __init__(self, folder: str | Path | None, parts: dict[str, Any], identity: dict[str, Any]) -> None:
        self.folder, self.parts, self.identity = Path(folder) if folder else None, parts, identity
        self.step, self.seconds, self.best_dice = 0, 0.0, -1.0
        self.best: dict[str, Tensor] | None = None
        self.log: list[dict[str, float]] = []
        self.figures: dict[str, float] = {}  # of the last adversarial step, until a row of the log takes them
        if self.folder:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / "checkpoint.pt").exists():
                self._resume(self.folder / "checkpoint.pt")

    def _resume(self, path: Path) -> None:
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, KeyError, pickle.UnpicklingError):  # what torch says of half a file
            raise InputError(f"{path}: the checkpoint is damaged; delete it to start afresh.") from None
        found = state.get("identity", {})
        different = [name for name in self.identity if name not in found or found[name] != self.identity[name]]
        if different or len(found) != len(self.identity):
            raise InputError(
                f"{path}: this folder holds another run ({', '.join(different) or 'distillation'} differ); choose "
                "another folder, or delete this one to start afresh."
            )
        for name, part in self.parts.items():
            part.load_state_dict(state[name])
        vars(self).update({name: state[name] for name in KEPT})

    def add(self, figures: dict[str, float]) -> None:
        self.log.append({"step": self.step, "seconds": round(self.seconds, 1)} | figures)

    def add_validation(self, figures: dict[str, float]) -> None:
        self.add({f"validation_{name}": value for name, value in figures.items()})
        if figures.get("dice", -1.0) > self.best_dice:
            self.best_dice = figures["dice"]
            self.best = {k: v.detach().cpu().clone() for k, v in self.parts["model"].state_dict().items()}

    def save(self, rank: int) -> None:
        if self.folder is None or rank != 0:
            return
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {name: getattr(self, name) for name in KEPT}
        with written(self.folder / "checkpoint.pt") as part:
            torch.save(state, part)
        with written(self.folder / "log.jsonl") as part:
            part.write_text("".join(json.dumps(row) + "\n" for row in self.log))
