"""Train a cascade without labels: draw pairs, warp, compare, step; survive interruption.

Every random number of step k comes from the seed and k alone. So a checkpoint holds weights, optimiser state and the
step count, nothing about generators, and a resumed run takes exactly the steps the interrupted one would have taken.
"""

import math
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lddr.cascade import RecursiveCascade
from lddr.errors import DivergedError, InputError
from lddr.models import weights_hash
from lddr.objective import LossWeights, reconstruction_loss
from lddr.train.checkpoint import Run, one_writer
from lddr.train.config import TrainConfig
from lddr.train.distill import Distillation, adversarial_step
from lddr.train.sampling import draw_batch, refuse_augmentation
from lddr.warping import warp

Validate = Callable[[RecursiveCascade], dict[str, float]]
USUAL = LossWeights()


def learning_rate(config: TrainConfig, step: int) -> float:
    """Give the learning rate of step `step` (from 0).

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


def fit(
    model: RecursiveCascade,
    images: Tensor,
    config: TrainConfig,
    loss_weights: LossWeights = USUAL,
    folder: str | Path | None = None,
    validate: Validate | None = None,
    distillation: Distillation | None = None,
    pairs: Sequence[tuple[int, int]] | None = None,
    progress: bool = True,
) -> list[dict[str, float]]:
    """Train `model` in place; afterwards it holds the weights with the best validation Dice (else the last ones).

    Args:
        model: a cascade, on any device; it is brought back there.
        images: training images `[N, 1, D, H, W]` in [0, 1]; they stay where they are, and each batch is brought to the
            device, so they may be larger than its memory.
        config: see `TrainConfig`.
        loss_weights: of the regularisers.
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
            for a discriminator; the folder holds another run or a damaged file, is in use, or cannot be written.
        DivergedError: the loss is not finite.

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
    with one_writer(folder):
        return _train(model, images, config, loss_weights, folder, validate, distillation, pairs, progress)


def _train(
    model: RecursiveCascade,
    images: Tensor,
    config: TrainConfig,
    loss_weights: LossWeights,
    folder: str | Path | None,
    validate: Validate | None,
    distillation: Distillation | None,
    pairs: Sequence[tuple[int, int]] | None,
    progress: bool,
) -> list[dict[str, float]]:
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
        identity = config.model_dump() | loss_weights.model_dump()
        identity |= {"start": weights_hash(model), "images": scans, "pairs": pairs and list(pairs)}
        if distillation:
            identity |= distillation.config.model_dump() | {"teacher": getattr(distillation.teacher, "origin", None)}
    run = Run(folder, parts, identity, writes=fabric.is_global_zero)
    model.train()
    shown = progress and run.writes
    with tqdm(total=config.steps, initial=run.step, desc="training", unit="step", disable=not shown) as bar:
        while run.step < config.steps:
            begin = time.perf_counter()
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(config, run.step)
            batch = draw_batch(images, config, run.step, fabric.global_rank, pairs).to(fabric.device)
            result = wrapped(batch.seen_moving, batch.seen_fixed)
            if config.contrast or config.tone != 1:  # it saw other tones than the loss compares
                result.warped[-1] = warp(batch.moving, result.displacement)
            terms = reconstruction_loss(result, batch.fixed, loss_weights)
            loss = torch.stack(list(terms.values())).sum()
            if distillation and adversarial_step(distillation.config, run.step, config.steps):
                change, run.figures = distillation.step(terms["l_rec"], result.displacement, batch)
                loss = loss + change
            shared: Any = fabric.all_reduce(loss.detach().clone(), reduce_op="mean")  # several processes stop together
            if not torch.isfinite(shared):
                raise DivergedError(
                    f"The loss is {shared.item()} at step {run.step}: training has diverged. Try a smaller "
                    f"learning_rate (now {config.learning_rate}), and check that the images hold values in [0, 1]."
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
                if run.writes:  # the first of several processes validates for all: they hold the same weights
                    run.add_validation(validate(model))
                    model.train()
                fabric.barrier()
            if run.step % config.checkpoint_every == 0 or last:
                run.save()
    run.best = fabric.broadcast(run.best)
    if run.best is not None:
        model.load_state_dict(run.best)
    model.to(home).eval()
    return run.log
