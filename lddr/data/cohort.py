"""A cohort: subjects on one grid, with labels, ready for a network; and which of them are paired."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from lddr.errors import InputError


@dataclass(frozen=True)
class Cohort:
    """Subjects of one data set on one grid.

    Attributes:
        name: of the data set.
        split: which part ("train", "validation", "test").
        ids: subject names, in order.
        images: `[N, 1, D, H, W]` float32 in [0, 1].
        labels: `[N, 1, D, H, W]` uint8.
        label_names: label value -> its name, background left out.
        spacing: millimetres between voxels, the same along all axes.
        licence: of the scans, and so of figures made from them.
    """

    name: str
    split: str
    ids: tuple[str, ...]
    images: Tensor
    labels: Tensor
    label_names: dict[int, str]
    spacing: float
    licence: str

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def size(self) -> tuple[int, ...]:
        """(D, H, W) of the grid."""
        return tuple(self.images.shape[2:])


def select_split(parts: dict[str, Any], split: str) -> Any:
    """Select what belongs to a split. `InputError` if there is no split of this name."""
    if split not in parts:
        raise InputError(f"A split is one of {', '.join(parts)}, not '{split}'.")
    return parts[split]


Files = dict[str, tuple[Path, Path]]  # subject -> image and labels


def on_disk(files: Files, subjects: int | None, split: str, folder: Path) -> Files:
    """Select the first so many subjects of a split whose scan is there; None takes all.

    Raises:
        InputError: none is there, in this folder.
    """
    there = [i for i, (image, _) in files.items() if image.exists()][:subjects]
    if not there:
        raise InputError(f"{folder}: none of the subjects of the {split} split is there.")
    return {i: files[i] for i in there}


def evaluation_pairs(n: int, kind: str = "ring") -> list[tuple[int, int]]:
    """List the (moving, fixed) pairs on which results are reported; chapter 06.

    Args:
        n: number of subjects.
        kind: "ring", subject i to i + 1 and the last to the first (n pairs); "all" ordered pairs (n (n - 1)); or
            "couples", the first two onto each other, then the next two (n pairs): two scans of one animal, in `lspig`.

    Raises:
        InputError: fewer than two subjects, an odd number of them in couples, or another kind.
    """
    if n < 2:
        raise InputError(f"Pairs need at least two subjects, found {n}.")
    if kind == "ring":
        return [(i, (i + 1) % n) for i in range(n)]
    if kind == "all":
        return [(i, j) for i in range(n) for j in range(n) if i != j]
    if kind == "couples" and n % 2 == 0:
        return [(i, i ^ 1) for i in range(n)]
    raise InputError(f"Pairs are 'ring', 'all' or, of an even number of scans, 'couples', not '{kind}' of {n}.")
