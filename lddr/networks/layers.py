"""Two small things every network here needs."""

from collections.abc import Sequence
from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

Head = TypeVar("Head", nn.Linear, nn.Conv3d, nn.ConvTranspose3d)


def near_zero(layer: Head) -> Head:
    """Start a head near zero, so that an untrained network leaves the image (almost) where it is.

    Exactly zero would let no gradient through to the layers below on the first step.
    """
    nn.init.normal_(layer.weight, std=1e-4)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def fit_to(x: Tensor, size: Sequence[int]) -> Tensor:
    """Crop or zero-pad `x` at the far end of each axis, to `[B, C, *size]`; chapter 05.

    A stride-2 layer halves an odd side with rounding; on the way back up the doubled side can be one voxel off.
    """
    padding = [p for n, wanted in zip(x.shape[:1:-1], reversed(size), strict=True) for p in (0, wanted - n)]
    return F.pad(x, padding) if any(padding) else x
