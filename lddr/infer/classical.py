"""Two classical tools as a yardstick: ANTs SyN, and Elastix affine + B-spline; each optimises every pair afresh.

Both are registrars as `lddr.infer.evaluate` knows them: they take the images that a network takes and answer with this
book's displacements, so that one function measures them all. Defaults, except that SyN's affine sees every voxel of
small grids. They need the extra `baselines`.
"""

import os
import tempfile

import numpy as np
import torch
from torch import Tensor

from lddr.infer.evaluate import Registrar
from lddr.warping import identity_grid


def _set_up() -> None:
    """One thread each, so that their seconds mean the same everywhere, and one seed: read when a tool is loaded."""
    os.environ.setdefault("ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS", "1")
    os.environ.setdefault("ANTS_RANDOM_SEED", "1")  # the argument `random_seed` alone leaves SyN different each time


def ants_syn(moving: Tensor, fixed: Tensor, margin: int = 32) -> Tensor:
    """Run SyN with ANTs' defaults (affine, then SyN, 40-20-0 iterations); up to 64^3 voxels the affine sees them all.

    By default it sees a fifth of them, drawn at random: on volumes that small it can lose a pair altogether.
    The composed map is read off by pulling images of the coordinates themselves through it.

    Args:
        moving, fixed: `[1, 1, D, H, W]`.
        margin: voxels by which coordinates are continued outside the volume, for displacement vectors that leave it.

    Returns:
        `[1, 3, D, H, W]`, voxels.

    Source: Avants et al. 2008, by antspyx; chapter 09.
    """
    _set_up()
    import ants

    target, source = (ants.from_numpy(image[0, 0].cpu().numpy()) for image in (fixed, moving))
    share = 1.0 if fixed.numel() <= 64**3 else 0.2
    with tempfile.TemporaryDirectory() as folder:
        found = ants.registration(
            target, source, "SyN", outprefix=f"{folder}/syn", random_seed=1, aff_random_sampling_rate=share
        )
        places = []
        for values in np.indices([n + 2 * margin for n in moving.shape[2:]], dtype=np.float32) - margin:
            coordinate = ants.from_numpy(values, origin=[-float(margin)] * 3)
            places.append(ants.apply_transforms(target, coordinate, found["fwdtransforms"], "linear").numpy())
    return torch.from_numpy(np.stack(places))[None] - identity_grid(fixed.shape[2:])


def elastix(moving: Tensor, fixed: Tensor, iterations: int = 256) -> Tensor:
    """Run Elastix's default affine, then its default B-spline (mutual information; final grid 8 voxels).

    Args:
        moving, fixed: `[1, 1, D, H, W]`.
        iterations: of each of the three resolutions, in both; the default is Elastix's own.

    Returns:
        `[1, 3, D, H, W]`, voxels.

    Source: Klein et al. 2010, by itk-elastix; chapter 09.
    """
    _set_up()
    import itk

    arrays = (image[0, 0].cpu().numpy().T for image in (fixed, moving))
    target, source = (itk.image_from_array(np.ascontiguousarray(array)) for array in arrays)
    parameters = itk.ParameterObject.New()
    for kind, spacing in (("affine", ()), ("bspline", (8.0,))):
        defaults = itk.ParameterObject.GetDefaultParameterMap(kind, 3, *spacing)
        defaults["MaximumNumberOfIterations"] = (str(iterations),)
        parameters.AddParameterMap(defaults)
    _, found = itk.elastix_registration_method(target, source, parameter_object=parameters, log_to_console=False)
    with tempfile.TemporaryDirectory() as folder:  # transformix leaves a file behind
        field = itk.transformix_deformation_field(source, found, output_directory=folder)
    # ITK's array runs (z, y, x) and its vectors (x, y, z); transposing the array brings x to axis 0 again.
    return torch.from_numpy(np.ascontiguousarray(itk.array_from_image(field).transpose(3, 2, 1, 0)))[None]


TOOLS: dict[str, Registrar] = {"ants_syn": ants_syn, "elastix": elastix}
