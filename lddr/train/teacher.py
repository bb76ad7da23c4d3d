"""A teacher's displacements: computed as the student needs them, or once and for all, into one file.

A stored displacement belongs to two images as they are, so a student that learns from a file trains on the listed pairs
without augmentation; a teacher that is asked on the fly follows any augmentation, and costs its time on every step.
"""

import json
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.models import weights_hash
from lddr.train.distill import Teacher
from lddr.train.sampling import Batch

Pairs = Sequence[tuple[int, int]]


def on_the_fly(model: RecursiveCascade) -> Teacher:
    """Make a teacher that registers every batch when asked; its weights follow the images' device; chapter 05."""
    model.eval()

    @torch.no_grad()
    def teach(batch: Batch) -> Tensor:
        return model.to(batch.moving.device)(batch.moving, batch.fixed).displacement

    teach.origin = weights_hash(model)  # type: ignore[attr-defined]
    return teach


def _origin(model: RecursiveCascade, cohort: Cohort) -> dict[str, str]:
    """Say what stored displacements belong to, in words that can be compared and printed."""
    return {
        "teacher": weights_hash(model),
        "grid": "x".join(map(str, cohort.size)),
        "subjects": json.dumps([cohort.name, cohort.split, *cohort.ids, zlib.crc32(cohort.images.numpy().tobytes())]),
    }


def _open(path: Path, file: Path, origin: dict[str, str], mode: str) -> h5py.File:
    """Open a store and make sure that it belongs to this teacher, grid and cohort."""
    try:
        store = h5py.File(file, mode)
    except BlockingIOError:
        raise InputError(f"{file}: another program is writing to this store; wait for it.") from None
    except OSError:
        raise InputError(f"{file}: not a store of displacements, or a damaged one; delete it, extract again.") from None
    for name, wanted in origin.items():
        found = store.attrs.get(name)
        if found != wanted:
            store.close()
            short = f" ({str(found)[:12]}, not {wanted[:12]})" if name != "subjects" else ""
            raise InputError(f"{path}: the displacements in this file were made with another {name}{short}.")
    return store


def extract(
    model: RecursiveCascade, cohort: Cohort, pairs: Pairs, path: str | Path, batch: int = 4, progress: bool = True
) -> None:
    """Register all pairs with the teacher and keep the displacements, float16, in one HDF5 file.

    The work goes on in `path` + ".part" until all pairs are there; interrupted, it continues where it was.

    Args:
        model, cohort: the teacher and its images.
        pairs: (moving, fixed) indices into the cohort.
        path: of the finished file; nothing is done if it is there and belongs to this teacher, cohort and list.
        batch: pairs registered at a time.

    Raises:
        InputError: the file, or its beginnings, belong to another teacher, grid, cohort or list of pairs.

    Source: Part 2 of the posts ("extracted before training"); chapter 05.
    """
    path, origin, wanted = Path(path), _origin(model, cohort), np.array(pairs, dtype=np.int32)
    part = path.with_name(path.name + ".part")
    if not path.exists() and not part.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        with h5py.File(part, "w") as store:
            store.attrs.update(origin)
            store["pairs"] = wanted
            store["done"] = np.zeros(len(wanted), dtype=np.uint8)
            store["checksum"] = np.zeros(len(wanted), dtype=np.uint32)
            store.create_dataset("displacement", (len(wanted), 3, *cohort.size), dtype="float16")
    file = path if path.exists() else part
    with _open(path, file, origin, "r" if file == path else "r+") as store:
        if not np.array_equal(store["pairs"][:], wanted):
            raise InputError(f"{path}: the displacements in this file were made for another list of pairs.")
        todo = np.flatnonzero(store["done"][:] == 0)
        teach = on_the_fly(model)
        starts = range(0, len(todo), batch)
        for start in tqdm(starts, desc="teacher", unit="batch", disable=not progress or not starts):
            rows = todo[start : start + batch]
            ids = torch.as_tensor(wanted[rows].T, dtype=torch.long)
            fields = teach(Batch(cohort.images[ids[0]], cohort.images[ids[1]], *ids)).cpu().half().numpy()
            for row, values in zip(rows, fields, strict=True):
                store["displacement"][row] = values
                store["checksum"][row] = zlib.crc32(values.tobytes())
            store.flush()  # the displacements are in the file before it says so
            store["done"][rows] = 1
            store.flush()
    if file == part:
        os.replace(part, path)


class StoredTeacher:
    """A teacher that looks its displacements up in a file that `extract` wrote (chapter 05).

    Args:
        path: of the file.
        model, cohort: the teacher it must come from, the subjects it must be about.

    Attributes:
        pairs: the (moving, fixed) indices it knows; give them to `fit`.
        origin: checksum of the teacher's weights.

    Raises:
        InputError: no such file, not finished, or of another teacher, grid or cohort.
    """

    def __init__(self, path: str | Path, model: RecursiveCascade, cohort: Cohort) -> None:
        self.path = Path(path)
        if not self.path.exists():
            started = self.path.with_name(self.path.name + ".part").exists()
            raise InputError(f"{path}: {'not finished' if started else 'there is no such file'}; run the extraction.")
        self._store = _open(self.path, self.path, _origin(model, cohort), "r")
        self.pairs = [(int(m), int(f)) for m, f in self._store["pairs"][:]]
        self.origin = self._store.attrs["teacher"]
        self._row = {pair: row for row, pair in enumerate(self.pairs)}

    def __call__(self, batch: Batch) -> Tensor:
        """phi_t of every pair of the batch, `[B, 3, D, H, W]`, voxels, on the images' device.

        Raises:
            InputError: a pair that is not stored, or stored values that changed since they were written.
        """
        fields = []
        for pair in zip(batch.moving_ids.tolist(), batch.fixed_ids.tolist(), strict=True):
            if pair not in self._row:
                raise InputError(f"{self.path}: holds no displacement for the pair {pair} of subjects.")
            values = self._store["displacement"][self._row[pair]]
            if zlib.crc32(values.tobytes()) != self._store["checksum"][self._row[pair]]:
                raise InputError(f"{self.path}: the displacement of pair {pair} is damaged; delete it and extract.")
            fields.append(torch.from_numpy(values).float())
        return torch.stack(fields).to(batch.moving.device)
