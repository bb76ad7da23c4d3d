"""Read a scan from a NIfTI file, checked; write one so that it is never half there."""

import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import nibabel as nib
import numpy as np

from lddr.errors import InputError
from lddr.files import atomic_write


@dataclass(frozen=True)
class Scan:
    """A volume and where it lies in the scanner.

    Attributes:
        array: `[X, Y, Z]`, axes towards Right, Anterior, Superior (as nearly as an oblique scan allows).
        affine: `[4, 4]`, voxel index -> millimetres in RAS space.
        path: the file it came from, for messages.
        file_affine: the affine as the file has it, before its axes were put in RAS order.
        file_shape: the shape as the file has it.
    """

    array: np.ndarray
    affine: np.ndarray
    path: str
    file_affine: np.ndarray
    file_shape: tuple[int, ...]

    @property
    def spacing(self) -> np.ndarray:
        """Millimetres between voxels along each axis, `[3]`."""
        return nib.affines.voxel_sizes(self.affine)


def _load(path: str | Path) -> Scan:
    """Load the file's volume in RAS order, or one sentence about what is wrong with the file."""
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: there is no such file.")
    try:
        image = cast(nib.Nifti1Image, nib.load(path))
        array = np.asanyarray(image.dataobj)
    except (nib.filebasedimages.ImageFileError, nib.spatialimages.HeaderDataError):
        raise InputError(f"{path}: this is not a NIfTI file (expected .nii or .nii.gz).") from None
    except (EOFError, OSError, ValueError, zlib.error):
        raise InputError(f"{path}: the file is damaged or cut short; copy or download it again.") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: the voxels are of the type {array.dtype}; expected one real number each.")
    if array.size == 0:
        raise InputError(f"{path}: the volume is empty (shape {array.shape}).")
    if array.ndim > 3 and array.shape[3:] == (1,) * (array.ndim - 3):
        array = array.reshape(array.shape[:3])
    if array.ndim != 3:
        raise InputError(f"{path}: expected a 3-D volume, found {array.ndim}-D with shape {array.shape}.")
    if not np.isfinite(image.affine).all() or abs(np.linalg.det(image.affine[:3, :3])) < 1e-9:
        raise InputError(f"{path}: the header's affine is not usable, so voxel sizes are unknown.")
    canonical = nib.as_closest_canonical(nib.Nifti1Image(array, image.affine, dtype=array.dtype))
    return Scan(np.asanyarray(canonical.dataobj), canonical.affine, str(path), image.affine, array.shape)


def read_image(path: str | Path) -> Scan:
    """Read an intensity image; chapter 01 does it step by step.

    Args:
        path: a `.nii` or `.nii.gz` file with one 3-D volume (trailing axes of length 1 are dropped).

    Returns:
        A `Scan`, float32, in RAS order.

    Raises:
        InputError: missing, damaged, not NIfTI; colours; not 3-D; empty, flat, NaN or infinite; no usable affine.
    """
    scan = _load(path)
    array = scan.array.astype(np.float32)
    bad = array.size - np.count_nonzero(np.isfinite(array))
    if bad:
        raise InputError(f"{path}: {bad} of {array.size} voxels are NaN or infinite; expected finite intensities.")
    if array.min() == array.max():
        raise InputError(f"{path}: all voxels are {array.max():g}; expected a scan with contrast.")
    return replace(scan, array=array)


def read_labels(path: str | Path, image: Scan | None = None, most: int = 32767) -> Scan:
    """Read a map of integer labels.

    Args:
        path: a `.nii` or `.nii.gz` file with one 3-D volume of whole numbers.
        image: the scan it belongs to; if given, shapes and affines must agree.
        most: the largest label it may hold.

    Returns:
        A `Scan`, int16, in RAS order.

    Raises:
        InputError: as `read_image`; also values that are not whole numbers from 0 to `most`, or another shape or affine
            than the image's.
    """
    scan = _load(path)
    array = scan.array
    if not np.isfinite(array).all() or (array != np.round(array)).any():
        raise InputError(f"{path}: expected whole numbers as labels, found other values (is this an intensity image?).")
    if array.min() < 0 or array.max() > most:
        raise InputError(f"{path}: expected labels from 0 to {most}, found {array.min():.0f} to {array.max():.0f}.")
    if image is not None:
        same_place = np.allclose(scan.affine, image.affine, atol=1e-2)  # headers hold float32, or shorter
        if not same_place or array.shape != image.array.shape:
            found = f"{path}: the labels have shape {scan.file_shape}, their image {image.path} has {image.file_shape}"
            raise InputError(f"{found}{'' if same_place else ', and their affines differ'}.")
    return replace(scan, array=array.astype(np.int16))


def write_nifti(path: str | Path, array: np.ndarray, affine: np.ndarray, intent: str | None = None) -> None:
    """Write a volume or a field, whole or not at all.

    Args:
        path: where; ends in `.nii.gz`.
        array, affine: `[X, Y, Z, ...]`, and `[4, 4]`, voxel index -> millimetres in RAS space.
        intent: NIfTI intent, for example "vector".

    Raises:
        InputError: the folder cannot be written to.
    """
    image = nib.Nifti1Image(array, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, code=1)
    image.set_qform(affine, code=1)
    image.header.set_intent(intent or "none")
    with atomic_write(path) as part:
        nib.save(image, part)
