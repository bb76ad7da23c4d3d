"""What a test can hold: a cohort of blurred ellipsoids, a model small enough for it, and records of runs never made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.infer.evaluate import summarise
from lddr.models import ModelConfig, build_model
from lddr.record import Machine, Method, Record
from lddr.train.config import TrainConfig

MODEL = ModelConfig(network="ldr", affine="light", cascades=1, width=4)
# Everything that draws random numbers is switched on; checkpoints fall between validations.
SHORT_RUN = TrainConfig(
    steps=24,
    batch=2,
    augmentation=0.2,
    mirror=True,
    seed=5,
    device="cpu",
    log_every=2,
    validate_every=4,
    checkpoint_every=5,
)


def ellipsoids(n: int = 6, size: Sequence[int] = (16, 16, 16), seed: int = 0) -> Tensor:
    """`[n, 1, D, H, W]` in [0, 1]: a bright body with a dark core, each at its own place and with its own axes."""
    rng = np.random.default_rng(seed)
    grid, side = np.indices(size), np.array(size)
    images = []
    for _ in range(n):
        centre = (side - 1) / 2 + rng.uniform(-0.07, 0.07, 3) * side
        axes = rng.uniform(0.25, 0.37, 3) * side
        radius = np.sqrt(sum(((grid[i] - centre[i]) / axes[i]) ** 2 for i in range(3)))
        images.append(ndimage.gaussian_filter(np.where(radius < 0.45, 0.5, radius < 1.0), 1.0))
    return torch.from_numpy(np.stack(images)[:, None]).float().clamp(0, 1)


def small_model(seed: int = 0) -> RecursiveCascade:
    return build_model(MODEL, seed)


def nearness(model: RecursiveCascade) -> dict[str, float]:
    """A stand-in for validation that likes untrained models best: 1 at the identity, less the more a model moves."""
    images = ellipsoids(2)
    with torch.no_grad():
        return {"dice": 1 / (1 + model(images[:1], images[1:]).displacement.abs().mean().item())}


MACHINE = Machine(cpu="a CPU", cores=2, threads=1, gpu=None, system="Linux x86_64", python="3.11", torch="2.4")
MADE: dict[str, Any] = {"command": "lddr train", "commit": "abc", "machine": MACHINE}
MADE["date"] = "2026-01-02T03:04:05+00:00"
LDR = Method(network="ldr", affine="light", width=16, levels=6, cascades=1, size=[48, 64, 48], objective="none", seed=0)
ALDK = LDR.model_copy(update={"objective": "paper"})
RCN = LDR.model_copy(update={"network": "vtn", "levels": 4})


def of(method: Method, **changes: object) -> Method:
    return method.model_copy(update=changes)


def record(
    method: Method = LDR,
    dice: float | Sequence[float] = 0.7,
    names: Sequence[tuple[str, str]] | None = None,
    seconds: float = 1.0,
    **more: object,
) -> Record:
    """A run that was never made.

    Args:
        method: what it says was measured.
        dice: of each pair; one number: eight pairs around it, a hundredth apart. Jaccard is half of it.
        names: (moving, fixed) of each pair; None: a chain of subjects.
        seconds: of each pair.
        more: other fields, or other values of those named here.
    """
    values = [dice + (i - 3.5) / 100 for i in range(8)] if isinstance(dice, float) else [float(d) for d in dice]
    names = names or [(str(i), str(i + 1)) for i in range(len(values))]
    rows = [
        {"moving": m, "fixed": f, "dice": d, "jaccard": d / 2, "dice_initial": 0.1, "dice_1": d}
        | {"folding_percent": 0.1, "jacobian_std": 0.2, "seconds": seconds}
        for (m, f), d in zip(names, values, strict=True)
    ]
    about = {"dataset": "hippocampus", "split": {"test": len(rows) + 1}, "pair_list": "ring", "method": method}
    return Record(**{**MADE, **about, "test": summarise(rows, {1: "organ"}), "rows": rows, **more})
