"""How good a registration is: overlap of labels, distance of surfaces, plausibility of the map."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from lddr.warping import jacobian_determinant


def overlap(a: Tensor, b: Tensor, labels: Sequence[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Compute Dice and Jaccard of each label: `{label: Dice}` and `{label: Jaccard}` (chapter 00).

    A label absent from both maps has no overlap to measure: NaN, left out of means. Absent from one only: 0.

    Args:
        a, b: integer label maps of one shape.
        labels: the values to compare.
    """
    dice, jaccard = {}, {}
    for value in labels:
        in_a, in_b = a == value, b == value
        both, total = (in_a & in_b).sum().item(), in_a.sum().item() + in_b.sum().item()
        dice[value] = 2 * both / total if total else float("nan")
        jaccard[value] = both / (total - both) if total else float("nan")
    return dice, jaccard


def nanmean(values: Iterable[float]) -> float:
    """Average what can be measured; NaN if nothing can."""
    return torch.tensor(list(values), dtype=torch.float64).nanmean().item()


def hd95(a: Tensor, b: Tensor, labels: Sequence[int], spacing: float = 1.0) -> dict[int, float]:
    """Compute each label's 95th percentile of the symmetric surface distance, mm, by MONAI (chapter 06).

    Args:
        a, b: integer label maps `[1, 1, D, H, W]`.
        labels, spacing: the values to compare; millimetres between voxels.

    Returns:
        `{label: distance}`; NaN where the label is absent from either map.
    """
    from monai.metrics import compute_hausdorff_distance  # here, because importing MONAI takes seconds

    result = dict.fromkeys(labels, float("nan"))
    for value in labels:
        in_a, in_b = a == value, b == value
        if in_a.any() and in_b.any():
            distance = compute_hausdorff_distance(in_a, in_b, include_background=True, percentile=95, spacing=spacing)
            result[value] = distance.item()
    return result


def regularity(displacement: Tensor) -> tuple[float, float]:
    """Judge how plausible a map is by its Jacobian determinant (chapter 04); `displacement`: `[1, 3, D, H, W]`, voxels.

    Percent of voxels with determinant <= 0, and the determinant's standard deviation (released: `jacobian_det`).
    """
    determinant = jacobian_determinant(displacement)
    return 100 * (determinant <= 0).float().mean().item(), determinant.std().item()
