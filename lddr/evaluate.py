"""Register a list of pairs and measure each."""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lddr.adapt import adapt
from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.metrics import hd95, nanmean, overlap, regularity
from lddr.training import FitConfig
from lddr.warp import resize_displacement, warp_labels


@torch.no_grad()
def evaluate(
    model: RecursiveCascade,
    cohort: Cohort,
    pairs: Sequence[tuple[int, int]],
    repeats: int = 1,
    label_mode: str = "linear",
    surfaces: bool = False,
    progress: bool = False,
    fine: Cohort | None = None,
    adapt_with: FitConfig | None = None,
) -> list[dict[str, Any]]:
    """Register every pair and measure it (chapter 06).

    Args:
        model: a trained cascade; it is used on the device where its weights lie.
        cohort: images and labels.
        pairs: (moving, fixed) indices into the cohort.
        repeats: shared-weight repeats, see `RecursiveCascade.forward`.
        label_mode: how labels are warped, see `warp_labels`.
        surfaces: also measure HD95 (slower).
        progress: show a bar.
        fine: the same subjects on a finer grid over the same box: the displacement is resized to it and measured there.
        adapt_with: go on training on each pair itself before it is registered, see `lddr.adapt`.

    Returns:
        One row a pair, with `moving`, `fixed` (subject names), `dice`, `jaccard`, `dice_initial`, `folding_percent`,
        `jacobian_std`, `seconds` (adapting, network and warp of the image, nothing else), `dice_LABEL` for each label.

    Raises:
        InputError: see `on_finer_grid`.
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    rows = []
    for m, f in tqdm(pairs, desc="registering pairs", unit="pair", disable=not progress):
        moving, fixed = cohort.images[m : m + 1].to(device), cohort.images[f : f + 1].to(device)
        start = time.perf_counter()
        used = adapt(model, moving, fixed, adapt_with, repeats) if adapt_with else model
        displacement = used(moving, fixed, repeats=repeats).displacement
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds = time.perf_counter() - start
        if fine:
            displacement = on_finer_grid(displacement, cohort, fine)
        rows.append(measure(fine or cohort, (m, f), displacement, seconds, label_mode, surfaces))
    model.train(training)
    return rows


def on_finer_grid(displacement: Tensor, cohort: Cohort, fine: Cohort) -> Tensor:
    """A displacement found on one grid, as a displacement on a finer one over the same box; chapter 09.

    Args:
        displacement: `[1, 3, D, H, W]`, voxels of the cohort's grid.
        cohort, fine: the same subjects on the two grids.

    Returns:
        `[1, 3, *fine.size]`, voxels of the finer grid.

    Raises:
        InputError: the two grids do not share their corners.
    """
    require_same_box(cohort, fine)
    return resize_displacement(displacement, fine.size)


def require_same_box(cohort: Cohort, fine: Cohort) -> None:
    """Refuse (`InputError`) two grids that do not share their corners; chapter 09."""
    side, fine_side = (c.spacing * (np.array(c.size) - 1) for c in (cohort, fine))
    if not np.allclose(side, fine_side):
        raise InputError(
            f"{cohort.name}: grids of {cohort.size} and {fine.size} voxels do not share their corners here, so what is "
            "found on one cannot be measured on the other; leave the finer grid out."
        )


def measure(
    cohort: Cohort,
    pair: tuple[int, int],
    displacement: Tensor,
    seconds: float,
    label_mode: str = "linear",
    surfaces: bool = False,
) -> dict[str, Any]:
    """Measure one displacement, whoever found it: a network here, a classical tool in `lddr.baselines`.

    Args:
        cohort: labels and names.
        pair: (moving, fixed) indices into the cohort.
        displacement: `[1, 3, D, H, W]`, voxels.
        seconds: what finding it took.
        label_mode: how labels are warped, see `warp_labels`.
        surfaces: also measure HD95.

    Returns:
        A row as `evaluate` describes it.
    """
    moving, fixed = pair
    values = list(cohort.label_names)
    moving_labels, fixed_labels = (cohort.labels[i : i + 1].to(displacement.device) for i in pair)
    warped_labels = warp_labels(moving_labels, displacement, label_mode)
    dice, jaccard = overlap(warped_labels, fixed_labels, values)
    initial, _ = overlap(moving_labels, fixed_labels, values)
    folding, spread = regularity(displacement)
    row: dict[str, Any] = {
        "moving": cohort.ids[moving],
        "fixed": cohort.ids[fixed],
        "dice": nanmean(dice.values()),
        "jaccard": nanmean(jaccard.values()),
        "dice_initial": nanmean(initial.values()),
        "folding_percent": folding,
        "jacobian_std": spread,
        "seconds": seconds,
    }
    row |= {f"dice_{value}": score for value, score in dice.items()}
    if surfaces:
        row["hd95"] = nanmean(hd95(warped_labels, fixed_labels, values, cohort.spacing).values())
    return row


def summarise(rows: Sequence[dict[str, Any]], label_names: dict[int, str]) -> dict[str, Any]:
    """The figures that stand in a table, from the rows of `evaluate`.

    Returns:
        `pairs`, `dice_mean`, `dice_std` (over pairs), `dice_per_label`, `jaccard_mean`, `dice_initial`,
        `folding_percent`, `jacobian_std`, `seconds_per_pair` (the median), and `hd95_mean` if it was measured.
    """

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], dtype=float)

    summary = {
        "pairs": len(rows),
        "dice_mean": float(np.nanmean(column("dice"))),
        "dice_std": float(np.nanstd(column("dice"))),
        "dice_per_label": {name: float(np.nanmean(column(f"dice_{v}"))) for v, name in label_names.items()},
        "jaccard_mean": float(np.nanmean(column("jaccard"))),
        "dice_initial": float(np.nanmean(column("dice_initial"))),
        "folding_percent": float(column("folding_percent").mean()),
        "jacobian_std": float(column("jacobian_std").mean()),
        "seconds_per_pair": float(np.median(column("seconds"))),
    }
    if "hd95" in rows[0]:
        summary["hd95_mean"] = float(np.nanmean(column("hd95")))
    return summary
