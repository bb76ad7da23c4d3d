"""Register a list of pairs, whoever does it, and measure each."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.metrics import hd95, nanmean, overlap, regularity
from lddr.record import Row, Summary, column
from lddr.warping import resize_displacement, warp_labels

Pair = tuple[int, int]  # (moving, fixed) indices into a cohort
# Whatever brings one image onto another: two images `[1, 1, D, H, W]`, moving and fixed, in [0, 1] -> the displacement,
# `[1, 3, D, H, W]`, voxels. A network, an adapted network, ANTs and Elastix are all registrars.
Registrar = Callable[[Tensor, Tensor], Tensor]


def by_network(model: RecursiveCascade, repeats: int = 1) -> Registrar:
    """Make a registrar of a trained cascade; it works on the device where the weights lie (chapter 06).

    Args:
        model: a trained cascade; it is left in the mode, training or not, in which it is found.
        repeats: shared-weight repeats, see `RecursiveCascade.forward`.
    """

    @torch.no_grad()
    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        device, training = next(model.parameters()).device, model.training
        displacement = model.eval()(moving.to(device), fixed.to(device), repeats=repeats).displacement
        model.train(training)
        return displacement

    return register


def evaluate(
    register: Registrar,
    cohort: Cohort,
    pairs: Sequence[Pair],
    *,
    fine: Cohort | None = None,
    label_mode: str = "linear",
    surfaces: bool = False,
    progress: bool = False,
    inspect: Callable[[Pair, Tensor, Row], None] | None = None,
) -> list[Row]:
    """Register every pair and measure it (chapter 06).

    Args:
        register: who does it, see `Registrar`.
        cohort: images and labels.
        pairs: (moving, fixed) indices into the cohort.
        fine: the same subjects on a finer grid over the same box: the displacement is resized to it and measured there.
        label_mode: how labels are warped, see `warp_labels`.
        surfaces: also measure HD95 (slower).
        progress: show a bar.
        inspect: called with every pair, its displacement (on the grid that is measured) and its row.

    Returns:
        One row a pair, with `moving`, `fixed` (subject names), `dice`, `jaccard`, `dice_initial`, `folding_percent`,
        `jacobian_std`, `seconds` (the registrar's, nothing else), `dice_LABEL` for each label.

    Raises:
        InputError: see `on_finer_grid`.
    """
    rows = []
    for m, f in tqdm(pairs, desc="registering pairs", unit="pair", disable=not progress):
        start = time.perf_counter()
        displacement = register(cohort.images[m : m + 1], cohort.images[f : f + 1])
        if displacement.is_cuda:
            torch.cuda.synchronize(displacement.device)
        seconds = time.perf_counter() - start
        if fine:
            displacement = on_finer_grid(displacement, cohort, fine)
        rows.append(measure(fine or cohort, (m, f), displacement, seconds, label_mode, surfaces))
        if inspect:
            inspect((m, f), displacement, rows[-1])
    return rows


def on_finer_grid(displacement: Tensor, cohort: Cohort, fine: Cohort) -> Tensor:
    """Carry a displacement from one grid to a finer one over the same box.

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
    """Refuse (`InputError`) two grids that do not share their corners."""
    side, fine_side = (c.spacing * (np.array(c.size) - 1) for c in (cohort, fine))
    if not np.allclose(side, fine_side):
        raise InputError(
            f"{cohort.name}: grids of {cohort.size} and {fine.size} voxels do not share their corners here, so what is "
            "found on one cannot be measured on the other; leave the finer grid out."
        )


def measure(
    cohort: Cohort,
    pair: Pair,
    displacement: Tensor,
    seconds: float,
    label_mode: str = "linear",
    surfaces: bool = False,
) -> Row:
    """Measure one displacement, whoever found it.

    Args:
        cohort: labels and names.
        pair: (moving, fixed) indices into the cohort.
        displacement: `[1, 3, D, H, W]`, voxels.
        seconds: what finding it took.
        label_mode: how labels are warped, see `warp_labels`.
        surfaces: also measure HD95.

    Returns:
        A row as `evaluate` describes it; NaN where a label is in neither or, for HD95, not in both of the scans.
    """
    moving, fixed = pair
    values = list(cohort.label_names)
    moving_labels, fixed_labels = (cohort.labels[i : i + 1].to(displacement.device) for i in pair)
    warped_labels = warp_labels(moving_labels, displacement, label_mode)
    dice, jaccard = overlap(warped_labels, fixed_labels, values)
    initial, _ = overlap(moving_labels, fixed_labels, values)
    folding, spread = regularity(displacement)
    row: Row = {
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


def summarise(rows: Sequence[Row], label_names: dict[int, str]) -> Summary:
    """Sum up the rows of `evaluate` as the figures that stand in a table.

    Args:
        rows: of `evaluate`.
        label_names: label value -> its name, as the cohort has them.
    """

    def over_pairs(name: str, how: Callable[[np.ndarray], Any] = np.nanmean) -> float:
        values = column(rows, name)
        return float("nan") if np.isnan(values).all() else float(how(values))

    return Summary(
        pairs=len(rows),
        dice_mean=over_pairs("dice"),
        dice_std=over_pairs("dice", np.nanstd),
        dice_per_label={name: over_pairs(f"dice_{value}") for value, name in label_names.items()},
        jaccard_mean=over_pairs("jaccard"),
        dice_initial=over_pairs("dice_initial"),
        folding_percent=over_pairs("folding_percent"),
        jacobian_std=over_pairs("jacobian_std"),
        seconds_per_pair=float(np.median(column(rows, "seconds"))),
        hd95_mean=over_pairs("hd95") if "hd95" in rows[0] else None,
    )
