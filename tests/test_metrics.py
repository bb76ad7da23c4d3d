"""Metrics against MONAI and against shapes whose overlap, distance and Jacobian are known."""

import dataclasses
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from monai.metrics import compute_dice, compute_iou
from torch import Tensor, nn

from lddr.cascade import RecursiveCascade
from lddr.data.cohort import Cohort
from lddr.errors import InputError
from lddr.infer.evaluate import Registrar, by_network, evaluate, summarise
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
    (right, wrong) = evaluate(by_network(model), cohort, [(0, 1), (1, 0)], surfaces=True)
    assert model.training, "evaluate gives the model back as it was"
    assert (right["moving"], right["fixed"]) == ("a", "b")
    assert right["dice"] == right["jaccard"] == right["dice_1"] == 1
    assert right["dice_initial"] == wrong["dice_initial"] == pytest.approx(5 / 8)
    assert wrong["dice"] == pytest.approx(2 / 8)  # moved away: 6 of 8 planes miss
    assert right["hd95"] == 0
    assert right["folding_percent"] == right["jacobian_std"] == 0
    summary = summarise([right, wrong], {1: "cube"})
    assert summary.pairs == 2
    assert summary.dice_mean == pytest.approx((1 + 2 / 8) / 2)
    assert summary.dice_std == pytest.approx((1 - 2 / 8) / 2)
    assert summary.dice_per_label == {"cube": pytest.approx((1 + 2 / 8) / 2)}


def shift(axis: int, voxels: float) -> Registrar:
    """A registrar that is no network: it moves everything alike, whatever it sees."""

    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        displacement = torch.zeros(1, 3, *fixed.shape[2:])
        displacement[:, axis] = voxels
        return displacement

    return register


def cubes() -> Cohort:
    """Three subjects: a cube of 8 voxels, the same 3 further along axis 1, and 2 further along axis 2."""
    labels = torch.cat([cube((4, 4, 4), 8), cube((4, 7, 4), 8), cube((4, 4, 6), 8)])
    return Cohort("cubes", "test", ("a", "b", "c"), labels.float(), labels, {1: "cube"}, 1.0, "CC0")


def test_whatever_answers_with_a_displacement_is_measured() -> None:
    pairs = [(0, 1), (2, 0), (1, 2)]
    for voxels, overlaps in ((-3, [8, 5 * 6 / 8, 2 * 6 / 8]), (-1, [6, 7 * 6 / 8, 4 * 6 / 8]), (0, [5, 6, 5 * 6 / 8])):
        rows = evaluate(shift(1, voxels), cubes(), pairs)
        assert [(row["moving"], row["fixed"]) for row in rows] == [("a", "b"), ("c", "a"), ("b", "c")]
        assert [row["dice"] for row in rows] == pytest.approx([planes / 8 for planes in overlaps])
        assert [row["dice_initial"] for row in rows] == pytest.approx([5 / 8, 6 / 8, 5 * 6 / 64])
        assert [row["folding_percent"] for row in rows] == [0, 0, 0]
        assert "hd95" not in rows[0]


def test_a_registrar_sees_one_pair_and_only_its_own_seconds_count(monkeypatch: pytest.MonkeyPatch) -> None:
    cohort, now, seen = cubes(), 0.0, []
    monkeypatch.setattr("time.perf_counter", lambda: now)

    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        nonlocal now
        now += 2.5
        seen.append((moving, fixed))
        return shift(1, -3)(moving, fixed)

    def inspect(pair: tuple[int, int], displacement: Tensor, row: dict) -> None:
        nonlocal now
        now += 40
        inspected.append((pair, displacement, dict(row)))

    inspected = []
    rows = evaluate(register, cohort, [(0, 1), (1, 0)], inspect=inspect)
    assert [row["seconds"] for row in rows] == [2.5, 2.5]
    for (moving, fixed), (m, f) in zip(seen, [(0, 1), (1, 0)], strict=True):
        assert torch.equal(moving, cohort.images[m : m + 1])
        assert torch.equal(fixed, cohort.images[f : f + 1])
    assert [pair for pair, _, _ in inspected] == [(0, 1), (1, 0)]
    assert all(torch.equal(displacement, shift(1, -3)(*seen[0])) for _, displacement, _ in inspected)
    assert [row for _, _, row in inspected] == rows


def test_what_is_found_on_a_coarse_grid_is_measured_on_the_fine_one() -> None:
    """Corners are shared: 16 intervals of 1 mm are 8 of 2 mm, so one voxel of the coarse grid is two of the fine."""
    labels = torch.zeros(2, 1, 17, 17, 17, dtype=torch.uint8)
    labels[0, 0, 3:11, 4:12, 4:12], labels[1, 0, 5:13, 4:12, 4:12] = 1, 1
    empty = torch.zeros(2, 1, 9, 9, 9, dtype=torch.uint8)
    coarse = Cohort("cubes", "test", ("a", "b"), empty.float(), empty, {1: "cube"}, 2.0, "CC0")
    fine = Cohort("cubes", "test", ("a", "b"), labels.float(), labels, {1: "cube"}, 1.0, "CC0")
    given = []
    (row,) = evaluate(shift(0, -1), coarse, [(0, 1)], fine=fine, inspect=lambda pair, found, row: given.append(found))
    assert row["dice"] == 1
    assert row["dice_initial"] == pytest.approx(6 / 8)
    assert torch.equal(given[0], shift(0, -2)(fine.images, fine.images[:1]))
    with pytest.raises(InputError, match="do not share their corners"):
        evaluate(shift(0, -1), coarse, [(0, 1)], fine=dataclasses.replace(fine, spacing=1.1))


def test_labels_are_warped_as_asked() -> None:
    """Three labels meet in one voxel: the nearest is one of them, the largest share has another."""
    labels = torch.zeros(2, 1, 4, 4, 4, dtype=torch.uint8)
    labels[:, 0, 0, 0], labels[:, 0, 0, 1], labels[:, 0, 1, 0], labels[:, 0, 1, 1] = 7, 2, 2, 9

    def register(moving: Tensor, fixed: Tensor) -> Tensor:
        displacement = torch.zeros(1, 3, 4, 4, 4)
        displacement[:, :2, 0, 0] = 0.4
        return displacement

    cohort = Cohort("corners", "test", ("a", "b"), labels.float(), labels, {7: "corner"}, 1.0, "CC0")
    found = [evaluate(register, cohort, [(0, 1)], label_mode=mode)[0]["dice"] for mode in ("nearest", "linear")]
    assert found == [1, 0]


def test_a_label_that_no_pair_has_is_left_out_of_the_means_and_missing_from_its_own() -> None:
    cohort = dataclasses.replace(cubes(), label_names={1: "cube", 2: "nothing"})
    rows = evaluate(shift(1, 0), cohort, [(0, 1), (0, 2)], surfaces=True)
    summary = summarise(rows, cohort.label_names)
    assert math.isnan(summary.dice_per_label["nothing"])
    assert summary.dice_per_label["cube"] == summary.dice_mean == pytest.approx((5 / 8 + 6 / 8) / 2)
    assert summary.hd95_mean == pytest.approx((3 + 2) / 2)
    assert summarise(evaluate(shift(1, 0), cohort, [(0, 1)]), cohort.label_names).hd95_mean is None
    nothing = dataclasses.replace(cohort, label_names={2: "nothing"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a mean of nothing is not the user's concern
        summary = summarise(evaluate(shift(1, 0), nothing, [(0, 1)]), nothing.label_names)
    assert all(math.isnan(value) for value in (summary.dice_mean, summary.dice_std, summary.jaccard_mean))
    assert summary.folding_percent == 0
