"""Metrics against MONAI and against shapes whose overlap, distance and Jacobian are known."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_iou
from torch import Tensor, nn

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.evaluate import evaluate, summarise
from lddr.metrics import hd95, nanmean, overlap, regularity

SIZE = (16, 18, 20)


def random_labels(seed: int, values: tuple[int, ...] = (0, 1, 4)) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).choice(values, (1, 1, 6, 5, 4)))


def cube(start: tuple[int, int, int], side: int, value: int = 1) -> Tensor:
    labels = torch.zeros(1, 1, *SIZE, dtype=torch.uint8)
    labels[(0, 0, *(slice(s, s + side) for s in start))] = value
    return labels


@given(seed=st.integers(0, 999))
def test_overlap_is_monai_s(seed: int) -> None:
    a, b = random_labels(seed), random_labels(seed + 1)
    values = [0, 1, 4]
    dice, jaccard = overlap(a, b, values)
    of_a, of_b = (torch.cat([(x == v).float() for v in values], dim=1) for x in (a, b))
    np.testing.assert_allclose(list(dice.values()), compute_dice(of_a, of_b)[0], rtol=1e-6)
    np.testing.assert_allclose(list(jaccard.values()), compute_iou(of_a, of_b)[0], rtol=1e-6)
    assert list(dice) == list(jaccard) == values


def test_overlap_of_cubes_on_paper() -> None:
    dice, jaccard = overlap(cube((2, 2, 2), 8), cube((2, 6, 2), 8), [1])  # half of each is shared
    assert dice == {1: 0.5}
    assert jaccard == {1: pytest.approx(1 / 3)}


def test_a_label_absent_from_both_is_not_measured_and_from_one_is_missed() -> None:
    a, b = cube((2, 2, 2), 8, value=1), cube((2, 2, 2), 8, value=2)
    for scores in overlap(a, b, [1, 2, 3]):
        assert scores[1] == scores[2] == 0
        assert math.isnan(scores[3])
        assert nanmean(scores.values()) == 0
    assert math.isnan(nanmean([float("nan")]))
    assert nanmean([0.5, float("nan"), 1.0]) == 0.75


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spacing", [1.0, 1.5])
def test_hd95_of_a_shifted_cube_is_the_shift_in_millimetres(axis: int, spacing: float) -> None:
    start = [2, 2, 2]
    start[axis] += 3
    distance = hd95(cube((2, 2, 2), 8), cube(tuple(start), 8), [1], spacing)
    assert distance[1] == pytest.approx(3 * spacing)


def test_hd95_of_identical_and_of_absent_labels() -> None:
    labels = cube((2, 2, 2), 8)
    distances = hd95(labels, labels, [1, 2])
    assert distances[1] == 0
    assert math.isnan(distances[2])
    assert math.isnan(hd95(labels, torch.zeros_like(labels), [1])[1])
    assert math.isnan(hd95(torch.zeros_like(labels), labels, [1])[1])


def test_hd95_keeps_labels_apart() -> None:
    """Label 2 sits still; only label 1 moves."""
    a, b = cube((1, 1, 1), 5) + cube((9, 9, 9), 5, value=2), cube((1, 3, 1), 5) + cube((9, 9, 9), 5, value=2)
    assert hd95(a, b, [1, 2]) == {1: pytest.approx(2), 2: 0}


def line(values: Tensor) -> Tensor:
    """A displacement along axis 0 that depends on axis 0 only, `[1, 3, D, H, W]`."""
    field = torch.zeros(1, 3, *SIZE)
    field[:, 0] = values.view(-1, 1, 1)
    return field


def test_regularity_of_a_scaling_and_of_a_mirror() -> None:
    x = torch.arange(SIZE[0], dtype=torch.float32)
    folded, spread = regularity(line(0.3 * x))
    assert folded == 0
    assert spread == pytest.approx(0, abs=1e-5)
    assert regularity(line(-2 * x))[0] == 100  # determinant -1 everywhere
    assert regularity(line(-0.9 * x))[0] == 0  # determinant 0.1: crushed, but not folded
    assert regularity(line(-x))[0] == 100  # everything in one plane: determinant 0 counts as folded


def test_regularity_counts_folded_voxels_and_measures_the_spread() -> None:
    x = torch.arange(SIZE[0], dtype=torch.float32)
    folded, spread = regularity(line(-0.1 * x**2))  # determinant 1 - 0.2 x: not above 0 from x = 5 on
    determinants = 1 - 0.2 * np.arange(SIZE[0])
    assert folded == pytest.approx(100 * (SIZE[0] - 5) / SIZE[0], abs=1e-4)
    assert spread == pytest.approx(determinants.std(), rel=1e-3)


class Translation(nn.Module):
    """A stem that knows the answer: the second image is the first, moved by 3 voxels along axis 1."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor([0.0, -3.0, 0.0]).view(1, 3, 1, 1, 1))

    def forward(self, moving: Tensor, fixed: Tensor) -> Tensor:
        return self.shift.expand(len(moving), 3, *moving.shape[2:])


def test_evaluate_measures_a_registration_that_is_known_to_be_right() -> None:
    labels = torch.cat([cube((4, 4, 4), 8), cube((4, 7, 4), 8)])
    cohort = Cohort("cubes", "test", ("a", "b"), labels.float(), labels, {1: "cube", 2: "nothing"}, 1.0, "CC0")
    model = RecursiveCascade(None, [Translation()])
    model.train()
    (right, wrong) = evaluate(model, cohort, [(0, 1), (1, 0)], surfaces=True)
    assert model.training, "evaluate gives the model back as it was"
    assert (right["moving"], right["fixed"]) == ("a", "b")
    assert right["dice"] == right["jaccard"] == right["dice_1"] == 1
    assert right["dice_initial"] == wrong["dice_initial"] == pytest.approx(5 / 8)
    assert wrong["dice"] == pytest.approx(2 / 8)  # moved away: 6 of 8 planes miss
    assert right["hd95"] == 0
    assert right["folding_percent"] == right["jacobian_std"] == 0
    summary = summarise([right, wrong], {1: "cube"})
    assert summary["pairs"] == 2
    assert summary["dice_mean"] == pytest.approx((1 + 2 / 8) / 2)
    assert summary["dice_std"] == pytest.approx((1 - 2 / 8) / 2)
    assert summary["dice_per_label"] == {"cube": pytest.approx((1 + 2 / 8) / 2)}
