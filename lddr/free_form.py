"""Smooth random fields: a few random displacement vectors, joined by cubic B-splines."""

from collections.abc import Sequence

import torch
from torch import Tensor


def bspline_weights(controls: int, n: int) -> Tensor:
    """Give the weights `[n, controls]` of cubic B-splines, one control beyond each end; rows sum to 1."""
    position = torch.linspace(1, controls - 2, n).unsqueeze(1) - torch.arange(controls)
    distance = position.abs()
    near = 2 / 3 - distance.square() + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def free_form_field(
    size: Sequence[int], amplitude: float, batch: int, generator: torch.Generator, controls: int = 5
) -> Tensor:
    """Draw random free-form deformations: a few random displacement vectors, joined by cubic B-splines.

    Args:
        size: (D, H, W).
        amplitude: the vectors reach up to this share of a quarter of each side (the released code: 0.4). Each field
            draws its own strength between 0 and that.
        batch, generator: how many fields, and the source of their randomness.
        controls: control points along each axis.

    Returns:
        `[batch, 3, D, H, W]`, voxels.

    Source: the released code's augmentation; chapter 02.
    """
    reach = torch.tensor([amplitude * n / 4 for n in size]).view(1, 3, 1, 1, 1)
    strength = torch.rand(batch, 1, 1, 1, 1, generator=generator)
    vectors = (2 * torch.rand(batch, 3, controls, controls, controls, generator=generator) - 1) * reach * strength
    d, h, w = (bspline_weights(controls, n) for n in size)
    return torch.einsum("bcijk,di,hj,wk->bcdhw", vectors, d, h, w)
