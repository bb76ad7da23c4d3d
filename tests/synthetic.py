"""A cohort that fits in a test, blurred ellipsoids of different shape and place, and a model small enough for it."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from lddr.cascade import RecursiveCascade
from lddr.models import ModelConfig, build_model
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
