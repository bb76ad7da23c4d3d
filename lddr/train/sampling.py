"""Which pairs a training step sees: a function of the seed and the step, nothing else."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lddr.errors import InputError
from lddr.train.augment import augment
from lddr.train.config import TrainConfig


class Batch(NamedTuple):
    """What one training step looks at.

    Attributes:
        moving, fixed: `[B, 1, D, H, W]`.
        moving_ids, fixed_ids: which training images they were made from, `[B]`.
    """

    moving: Tensor
    fixed: Tensor
    moving_ids: Tensor
    fixed_ids: Tensor


def random_pairs(n: int, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw `batch` pairs of two different ones of `n` subjects: indices of moving and of fixed ones, `[batch]` each."""
    moving = torch.randint(n, (batch,), generator=generator)
    other = torch.randint(1, n, (batch,), generator=generator)
    return moving, (moving + other) % n


def draw_batch(
    images: Tensor, config: TrainConfig, step: int, rank: int = 0, pairs: Sequence[tuple[int, int]] | None = None
) -> Batch:
    """Draw the pairs of step `step`: a function of its arguments, nothing else (chapter 08).

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


def refuse_augmentation(config: TrainConfig) -> None:
    """Refuse (`InputError`) to bend or mirror images whose displacements, stored or true, are known as they are."""
    if config.augmentation or config.mirror:
        raise InputError(
            "These displacements belong to the images as they are: set augmentation to 0, mirror to false."
        )
