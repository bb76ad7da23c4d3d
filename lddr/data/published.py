"""The data sets of the paper, as the authors of RCN publish them: resampled to 128^3, HDF5, one group a scan.

A group holds `volume` (0 to 255) and mostly `segmentation` (a liver: 0 and 255; brains: the numbers of structures). How
many millimetres a voxel has was not kept, so distances count voxels. The files are several gigabytes and cannot be
shipped; the page Datasets says where they are.
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
    from lddr.data.hdf5 import damaged, open_hdf5  # here, as in `_read`, because few use these sets

    names: list[str] = []
    with open_hdf5(file) as store:
        try:
            store.visit(names.append)
        except (OSError, RuntimeError):
            raise damaged(file) from None
    scans = [name.removesuffix("/volume") for name in names if name.endswith("/volume")]
    if not scans:
        raise InputError(f"{file}: no group with a 'volume' is in it.")
    return sorted(scans)


def _read(file: Path, scan: str, what: str, size: Sequence[int]) -> np.ndarray | None:
    """Read the "volume" or "segmentation" of a scan, `[D, H, W]`, finite numbers; None if there is none."""
    import h5py

    from lddr.data.hdf5 import damaged, open_hdf5

    with open_hdf5(file) as store:
        try:
            if what not in store[scan]:
                return None
            stored = store[scan][what]
            if not isinstance(stored, h5py.Dataset) or stored.dtype.kind not in "iuf":
                raise InputError(f"{file}: the {what} of {scan} is not made of numbers.")
            if stored.shape != tuple(size):
                shape = "x".join(map(str, stored.shape))
                raise InputError(f"{file}: {scan} has {shape} voxels, expected {'x'.join(map(str, size))}.")
            values = stored[()]
        except (OSError, RuntimeError, KeyError, TypeError):
            raise damaged(file) from None
    if not np.isfinite(values).all():
        raise InputError(f"{file}: the {what} of {scan} holds NaN or infinite numbers.")
    return values


def _image(file: Path, scan: str, size: Sequence[int]) -> np.ndarray:
    """Read the intensities of a scan, in [0, 1]."""
    values = _read(file, scan, "volume", size)
    if values is None or values.min() < 0 or not 1 < values.max() <= 255:
        found = "none" if values is None else f"{values.min():g} to {values.max():g}"
        raise InputError(f"{file}: {scan} has intensities from {found}; expected 0 to 255, as these sets have.")
    return values / np.float32(255)


def _labels(file: Path, scan: str, size: Sequence[int], structures: bool) -> np.ndarray | None:
    """Read the labels of a scan, uint8: of many structures, or the mask of a liver, stored as 0 and 255 or 0 and 1."""
    values = _read(file, scan, "segmentation", size)
    if values is None:
        return None
    top = values.max()
    if structures:
        whole = np.rint(values)
        if values.min() < 0 or top > 255 or np.abs(values - whole).max() > 1e-3:
            found = f"{file}: the segmentation of {scan} holds {values.min():g} to {top:g}"
            raise InputError(f"{found}; expected whole numbers from 0 to 255, one a structure.")
        return whole.astype(np.uint8)
    if values.min() < 0 or 1 < top <= 128 or top > 255:
        found = f"{file}: the segmentation of {scan} holds {values.min():g} to {top:g}"
        raise InputError(f"{found}; expected the mask of a liver, 0 and 255 or 0 and 1.")
    return (values > (0.5 if top <= 1 else 128)).astype(np.uint8)


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
        InputError: another split, a file that is missing or cannot be used, volumes of another size, intensities or
            labels out of range; a scan to be tested on without labels.

    Source: Zhao et al. 2019, section 4.1.
    """
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
        images[i, 0] = torch.from_numpy(_image(file, scan, size))
        found = _labels(file, scan, size, structures=name == "lpba")
        if split == "test" and (found is None or not found.any()):
            raise InputError(f"{file}: {scan} has no segmentation, so nothing can be measured on it; leave it out.")
        if found is not None:
            labels[i, 0] = torch.from_numpy(found)
    named = {int(v): f"structure {v}" for v in labels.unique() if v} if name == "lpba" else {1: "liver"}
    return Cohort(name, split, tuple(scan for _, scan in scans), images, labels, named, 1.0, LICENCE)
