"""Paired comparison: exact where the answer is known, and an interval that covers as often as it says."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from lddr.compare import compare, dice_table


def records(values: np.ndarray) -> list[dict]:
    """`[pairs, seeds]` as records."""
    names = [(f"s{i}", f"s{i + 1}") for i in range(len(values))]
    return [
        {"rows": [{"moving": m, "fixed": f, "dice": v} for (m, f), v in zip(names, column, strict=True)]}
        for column in values.T
    ]


def test_the_table_has_a_row_a_pair_and_a_column_a_seed() -> None:
    values = np.arange(6.0).reshape(3, 2)
    assert np.array_equal(dice_table(records(values)), values)


def test_a_constant_gain_on_every_pair_and_seed_has_no_spread() -> None:
    base = np.linspace(0.5, 0.8, 12)[:, None].repeat(3, 1)
    found = compare(records(base + 0.02), records(base))
    assert [found[k] for k in ("gain", "low", "high")] == pytest.approx([0.02] * 3)
    assert found["p"] < 0.001
    assert compare(records(base), records(base)) == {"gain": 0.0, "low": 0.0, "high": 0.0, "p": 1.0}


def test_with_one_seed_the_interval_is_that_of_a_paired_t_test() -> None:
    generator = np.random.default_rng(1)
    base = generator.normal(0.7, 0.1, (400, 1))
    ours = base + generator.normal(0.01, 0.05, base.shape)
    found, expected = compare(records(ours), records(base)), ttest_rel(ours[:, 0], base[:, 0]).confidence_interval()
    assert [found["low"], found["high"]] == pytest.approx([expected.low, expected.high], abs=5e-4)


def test_luck_of_the_seed_widens_the_interval() -> None:
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
        for row in record["rows"]:
            row["jaccard"] = row["dice"] / 2
    assert compare(ours, theirs, "jaccard")["gain"] == pytest.approx(0.015)
