"""Random changes of training images: where things lie (bends, turns, stretches), and how they look to the network.

A network that is to work on scans of any scanner must not learn one scanner's contrast. So it can be shown images of
random tone, shading, sharpness and noise, while the loss compares the images as they were.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from lddr.data.cohort import Cohort
from lddr.free_form import bspline_weights, free_form_field
from lddr.train.config import TrainConfig
from lddr.warping import affine_displacement, compose_with_affine, warp, warp_labels

# What a spread of 1 means, and what a contrast of 1 means. All are drawn evenly from both sides of "no change".
TURN, STRETCH, SHEAR, SHIFT = math.radians(15), 0.12, 0.06, 0.05  # about each axis; shifts are shares of the side
GAMMA, WAVES, BRIGHTNESS, SHADING = 1.2, 0.15, 0.2, 0.3  # of logarithms, but for the waves
THICKEST, NOISE = 2.0, 0.04  # slices of so many voxels; standard deviation


def augment(
    images: Tensor, amplitude: float, generator: torch.Generator, controls: int = 5, spread: float = 0.0
) -> Tensor:
    """Deform every image by its own random field.

    Args:
        images: `[B, 1, D, H, W]`, as are the deformed ones.
        amplitude, generator, controls, spread: see `random_field`; with both amplitude and spread 0, nothing changes.
    """
    if amplitude == 0 and spread == 0:
        return images
    field = random_field(images.shape[2:], amplitude, len(images), generator, controls, spread)
    return warp(images, field.to(images.device))


def random_field(
    size: torch.Size, amplitude: float, batch: int, generator: torch.Generator, controls: int = 5, spread: float = 0.0
) -> Tensor:
    """Draw random deformations: each an affine map, then a free-form field, composed so that an image is warped once.

    Args:
        size: (D, H, W).
        amplitude, batch, generator, controls: see `free_form_field`.
        spread: of the affine maps, see `random_affine`; 0 draws none.

    Returns:
        `[batch, 3, D, H, W]`, voxels.
    """
    field = free_form_field(size, amplitude, batch, generator, controls)
    if spread == 0:
        return field
    matrix, translation = random_affine(size, spread, batch, generator)
    return compose_with_affine(matrix, affine_displacement(matrix, translation, size), field)


def random_affine(size: torch.Size, spread: float, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Draw random affine maps: turns, stretches, shears and shifts.

    The matrix is the exponential of one whose antisymmetric part turns and whose symmetric part stretches and shears,
    so that it never mirrors or flattens.

    Args:
        size: (D, H, W).
        spread: 1 turns by up to 15 degrees about each axis, stretches each axis by up to 12 %, shears by up to 6 %, and
            shifts by up to 5 % of each side.
        batch, generator: how many maps, and the source of their randomness.

    Returns:
        A, `[batch, 3, 3]`, and b, `[batch, 3]`, voxels.
    """
    turns, stretches, shears, shifts = spread * (2 * torch.rand(4, batch, 3, generator=generator) - 1)
    upper = torch.zeros(2, batch, 3, 3)
    row, column = torch.triu_indices(3, 3, offset=1)
    upper[0][:, row, column], upper[1][:, row, column] = TURN * turns, SHEAR * shears
    exponent = upper[0] - upper[0].mT + upper[1] + upper[1].mT + torch.diag_embed(STRETCH * stretches)
    return torch.linalg.matrix_exp(exponent), SHIFT * shifts * torch.tensor(size)


def recolour(images: Tensor, contrast: float, generator: torch.Generator) -> Tensor:
    """Show every image as another scanner might: other tones, shading, slice thickness and noise.

    The tone curve is a power of the intensity plus three sine waves; with a contrast of 1 it may fall in places, so
    that two tissues can swap their order, but never much. Background, where an image is 0, stays 0.

    Args:
        images: `[B, 1, D, H, W]` in [0, 1], as are the new ones.
        contrast: 0 leaves the images alone; 1 changes them as much as T1 scans of different scanners differ, and more.
        generator: the source of randomness.

    Source: the idea of Hoffmann et al. 2022 (SynthMorph), who draw every tissue's grey level at random.
    """
    if contrast == 0:
        return images
    batch, size = len(images), images.shape[2:]

    def draw(*shape: int) -> Tensor:
        shape = (*shape, *(1,) * (4 - len(shape)))
        return contrast * (2 * torch.rand(batch, *shape, generator=generator) - 1).to(images.device)

    tones = images ** torch.exp(GAMMA * draw())
    seen = tones + WAVES * torch.stack([draw() / k * torch.sin(math.pi * k * tones) for k in (1, 2, 3)]).sum(dim=0)
    seen = seen / seen.amax(dim=(1, 2, 3, 4), keepdim=True).clamp(min=0.1)  # the brightest tone is white again
    d, h, w = (bspline_weights(6, n).to(images.device) for n in size)
    shading = torch.einsum("bcijk,di,hj,wk->bcdhw", draw(1, 6, 6, 6), d, h, w)
    seen = seen * torch.exp(SHADING * shading + BRIGHTNESS * draw())
    seen = torch.cat([thicken(image, contrast, generator) for image in seen.split(1)])
    noise = NOISE * draw() * torch.randn(images.shape, generator=generator).to(images.device)
    return torch.where(images > 0, (seen + noise).clamp(0, 1), 0.0)


def thicken(image: Tensor, contrast: float, generator: torch.Generator) -> Tensor:
    """Average an image over thicker slices along a random axis, `[1, 1, D, H, W]`; at most two voxels thick for 1."""
    axis = int(torch.randint(3, (), generator=generator))
    thickness = 1 + (THICKEST - 1) * contrast * torch.rand((), generator=generator).item()
    d, h, w = (round(n / thickness) if i == axis else n for i, n in enumerate(image.shape[2:]))
    return F.interpolate(F.adaptive_avg_pool3d(image, (d, h, w)), image.shape[2:], mode="trilinear")


def varied(cohort: Cohort, config: TrainConfig) -> Cohort:
    """Deform and recolour the subjects of a cohort once, as the settings do with training images.

    A network that trains on such images is validated on such images. Where the settings have neither spread nor
    contrast, the cohort comes back as it is.
    """
    if config.spread == 0 and config.contrast == 0:
        return cohort
    generator = torch.Generator().manual_seed(config.seed)
    size = cohort.images.shape[2:]
    field = random_field(size, config.augmentation, len(cohort), generator, config.controls, config.spread)
    images = recolour(warp(cohort.images, field), config.contrast, generator)
    labels = torch.cat([warp_labels(one, u) for one, u in zip(cohort.labels.split(1), field.split(1), strict=True)])
    about = (cohort.name, cohort.split, cohort.ids)
    return Cohort(*about, images, labels, cohort.label_names, cohort.spacing, cohort.licence)
