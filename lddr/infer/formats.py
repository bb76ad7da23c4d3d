"""A displacement as a file: as we write it, as ITK and ANTs read it, and as we read both.

What the numbers of a file mean stands in the file, so that none is taken for another: ours have a name in the header,
ITK's are known by their intent and their five axes.
"""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal

import numpy as np

from lddr.data.nifti import Scan, read_field, write_nifti
from lddr.errors import InputError
from lddr.files import atomic_write
from lddr.infer.maps import GridMap, PointMap, apply_affine

Form = Literal["nifti", "itk", "grid", "learn2reg"]
NAME_OF_VOXELS = "lddr: voxels"  # in the header of the form "nifti"
NAMES_OF_LPS: dict[str, Form] = {"lddr: mm in LPS": "itk", "lddr: small grid": "grid"}
VECTOR_INTENTS = (1006, 1007)  # NIfTI's codes of displacements and of vectors
TO_LPS = np.diag([-1.0, -1.0, 1.0])  # millimetres to Right, Anterior, Superior <-> to Left, Posterior, Superior


def in_voxels(mapping: PointMap | GridMap) -> np.ndarray:
    """Give the displacement in voxels of the fixed file's grid: the book's convention, with the channel last.

    `[X, Y, Z, 3]` float32; channel i moves along array axis i of the fixed file.
    """
    return mapping.vectors(np.linalg.inv(mapping.affine[:3, :3]))


def for_itk(mapping: PointMap | GridMap) -> np.ndarray:
    """Give the displacement as ITK and ANTs read it: millimetres to Left, Posterior and Superior.

    `[X, Y, Z, 1, 3]` float32; save it with the intent "vector".
    """
    return mapping.vectors(TO_LPS)[:, :, :, None, :]


def for_learn2reg(mapping: PointMap | GridMap) -> np.ndarray:
    """Give the displacement as the Learn2Reg challenge reads it: voxels of the fixed grid, channel first.

    `[3, X, Y, Z]` float16.
    """
    return np.moveaxis(in_voxels(mapping), -1, 0).astype(np.float16)


def on_own_grid(mapping: GridMap) -> GridMap:
    """Ask for the map on the network's grid, continued until it covers the fixed file: a few megabytes.

    Between the points of that grid the map is linear, so whoever interpolates linearly finds the same map. But ITK
    takes the displacement outside a field as zero, and ours goes on there; hence the continuation.
    """
    corners = np.array(list(product(*((0, n - 1) for n in mapping.shape))))
    reach = apply_affine(np.linalg.inv(mapping.fixed_grid) @ mapping.affine, corners)
    first = np.minimum(np.floor(reach.min(axis=0)), 0).astype(int)
    last = np.maximum(np.ceil(reach.max(axis=0)).astype(int), np.array(mapping.displacement.shape[1:]) - 1)
    start = np.eye(4)
    start[:3, 3] = first
    return replace(mapping, affine=mapping.fixed_grid @ start, shape=tuple(int(n) for n in last - first + 1))


def save_displacement(path: Path, mapping: GridMap, form: Form) -> None:
    """Write the displacement in one of four forms.

    Args:
        path: ends in `.nii.gz`, or in `.npz` for "learn2reg".
        mapping: the map.
        form: "nifti", voxels of the fixed grid; "itk", millimetres for ITK and ANTs; "grid", the same on the network's
            grid (see `on_own_grid`); "learn2reg", the challenge's.

    Raises:
        InputError: the folder cannot be written to.
    """
    if form == "learn2reg":
        with atomic_write(path) as part:
            np.savez_compressed(part, for_learn2reg(mapping))
    elif form == "nifti":
        write_nifti(path, in_voxels(mapping), mapping.affine, name=NAME_OF_VOXELS)
    else:
        given = on_own_grid(mapping) if form == "grid" else mapping
        name = next(name for name, known in NAMES_OF_LPS.items() if known == form)
        write_nifti(path, for_itk(given), given.affine, "vector", name)


def read_displacement(path: str | Path) -> tuple[GridMap, Form]:
    """Read a displacement that `save_displacement` or another program wrote.

    Returns:
        The map, asked for on the grid of the file, and the form it has; fields of other programs are "itk".

    Raises:
        InputError: see `read_field`; or the file does not say what its numbers mean.
    """
    if Path(path).suffix == ".npz":
        found = f"{path}: the challenge's form says nothing of millimetres, so it cannot be applied to a scan"
        raise InputError(f"{found}; register again with --format nifti or itk.")
    field = read_field(path)
    shape, to_voxels = field.array.shape, np.linalg.inv(field.affine[:3, :3])
    if field.name == NAME_OF_VOXELS and shape[3:] == (3,):
        voxels = field.array
    elif shape[3:] == (1, 3) and field.intent in VECTOR_INTENTS:
        if not field.same_in_itk:
            raise InputError(f"{path}: the header says in two ways where the vectors lie, and ITK takes the other one.")
        voxels = field.array[:, :, :, 0] @ (to_voxels @ TO_LPS).T.astype(np.float32)
    else:
        found = f"{path}: the header does not say what the numbers are (shape {shape}, intent '{field.name}')"
        raise InputError(f"{found}; expected a displacement of lddr register, or a vector field of ITK or ANTs.")
    form: Form = "nifti" if field.name == NAME_OF_VOXELS else NAMES_OF_LPS.get(field.name, "itk")
    return GridMap(np.moveaxis(voxels, -1, 0), field.affine, field.affine, field.affine, shape[:3]), form


def require_itk_agrees(*scans: Scan) -> None:
    """Refuse (`InputError`) a field for ITK if ITK puts one of the scans elsewhere than we do."""
    for scan in scans:
        if not scan.same_in_itk:
            found = f"{scan.path}: ITK and ANTs would put this scan elsewhere, so a field for them would be wrong"
            raise InputError(f"{found}; correct the header (see the warning), or use --format nifti.")
