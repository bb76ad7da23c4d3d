"""Random smooth deformations of the training images, as the released code makes them."""

import torch
from torch import Tensor

from lddr.free_form import free_form_field
from lddr.warping import warp


def augment(images: Tensor, amplitude: float, generator: torch.Generator) -> Tensor:
    """Bend every image by its own random free-form field.

    Args:
        images: `[B, 1, D, H, W]`, as are the bent ones.
        amplitude, generator: see `free_form_field`; 0 leaves the images alone.
    """
    if amplitude == 0:
        return images
    field = free_form_field(images.shape[2:], amplitude, len(images), generator)
    return warp(images, field.to(images.device))
