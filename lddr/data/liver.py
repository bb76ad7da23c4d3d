"""Liver MR: the T2-SPIR scans of the CHAOS challenge, 16 subjects, so few that every one is tested once, in four folds.

Slices lie 7.7 to 9 mm apart, so a scan is interpolated onto a cube of equal voxels. The paper lays it around the liver,
which takes the label to find (`liver_mr`); without a label it can only be laid around the body (`liver_mr_body`).
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lddr.data.cohort import Cohort, on_disk, select_split
from lddr.data.grid import normalise, read_on_grids
from lddr.data.nifti import Scan
from lddr.data.threshold import otsu
from lddr.errors import InputError

SIZE = (64, 64, 64)
# Millimetres from the first to the last voxel centre along each side: room for every liver, or for every body. Cubes of
# all sizes share their corners, so a displacement can be resized from one to another.
SIDES = {"liver_mr": 256.0, "liver_mr_body": 352.0}
FOLDS = 4
FOLDER = "CHAOS_MR_T2SPIR"
LICENCE = "CC BY-NC-SA 4.0; Kavur et al. 2021, Medical Image Analysis 69:101950; doi:10.5281/zenodo.3362844"
LABEL_NAMES = {1: "liver"}  # the set also labels two kidneys and the spleen, which the cube around a liver cuts


def fold_ids(split: str, fold: int) -> list[str]:
    """List the subjects of one part of one fold.

    Args:
        split: "test" (the four subjects of this fold), "validation" (two of the next fold) or "train" (the other ten).
        fold: 0 to 3.

    Raises:
        InputError: another split or fold.
    """
    folds = json.loads((Path(__file__).parent / "splits" / "liver_mr.json").read_text())
    if fold not in range(len(folds)):
        raise InputError(f"A fold of liver_mr is one of 0 to {len(folds) - 1}, not {fold}.")
    test, validation = folds[fold], folds[(fold + 1) % len(folds)][:2]
    train = [i for part in folds for i in part if i not in test and i not in validation]
    return select_split({"train": train, "validation": validation, "test": test}, split)


def box_centre(mask: np.ndarray) -> np.ndarray:
    """Find the middle of the smallest box around a mask, `[3]`, voxels."""
    inside = np.argwhere(mask)
    return (inside.min(0) + inside.max(0)) / 2


def cube_affine(scan: Scan, centre: np.ndarray, size: Sequence[int], side: float) -> np.ndarray:
    """Give the affine of a cube, `side` mm between corners, its middle at voxel `centre` of the scan."""
    step = side / (np.array(size) - 1) / scan.spacing
    to_scan = np.diag([*step, 1.0])
    to_scan[:3, 3] = centre - (np.array(size) - 1) / 2 * step
    return scan.affine @ to_scan


def body(image: np.ndarray) -> np.ndarray:
    """Find the voxels that are not air, by half of Otsu's threshold; chapter 09."""
    return image > otsu(image) / 2


def window(images: Tensor) -> Tensor:
    """Let twice the median of its body be each scan's white, `[N, 1, D, H, W]`, so that all end at 1; chapter 09.

    The liver, at about one and a half medians, stays grey; bowel, spleen and fluid, the brightest, are cut to white.
    """
    white = torch.stack([2 * image[torch.from_numpy(body(image.numpy()))].median() for image in images])
    return (images / white.view(-1, 1, 1, 1, 1)).clamp(max=1)


def prepare(scan: Scan) -> Scan:
    """Normalise a whole scan and set its white by its body, as `load_liver_mr` does with the scans of the set."""
    scan = normalise(scan)
    return replace(scan, array=window(torch.from_numpy(scan.array)[None, None])[0, 0].numpy())


def load_liver_mr(
    root: str | Path, name: str, split: str, size: Sequence[int] = SIZE, subjects: int | None = None, fold: int = 0
) -> Cohort:
    """Read one part of one fold, each scan laid on a cube about its liver, or about its body.

    Args:
        root: the folder that holds `CHAOS_MR_T2SPIR`.
        name: "liver_mr" or "liver_mr_body".
        split: see `fold_ids`; subjects that are not on disk are left out.
        size: (D, H, W) of the cube, all sides equal.
        subjects: take only the first so many.
        fold: 0 to 3.

    Raises:
        InputError: no such folder, split or fold, another size, or a file that cannot be used.
    """
    if len(size) != 3 or min(size) < 16 or len(set(size)) > 1:
        raise InputError(f"Livers come on cubes of 16 voxels a side or more, not {'x'.join(map(str, size))}.")
    folder = Path(root) / FOLDER
    if not folder.is_dir():
        raise InputError(
            f"{folder}: expected the files image_N.nii.gz and label_N.nii.gz of the liver set here; get it with "
            "'python data_scripts/fetch_chaos.py', or point LDDR_DATA at the folder that holds it."
        )
    named = {i: (folder / f"image_{i}.nii.gz", folder / f"label_{i}.nii.gz") for i in fold_ids(split, fold)}
    files = on_disk(named, subjects, split, folder)

    def place(image: Scan, label: Scan) -> np.ndarray:
        liver = label.array == 1
        if not liver.any():
            raise InputError(f"{label.path}: no voxel holds 1, the label of the liver.")
        return cube_affine(image, box_centre(liver if name == "liver_mr" else body(image.array)), size, SIDES[name])

    images, labels = read_on_grids(files.values(), size, place)
    livers, spacing = (labels == 1).to(labels.dtype), SIDES[name] / (size[0] - 1)
    return Cohort(name, split, tuple(files), window(images), livers, LABEL_NAMES, spacing, LICENCE)
