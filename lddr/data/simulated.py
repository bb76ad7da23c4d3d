"""Simulated brains: subjects bent out of one template, so that the true map between any two of them is known.

The template is the MNI152 T1 brain with its tissue maps, which nilearn ships: nothing is downloaded. Every subject is
the template seen through its own random diffeomorphism, with its own contrast, shading and noise.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import torch
from platformdirs import user_cache_dir
from torch import Tensor
from tqdm.auto import tqdm

from lddr.data.cohort import Cohort, select_split
from lddr.data.grid import grid_affine, to_grid
from lddr.data.nifti import Scan
from lddr.errors import InputError, warn
from lddr.files import load_tensors, save_tensors
from lddr.free_form import bspline_weights
from lddr.warping import affine_displacement, compose, integrate_velocity, warp, warp_labels

SIZE = (64, 64, 64)
SIDE = 192.0  # millimetres along each side of the grid: holds the template's brain with room to move
MASS_AT = (0.0, -3.0, -13.0)  # where the brains' centres of mass lie on average, millimetres from the grid's middle
SPLITS = {"train": range(40), "validation": range(40, 48), "test": range(48, 64)}
LICENCE = (
    "made from the ICBM 2009a nonlinear symmetric template, copyright 1993-2009 Louis Collins, McConnell Brain Imaging "
    "Centre, Montreal Neurological Institute; Fonov et al. 2011, NeuroImage 54:313"
)
VERSION = 1  # raise it when subjects change, so that cached ones are made anew


@dataclass(frozen=True)
class SimulatedCohort(Cohort):
    """A cohort whose subjects' velocity fields are known.

    Attributes:
        velocities: of each subject, `[N, 3, D, H, W]`, voxels per unit of time; see `true_displacement`.
    """

    velocities: Tensor

    def true_displacement(self, moving: int, fixed: int) -> Tensor:
        """Find the displacement that brings subject `moving` onto subject `fixed`, but for the error of integrating it.

        Subject i is `T(x + u_i(x))` with `u_i = exp(v_i)`. The wanted map is "out of the moving subject into the
        template", which is exp(-v_m), then "out of the template into the fixed one"; chapter 08.

        Returns:
            `[1, 3, D, H, W]`, voxels.
        """
        out_of_moving = integrate_velocity(-self.velocities[moving, None])
        return compose(out_of_moving, integrate_velocity(self.velocities[fixed, None]))


def label_names() -> dict[int, str]:
    """Name the labels of the template: label value -> its name; chapter 02."""
    # The word that comes first changes slowest, as in the numbers of the labels.
    parts = product(("grey", "white"), ("bottom", "top"), ("back", "front"), ("left", "right"))
    names = {i: f"{matter} {left} {back} {bottom}" for i, (matter, bottom, back, left) in enumerate(parts, start=1)}
    return names | {17: "fluid"}


@cache
def template(size: tuple[int, int, int]) -> tuple[Tensor, Tensor, dict[int, str]]:
    """Load the brain that all subjects come from, on a grid of (D, H, W) voxels and 192 mm a side.

    Grey and white matter are split at the middle of the brain into eight parts each (left or right, back or front,
    bottom or top), so that overlap says something about position; fluid is one label.

    Returns:
        T1 intensities, `[1, 1, D, H, W]` in [0, 1]; labels, `[1, 1, D, H, W]` uint8; the labels' names.
    """
    from nilearn import datasets, image  # here, because importing nilearn takes seconds

    maps = []
    for load in datasets.load_mni152_template, datasets.load_mni152_gm_template, datasets.load_mni152_wm_template:
        volume = image.reorder_img(load(resolution=1))
        scan = Scan(volume.get_fdata(dtype=np.float32), volume.affine, "MNI152", volume.affine, volume.shape)
        maps.append(to_grid(scan, grid_affine(scan, size, [SIDE / n for n in size]), size))
    t1, grey, white = maps
    brain = t1 > 0.05
    tissue = np.where(np.maximum(grey, white) < 0.3, 0, np.where(grey >= white, 1, 2))
    middle = np.argwhere(brain).mean(axis=0)
    upper = [index > centre for index, centre in zip(np.indices(size), middle, strict=True)]
    octant = upper[0] + 2 * upper[1] + 4 * upper[2]
    labels = np.where(brain, np.where(tissue == 0, 17, 8 * (tissue - 1) + octant + 1), 0)
    tensor = torch.from_numpy(np.where(brain, t1 / t1.max(), 0).astype(np.float32))
    return tensor[None, None], torch.from_numpy(labels.astype(np.uint8))[None, None], label_names()


def smooth_noise(size: Sequence[int], channels: int, controls: int, generator: torch.Generator) -> Tensor:
    """Sum up cubic B-splines of random weights: `[1, channels, D, H, W]`, about -0.6 to 0.6."""
    values = 2 * torch.rand(channels, controls, controls, controls, generator=generator) - 1
    d, h, w = (bspline_weights(controls, n) for n in size)
    return torch.einsum("cijk,di,hj,wk->cdhw", values, d, h, w)[None]


def random_velocity(size: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw a velocity field, `[1, 3, D, H, W]`, voxels per unit of time: turn, stretch, shift, bends.

    Sizes are shares of the grid's side, so a subject is the same on every grid.
    """
    sides = torch.tensor(size, dtype=torch.float32)
    turn = 0.06 * (2 * torch.rand(3, 3, generator=generator) - 1)
    shift = 0.015 * (2 * torch.rand(3, generator=generator) - 1) * sides
    linear = affine_displacement(torch.eye(3)[None] + turn, shift[None], size)
    bends = 0.06 * smooth_noise(size, 3, 7, generator) + 0.03 * smooth_noise(size, 3, 12, generator)
    return linear + bends * sides.view(1, 3, 1, 1, 1)


def make_subject(index: int, size: tuple[int, int, int], seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Make one subject: the template, bent, shaded and made noisy.

    Args:
        index: of the subject; with the seed it decides everything about it.
        size: (D, H, W).
        seed: of the whole population.

    Returns:
        Image `[1, 1, D, H, W]`, labels `[1, 1, D, H, W]` uint8, velocity `[1, 3, D, H, W]` in voxels per unit of time.
    """
    generator = torch.Generator().manual_seed(int(np.random.SeedSequence([seed, index]).generate_state(1)[0]))
    t1, template_labels, _ = template(size)
    velocity = random_velocity(size, generator)
    displacement = integrate_velocity(velocity)
    labels = warp_labels(template_labels, displacement)
    gamma = torch.exp(0.3 * (2 * torch.rand(1, generator=generator) - 1))
    shading = torch.exp(0.3 * smooth_noise(size, 1, 5, generator))
    noise = 0.02 * torch.randn(1, 1, *size, generator=generator)
    shaded = (warp(t1, displacement).clamp(min=0) ** gamma * shading + noise).clamp(0, 1)
    return torch.where(labels > 0, shaded, 0.0), labels, velocity


def _cached(file: Path, size: Sequence[int]) -> tuple[Tensor, Tensor, Tensor] | None:
    """Read a subject that was made earlier; None if there is none, or not a whole one: it is then made again."""
    try:
        image, labels, velocity = subject = load_tensors(file)
        fits = [tuple(x.shape) for x in subject] == [(1, channels, *size) for channels in (1, 1, 3)]
        whole = [x.dtype for x in subject] == [torch.float32, torch.uint8, torch.float32]
    except (OSError, ValueError, TypeError, AttributeError):  # of something that is no three tensors
        return None
    return (image, labels, velocity) if fits and whole else None


def load_simulated_brains(
    split: str, size: Sequence[int] = SIZE, subjects: int | None = None, seed: int = 0
) -> SimulatedCohort:
    """Load the subjects of one split; made once, then read from `LDDR_CACHE` or the system's caches.

    Args:
        split: "train" (40 subjects), "validation" (8) or "test" (16).
        size: (D, H, W), every side 16 to 160.
        subjects: take only the first so many.
        seed: of the whole population.

    Raises:
        InputError: another split, or a size out of range.
    """
    indices, size = select_split(SPLITS, split)[:subjects], tuple(size)
    if len(size) != 3 or not all(16 <= n <= 160 for n in size) or len(set(size)) > 1:
        raise InputError(f"Simulated brains come on cubes of 16 to 160 voxels a side, not {'x'.join(map(str, size))}.")
    cache = Path(os.path.expanduser(os.environ.get("LDDR_CACHE") or user_cache_dir("lddr")))
    cache = cache / "simulated_brains" / f"v{VERSION}-seed{seed}-{size[0]}"
    files = {i: cache / f"{i:03}.pt" for i in indices}
    found = {i: _cached(file, size) for i, file in files.items()}
    missing, refusal = [i for i, subject in found.items() if subject is None], None
    for i in tqdm(missing, desc=f"simulating {split} brains", unit="subject", disable=not missing):
        found[i] = make_subject(i, size, seed)
        try:
            if refusal is None:
                save_tensors(files[i], found[i])
        except InputError as error:
            refusal = error
    if refusal:
        warn(f"simulated brains are not kept for next time. {refusal}")
    images, labels, velocities = (torch.cat(x) for x in zip(*filter(None, found.values()), strict=True))
    ids, names, spacing = tuple(f"brain_{i:03}" for i in files), label_names(), SIDE / size[0]
    return SimulatedCohort("simulated_brains", split, ids, images, labels, names, spacing, LICENCE, velocities)
