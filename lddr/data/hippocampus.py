"""Hippocampus MR: task 4 of the Medical Segmentation Decathlon, in its official folder layout."""

import json
from collections.abc import Sequence
from pathlib import Path

from lddr.data.cohort import Cohort, on_disk, select_split
from lddr.data.grid import grid_affine, read_on_grids
from lddr.errors import InputError

SIZE = (48, 64, 48)  # the tightest multiple of 16 that holds every scan (31-43 x 40-59 x 24-47 voxels)
SPACING = 1.0
FOLDER = "Task04_Hippocampus"
LICENCE = "CC BY-SA 4.0; Simpson et al. 2019, arXiv:1902.09063; Antonelli et al. 2022, Nature Communications 13:4128"
LABEL_NAMES = {1: "anterior hippocampus", 2: "posterior hippocampus"}


def split_ids(split: str) -> list[str]:
    """List the subjects of "train", "validation" or "test", by the fixed split, on this disk or not.

    Raises:
        InputError: another name.
    """
    return select_split(json.loads((Path(__file__).parent / "splits" / "hippocampus.json").read_text()), split)


def load_hippocampus(root: str | Path, split: str, size: Sequence[int] = SIZE, subjects: int | None = None) -> Cohort:
    """Read one split, each scan padded (or cropped) onto the grid about its centre, not resampled.

    Args:
        root: the folder that holds `Task04_Hippocampus`.
        split: "train", "validation" or "test"; subjects that are not on disk are left out.
        size: (D, H, W) of the grid, at 1 mm.
        subjects: take only the first so many.

    Raises:
        InputError: no such folder or split, or a file that cannot be used.
    """
    folder = Path(root) / FOLDER
    if not (folder / "imagesTr").is_dir():
        raise InputError(
            f"{folder}: expected the folders imagesTr and labelsTr of the hippocampus set here; "
            "get it with 'python data_scripts/fetch_hippocampus.py', or point LDDR_DATA at the folder that holds it."
        )
    named = {i: (folder / "imagesTr" / f"{i}.nii.gz", folder / "labelsTr" / f"{i}.nii.gz") for i in split_ids(split)}
    files = on_disk(named, subjects, split, folder)
    images, labels = read_on_grids(files.values(), size, lambda image, _: grid_affine(image, size, SPACING))
    return Cohort("hippocampus", split, tuple(files), images, labels, LABEL_NAMES, SPACING, LICENCE)
