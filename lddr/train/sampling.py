"""Which pairs a training step sees: a function of the seed and the step, nothing else."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lddr.errors import InputError
from lddr.train.augment import augment, recolour
from lddr.train.config import TrainConfig


class Batch(NamedTuple):
    """What one training step looks at.

    Attributes:
        moving, fixed: what the loss compares, `[B, 1, D, H, W]`.
        moving_ids, fixed_ids: which training images they were made from, `[B]`.
        seen_moving, seen_fixed: what the network sees, `[B, 1, D, H, W]`: the same, but for their tones.
    """

    moving: Tensor
    fixed: Tensor
    moving_ids: Tensor
    fixed_ids: Tensor
    seen_moving: Tensor | None = None
    seen_fixed: Tensor | None = None

    def to(self, device: torch.device) -> "Batch":
        """Bring all of it to a device."""
        return Batch(*(None if part is None else part.to(device) for part in self))  # type: ignore[arg-type]


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
    # With the settings off, nothing is drawn for them: runs from before they existed see the same batches.
    how = (generator, config.controls, config.spread)
    moving = augment(images[moving_ids], config.augmentation, *how)
    fixed = augment(images[fixed_ids], config.augmentation if config.bend_fixed else 0.0, *how)
    if config.mirror:
        axes = [axis for axis in (2, 3, 4) if torch.rand((), generator=generator) < 0.5]
        moving, fixed = moving.flip(axes), fixed.flip(axes)
    seen = [recolour(image, config.contrast, generator) for image in (moving, fixed)]
    if config.tone != 1:
        moving, fixed = moving**config.tone, fixed**config.tone
    return Batch(moving, fixed, moving_ids, fixed_ids, *seen)


def refuse_augmentation(config: TrainConfig) -> None:
    """Refuse (`InputError`) to move or mirror images whose displacements, stored or true, are known as they are."""
    if config.augmentation or config.mirror or config.spread:
        raise InputError(
            "These displacements belong to the images as they are: set augmentation to 0, mirror to false, spread to 0."
        )
