"""A teacher's displacements: computed as the student needs them, or once and for all, into one file.

A stored displacement belongs to two images as they are, so a student that learns from a file trains on the listed pairs
without augmentation; a teacher that is asked on the fly follows any augmentation, and costs its time on every step.
"""

import errno
import json
import math
import os
import zlib
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.data.hdf5 import damaged, open_hdf5
from lddr.errors import InputError
from lddr.files import atomic_write, flush, locked
from lddr.models import weights_hash
from lddr.train.distill import Teacher
from lddr.train.sampling import Batch

Pairs = Sequence[tuple[int, int]]
A_STORE = ("a store of displacements", "delete it, extract again")  # what `open_hdf5` says of one that is damaged


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
    """Open a store and make sure that it is whole and belongs to this teacher, grid and cohort."""
    store = open_hdf5(file, mode, *A_STORE)
    try:
        for name, wanted in origin.items():
            found = store.attrs.get(name)
            if not isinstance(found, str) or found != wanted:
                short = f" ({str(found)[:12]}, not {wanted[:12]})" if name != "subjects" else ""
                raise InputError(f"{path}: the displacements in this file were made with another {name}{short}.")
        pairs = len(store["pairs"])
        shapes = {"pairs": (pairs, 2), "done": (pairs,), "checksum": (pairs,)}
        shapes["displacement"] = (pairs, 3, *map(int, origin["grid"].split("x")))
        if any(store[name].shape != shape for name, shape in shapes.items()):
            raise damaged(file, *A_STORE)
        if file == path and not store["done"][:].all():
            raise damaged(file, *A_STORE)
        return store
    except BaseException as error:
        store.close()
        if isinstance(error, OSError | KeyError | AttributeError | TypeError):  # what HDF5 says of a flipped bit
            raise damaged(file, *A_STORE) from None
        raise


def _begin(part: Path, origin: dict[str, str], pairs: np.ndarray, size: Sequence[int]) -> None:
    """Make a store without displacements, whole or not at all."""
    shape = (len(pairs), 3, *size)
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)  # one block of the file, where `_reserve` finds it
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    with atomic_write(part) as new:
        _reserve(new, 2 * math.prod(shape))
        with h5py.File(new, "w", locking=False) as store:  # HDF5's lock and that of `atomic_write` are of one kind
            store.attrs.update(origin)
            store["pairs"] = pairs
            store["done"] = np.zeros(len(pairs), dtype=np.uint8)
            store["checksum"] = np.zeros(len(pairs), dtype=np.uint32)
            store.create_dataset("displacement", shape, dtype="float16", dcpl=layout)


def _reserve(file: Path, size: int) -> None:
    """Reserve disk space for the first `size` bytes of a file, what is in it stays.

    A full disk then says so at once, with an `OSError`; HDF5 would go on for a while and end in a crash.
    """
    if hasattr(os, "posix_fallocate") and size:
        with file.open("rb+") as stream:
            try:
                os.posix_fallocate(stream.fileno(), 0, size)
            except OSError as error:
                if error.errno not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):  # disks that cannot do this
                    raise


def extract(
    model: RecursiveCascade, cohort: Cohort, pairs: Pairs, path: str | Path, batch: int = 4, progress: bool = True
) -> None:
    """Register all pairs with the teacher and keep the displacements, float16, in one HDF5 file.

    The work goes on in `path` + ".part" until all pairs are there; interrupted, it continues where it was. Room on the
    disk is taken for all of them at the start.

    Args:
        model, cohort: the teacher and its images.
        pairs: (moving, fixed) indices into the cohort.
        path: of the finished file; nothing is done if it is there and belongs to this teacher, cohort and list.
        batch: pairs registered at a time.

    Raises:
        InputError: the file, or its beginnings, belong to another teacher, grid, cohort or list of pairs; another
            process is extracting into it; it cannot be written, for example because the disk is full.

    Source: Part 2 of the posts ("extracted before training"); chapter 05.
    """
    path, origin, wanted = Path(path), _origin(model, cohort), np.array(pairs, dtype=np.int32)
    part = path.with_name(path.name + ".part")
    # A finished store is only read: it may lie where nobody may write.
    lock = path.with_name(f".{path.name}.lddr.lock")
    alone = nullcontext() if path.exists() else locked(lock, f"extracting {path.name}")
    try:
        with alone:
            if path.exists():  # perhaps since a moment ago
                _require_pairs(path, path, origin, wanted)
                return
            if not part.exists():
                _begin(part, origin, wanted, cohort.size)
            _require_pairs(path, part, origin, wanted)
            _reserve(part, part.stat().st_size)
            with _open(path, part, origin, "r+") as store:
                _register_rest(store, model, cohort, batch, progress)
            flush(part)
            os.replace(part, path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror or error}).") from None


def _require_pairs(path: Path, file: Path, origin: dict[str, str], wanted: np.ndarray) -> None:
    """Refuse (`InputError`) a store that was begun for other pairs."""
    with _open(path, file, origin, "r") as store:
        if not np.array_equal(store["pairs"][:], wanted):
            raise InputError(f"{path}: the displacements in this file were made for another list of pairs.")


def _register_rest(store: h5py.File, model: RecursiveCascade, cohort: Cohort, batch: int, progress: bool) -> None:
    """Register the pairs of a store that are not done, or whose displacement is damaged."""
    pairs, done, teach = store["pairs"][:], store["done"][:], on_the_fly(model)
    todo = [row for row in range(len(pairs)) if not done[row] or _stored(store, row) is None]
    starts = range(0, len(todo), batch)
    for start in tqdm(starts, desc="teacher", unit="batch", disable=not progress or not starts):
        rows = todo[start : start + batch]
        ids = torch.as_tensor(pairs[rows].T, dtype=torch.long)
        fields = teach(Batch(cohort.images[ids[0]], cohort.images[ids[1]], *ids)).cpu().half().numpy()
        for row, values in zip(rows, fields, strict=True):
            store["displacement"][row] = values
            store["checksum"][row] = zlib.crc32(values.tobytes())
        store.flush()  # the displacements are in the file before it says so
        store["done"][rows] = 1
        store.flush()


def _stored(store: h5py.File, row: int) -> np.ndarray | None:
    """Read the displacement of a pair, `[3, D, H, W]` float16; None if it is not the one that was written."""
    try:
        values = store["displacement"][row]
    except OSError:
        return None
    return values if zlib.crc32(values.tobytes()) == store["checksum"][row] else None


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
            values = _stored(self._store, self._row[pair])
            if values is None:
                raise InputError(f"{self.path}: the displacement of pair {pair} is damaged; delete it and extract.")
            fields.append(torch.from_numpy(values).float())
        return torch.stack(fields).to(batch.moving.device)
