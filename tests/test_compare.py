"""Paired comparison: exact where the answer is known, an interval that covers as often as it says; and Holm's p."""

from itertools import permutations

import numpy as np
import pytest
from scipy.stats import ttest_ind, ttest_rel

from lddr.record import Record
from study.stats import compare, dice_table, holm

COUPLES = [(2 * i, 2 * i + 1) for i in range(15)]
RING = [(i, (i + 1) % 24) for i in range(24)]
FOLDS = [pair for k in range(4) for pair in permutations(range(4 * k, 4 * k + 4), 2)]


def records(values: np.ndarray, pairs: list[tuple[int, int]] | None = None) -> list[Record]:
    """`[pairs, seeds]` as records with nothing but rows, one a seed; pairs that share no subject if none are given."""
    names = [(f"s{m}", f"s{f}") for m, f in pairs or [(2 * i, 2 * i + 1) for i in range(len(values))]]
    return [
        Record.model_construct(
            rows=[{"moving": m, "fixed": f, "dice": v} for (m, f), v in zip(names, column, strict=True)]
        )
        for column in values.T
    ]


def interval(found: dict[str, float]) -> list[float]:
    return [found["low"], found["high"], found["p"]]


def test_the_table_has_a_row_a_pair_and_a_column_a_seed() -> None:
    values = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(dice_table(records(values)), values)


def test_a_constant_gain_on_every_pair_and_seed_has_no_spread() -> None:
    base = np.linspace(0.5, 0.8, 12)[:, None].repeat(3, 1)
    found = compare(records(base + 0.02), records(base))
    assert [found[k] for k in ("gain", "low", "high")] == pytest.approx([0.02] * 3)
    assert found["p"] < 0.001
    assert compare(records(base), records(base)) == {"gain": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}
    flat = np.full((12, 1), 0.5)
    assert compare(records(flat + 0.25), records(flat)) == {"gain": 0.25, "low": 0.25, "high": 0.25, "p": 0.0}


def test_pairs_without_a_common_subject_and_one_seed_are_a_paired_t_test() -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(0.7, 0.1, (15, 1))
    ours = base + generator.normal(0.01, 0.05, base.shape)
    found, expected = compare(records(ours), records(base)), ttest_rel(ours[:, 0], base[:, 0])
    ends = expected.confidence_interval()
    assert interval(found) == pytest.approx([ends.low, ends.high, expected.pvalue])


@pytest.mark.parametrize(("ours", "theirs"), [(3, 3), (2, 5)])
def test_pairs_that_agree_and_several_seeds_are_the_t_test_of_welch(ours, theirs) -> None:
    generator = np.random.default_rng(2)
    a, b = generator.normal(0.71, 0.004, ours), generator.normal(0.70, 0.001, theirs)
    hard = np.linspace(-0.2, 0.2, 15)[:, None]  # a pair is hard for every method
    expected = ttest_ind(a, b, equal_var=False)
    ends = expected.confidence_interval()
    assert interval(compare(records(a + hard), records(b + hard))) == pytest.approx(
        [ends.low, ends.high, expected.pvalue], abs=1e-9
    )


@pytest.mark.parametrize("pairs", [COUPLES, RING, FOLDS], ids=["couples", "ring", "folds"])
@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("spread", [0.0, 0.02], ids=["pairs-only", "subjects-too"])
def test_the_interval_covers_the_truth_as_often_as_it_says(pairs, seeds, spread) -> None:
    """Differences with a part of each subject, a part of the pair and one of the seed; 600 worlds."""
    generator = np.random.default_rng(3)
    m, f = np.array(pairs).T
    covered = []
    for _ in range(600):
        subject = generator.normal(0, spread, max(map(max, pairs)) + 1)
        sides = []
        for share in (1, 0):
            noise = generator.normal(0, 0.02, (len(pairs), seeds)) + (seeds > 1) * generator.normal(0, 0.01, seeds)
            sides.append(records(0.7 + share * (0.01 + subject[m] + subject[f])[:, None] + noise, pairs))
        found = compare(*sides)
        covered.append(found["low"] <= 0.01 <= found["high"])
    assert 0.93 <= np.mean(covered) <= 0.995


def test_subjects_that_are_in_many_pairs_widen_the_interval() -> None:
    """One and the same gain on every pair of one subject is the evidence of one subject, not of six pairs."""
    m, f = np.array(FOLDS).T
    generator = np.random.default_rng(4)
    subject, base = generator.normal(0, 0.05, 16), np.full((len(FOLDS), 1), 0.7)
    ours = base + (subject[m] + subject[f])[:, None]
    found = compare(records(ours, FOLDS), records(base, FOLDS))
    naive = ttest_rel(ours[:, 0], base[:, 0]).confidence_interval()
    assert found["high"] - found["low"] > 1.7 * (naive.high - naive.low)


def test_two_subjects_tell_nothing() -> None:
    found = compare(
        records(np.array([[0.8], [0.8]]), [(0, 1), (1, 0)]), records(np.full((2, 1), 0.7), [(0, 1), (1, 0)])
    )
    assert found == {"gain": pytest.approx(0.1), "low": -np.inf, "high": np.inf, "p": 1.0}


def test_p_and_interval_never_disagree() -> None:
    generator = np.random.default_rng(5)
    for _ in range(200):
        sides = [records(generator.normal(0.7, 0.05, (len(RING), 2)) + g, RING) for g in (generator.normal(0, 0.02), 0)]
        found = compare(*sides)
        assert (found["p"] < 0.05) == (found["low"] > 0 or found["high"] < 0)


def test_seeds_that_disagree_widen_the_interval() -> None:
    """Same mean difference, same pairs; on one side the seeds disagree with each other."""
    base = np.full((50, 3), 0.7)
    calm, lucky = base + 0.01, base + 0.01 + np.array([-0.05, 0.0, 0.05])
    found = compare(records(lucky), records(base))
    assert found["gain"] == pytest.approx(compare(records(calm), records(base))["gain"])
    assert found["low"] < 0 < found["high"]


def test_records_of_other_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="different pairs"):
        compare(records(np.ones((4, 1))), records(np.ones((5, 1))))


def test_another_measure_of_the_same_rows_is_compared_alike() -> None:
    base = np.linspace(0.5, 0.8, 20)[:, None]
    ours, theirs = records(base), records(base - 0.03)
    for record in (*ours, *theirs):
        for row in record.rows:
            row["jaccard"] = row["dice"] / 2
    assert compare(ours, theirs, "jaccard")["gain"] == pytest.approx(0.015)


def test_holm_multiplies_the_smallest_by_their_number_and_lets_none_overtake() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.5]) == pytest.approx([1.0, 1.0])
    assert holm([0.02]) == pytest.approx([0.02])
    assert holm([]).size == 0


def test_a_test_that_was_not_made_does_not_count() -> None:
    corrected = holm([np.nan, 0.01, 0.04, np.nan, 0.03])
    assert np.isnan(corrected[[0, 3]]).all()
    assert corrected[[1, 2, 4]] == pytest.approx(holm([0.01, 0.04, 0.03]))
    assert np.isnan(holm([np.nan])).all()


def test_holm_is_never_smaller_than_p_and_keeps_the_order() -> None:
    p_values = np.random.default_rng(6).uniform(0, 0.2, 25)
    corrected = holm(p_values)
    assert (corrected >= p_values).all()
    assert (np.diff(corrected[np.argsort(p_values)]) >= 0).all()
