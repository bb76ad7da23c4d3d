"""Where voxels lie: what a header says about units and orientation, in millimetres to the Right, Anterior and Superior.

A NIfTI header can say it in two ways, as a matrix (sform) or as a rotation beside voxel sizes (qform). Or it says that
it does not know (both codes 0), as every Analyze header does. We read what nibabel reads: the matrix if there is one,
else the rotation, else a guess, that the axes run to Left, Anterior and Superior from the middle of the volume. ITK and
ANTs read some of these headers in another way, and a user of theirs has to know.

Source: nifti1.h, "3D image orientation and location in space"; for ITK, its NiftiImageIO as the tests see it behave.
"""

from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Header

from lddr.errors import InputError, warn

MILLIMETRES = {1: 1000.0, 3: 0.001}  # in a metre, in a micron; every other unit counts as millimetre
NEAR = 0.1  # of a voxel's side: affines that put no voxel further apart say the same
FLAT = 1e-3  # the least volume of a voxel whose sides are taken as 1
SMALL, LARGE = 2.0, 3000.0  # millimetres along the longest side, beyond which the unit is probably another one


def place_of(header: Any, shape: tuple[int, ...], path: str | Path) -> tuple[np.ndarray, bool]:
    """Read where the voxels of a file lie, and announce what had to be guessed or chosen.

    Args:
        header: of nibabel, for NIfTI or Analyze.
        shape, path: of the volume.

    Returns:
        The affine `[4, 4]`, voxel index of the file -> millimetres in RAS space; and whether ITK and ANTs put the
        voxels in the same place.

    Raises:
        InputError: the header has no usable affine.
    """
    codes = [int(header[name]) if name in header.keys() else 0 for name in ("sform_code", "qform_code")]
    if min(codes) < 0 or max(codes) > 5:
        raise InputError(f"{path}: the header is damaged, its sform and qform codes are {codes}; expected 0 to 5.")
    if header["pixdim"][0] == 0:  # which stands for 1, says nifti1.h
        header["pixdim"][0] = 1
    affine, sides, guessed = _or_nan(header.get_best_affine), np.abs(header["pixdim"][1:4]), not any(codes)
    if not _usable(affine) or (guessed and (header["pixdim"][1:4] <= 0).any()):
        raise InputError(f"{path}: the header's affine is not usable, so voxel sizes are unknown.")
    same = not guessed and np.allclose(sides, nib.affines.voxel_sizes(affine), rtol=NEAR / max(shape))
    if guessed:
        warn(
            f"{path}: the header does not say which side is which; taken: Left, Anterior, Superior, as nibabel does. "
            "ITK and ANTs take Left, Posterior, Superior."
        )
    elif not same:
        warn(f"{path}: the header has two sets of voxel sizes (pixdim and sform); taken: those of the sform.")
    elif all(codes) and not near(affine, _or_nan(header.get_qform), shape):
        same = False
        warn(f"{path}: the header puts the voxels in two places (sform and qform); taken: the sform.")
    unit = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0) if "xyzt_units" in header.keys() else 1.0
    affine = np.diag([unit, unit, unit, 1.0]) @ affine
    longest = max(nib.affines.voxel_sizes(affine) * shape)
    if not SMALL <= longest <= LARGE:
        warn(f"{path}: the longest side of the volume is {longest:.4g} mm; if it is not, correct the header's unit.")
    return affine, same and near(affine, without_shear(affine), shape)


def _or_nan(read: Callable[[], np.ndarray]) -> np.ndarray:
    """Read an affine from a header, NaN where the header makes no sense."""
    try:
        return np.asarray(read(), dtype=float)
    except (nib.spatialimages.HeaderDataError, ValueError):
        return np.full((4, 4), np.nan)


def _usable(affine: np.ndarray) -> bool:
    """Say whether an affine spans the space and fits an order of the axes."""
    sides = np.linalg.norm(affine[:3, :3], axis=0)
    if not (np.isfinite(affine).all() and np.isfinite(sides).all() and (sides > 0).all()):
        return False
    volume = abs(np.linalg.det(affine[:3, :3] / sides))
    return volume > FLAT and not np.isnan(nib.io_orientation(affine)).any()


def near(one: np.ndarray, other: np.ndarray, shape: tuple[int, ...]) -> bool:
    """Say whether two affines put every voxel of a volume in the same place, but for a tenth of a voxel's side."""
    corners = np.array([(*corner, 1) for corner in product(*((0, n - 1) for n in shape[:3]))])
    apart = np.linalg.norm(corners @ (one - other).T, axis=1).max()
    return bool(apart <= NEAR * nib.affines.voxel_sizes(one).min())


def without_shear(affine: np.ndarray) -> np.ndarray:
    """Find the nearest affine whose axes are at right angles: what a rotation beside voxel sizes (qform) can say."""
    header = Nifti1Header()
    header.set_qform(affine, code=1)
    return header.get_qform()
