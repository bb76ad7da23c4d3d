"""The data sets of the paper, as the authors of RCN publish them: resampled to 128^3, HDF5, one group a scan.

A group holds `volume` (0 to 255) and mostly `segmentation`. How many millimetres a voxel has was not kept, so distances
count voxels. The files are several gigabytes and cannot be shipped; the page Datasets says where they are.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from lddr.data.cohort import Cohort, select_split
from lddr.errors import InputError

SIZE = (128, 128, 128)
FOLDER = "RCN"
LICENCE = (
    "that of each set's first publisher: see the page Datasets; preprocessed by Zhao et al. 2019, arXiv:1907.12353"
)
LIVERS, BRAINS = ("msd_dataset.h5", "youyi_liver.h5"), ("adni.h5", "abide.h5", "abidef.h5", "adhd.h5")
# Set -> the file whose scans are all tested on, and the files of other subjects that are trained on.
SETS = {
    "sliver": ("sliver_val.h5", LIVERS),
    "lits": ("lits_val.h5", LIVERS),
    "lspig": ("lspig_val.h5", LIVERS),
    "lpba": ("lpba_val.h5", BRAINS),
}
HELD_OUT = 20  # scans at the start of the training files are for validation: the paper keeps none


def scan_names(file: Path) -> list[str]:
    """List the groups of a file that hold a scan, sorted: the two of a pig are neighbours then.

    Raises:
        InputError: it is no HDF5 file, or holds no scan.
    """
    import h5py

    names: list[str] = []
    try:
        with h5py.File(file) as store:
            store.visit(names.append)
    except OSError:
        raise InputError(f"{file}: not an HDF5 file, or a damaged one; get it again.") from None
    scans = [name.removesuffix("/volume") for name in names if name.endswith("/volume")]
    if not scans:
        raise InputError(f"{file}: no group with a 'volume' is in it.")
    return sorted(scans)


def load_published(
    root: str | Path, name: str, split: str, size: Sequence[int] = SIZE, subjects: int | None = None
) -> Cohort:
    """Read one split of a set of the paper.

    Args:
        root: the folder that holds `RCN`, and in it the HDF5 files under their own names.
        name: "sliver", "lits", "lspig" or "lpba".
        split: "test" (the set itself), "train" or "validation" (what the paper trains on for it).
        size: (D, H, W) of the stored volumes.
        subjects: take only the first so many; 128^3 voxels are 10 MB a scan in memory.

    Raises:
        InputError: another split, a file that is missing or cannot be used, volumes of another size.

    Source: Zhao et al. 2019, section 4.1.
    """
    import h5py

    test, training = SETS[name]
    parts = {"train": slice(HELD_OUT, None), "validation": slice(HELD_OUT), "test": slice(None)}
    part = select_split(parts, split)
    files = [Path(root) / FOLDER / file for file in ([test] if split == "test" else training)]
    for file in files:
        if not file.exists():
            raise InputError(f"{file}: expected a file of the preprocessed sets here; see the page Datasets.")
    scans = [(file, scan) for file in files for scan in scan_names(file)][part][:subjects]
    images = torch.zeros(len(scans), 1, *size)
    labels = torch.zeros(len(scans), 1, *size, dtype=torch.uint8)
    for i, (file, scan) in enumerate(scans):
        with h5py.File(file) as store:
            volume = store[scan]["volume"][()]
            if volume.shape != tuple(size):
                shape = "x".join(map(str, volume.shape))
                raise InputError(f"{file}: {scan} has {shape} voxels, expected {'x'.join(map(str, size))}.")
            images[i, 0] = torch.from_numpy(volume / np.float32(255))
            if "segmentation" in store[scan]:
                values = store[scan]["segmentation"][()]
                labels[i, 0] = torch.from_numpy((values if name == "lpba" else values > 128).astype(np.uint8))
    named = {int(v): f"structure {v}" for v in labels.unique() if v} if name == "lpba" else {1: "liver"}
    return Cohort(name, split, tuple(scan for _, scan in scans), images, labels, named, 1.0, LICENCE)
