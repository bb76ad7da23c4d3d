"""Random smooth deformations of the training images, as the released code makes them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from lddr.warp import warp


def bspline_weights(controls: int, n: int) -> Tensor:
    """Weights `[n, controls]` of cubic B-splines, one control beyond each end; every row sums to 1; chapter 06."""
    position = torch.linspace(1, controls - 2, n).unsqueeze(1) - torch.arange(controls)
    distance = position.abs()
    near = 2 / 3 - distance.square() + distance**3 / 2
    far = (2 - distance).clamp(min=0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def free_form_field(
    size: Sequence[int], amplitude: float, batch: int, generator: torch.Generator, controls: int = 5
) -> Tensor:
    """A random free-form deformation: a few random arrows, joined by cubic B-splines.

    Args:
        size: (D, H, W).
        amplitude: the arrows reach up to this share of a quarter of each side (the released code: 0.4). Each field
            draws its own strength between 0 and that.
        batch, generator: how many fields, and the source of their randomness.
        controls: control points along each axis.

    Returns:
        `[batch, 3, D, H, W]`, voxels.

    Source: the released code's augmentation; chapter 06.
    """
    reach = torch.tensor([amplitude * n / 4 for n in size]).view(1, 3, 1, 1, 1)
    strength = torch.rand(batch, 1, 1, 1, 1, generator=generator)
    arrows = (2 * torch.rand(batch, 3, controls, controls, controls, generator=generator) - 1) * reach * strength
    d, h, w = (bspline_weights(controls, n) for n in size)
    return torch.einsum("bcijk,di,hj,wk->bcdhw", arrows, d, h, w)


def augment(images: Tensor, amplitude: float, generator: torch.Generator) -> Tensor:
    """Bend every image by its own random free-form field (chapter 06).

    Args:
        images: `[B, 1, D, H, W]`, as are the bent ones.
        amplitude, generator: see `free_form_field`; 0 leaves the images alone.
    """
    if amplitude == 0:
        return images
    field = free_form_field(images.shape[2:], amplitude, len(images), generator)
    return warp(images, field.to(images.device))
