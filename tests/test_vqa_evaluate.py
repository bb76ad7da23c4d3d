"""Accuracy, bootstrap and McNemar against values worked out elsewhere."""

import numpy as np
import pytest
from scipy.stats import binomtest
from vqa_samples import ask

from companions.vqa.evaluate import accuracy, mcnemar_test, mean_accuracy, paired_bootstrap
from companions.vqa.results import possible_counts


def test_accuracy_by_hand():
    questions = [
        ask("?", "yes", types=("PRES",)),
        ask("?", "no", types=("PRES", "POS"), phrase="para"),
        ask("?", "left", closed=False, types=("POS",)),
        ask("?", "left", closed=False, types=("POS",), phrase="para"),
    ]
    found = accuracy(questions, [1, 0, 1, 0])
    assert (found.all, found.open, found.closed) == (0.5, 0.5, 0.5)
    assert (found.free_all, found.free_open, found.free_closed) == (1, 1, 1)
    assert found.by_type == {"POS": pytest.approx(1 / 3), "PRES": 0.5}
    assert accuracy(questions[:1], [1]).open is None
    with pytest.raises(ValueError, match="4 questions, but 1 scores"):
        accuracy(questions, [1])
    both = mean_accuracy([found, accuracy(questions, [1, 1, 1, 1])])
    assert both["all"] == (0.75, pytest.approx(np.std([0.5, 1], ddof=1)))


def test_the_bootstrap_agrees_with_the_normal_interval_for_independent_questions():
    """One question an image, one run a side: the interval is that of a mean of differences."""
    rng = np.random.default_rng(0)
    ours, theirs = (rng.random((1, 800)) < 0.7).astype(float), (rng.random((1, 800)) < 0.6).astype(float)
    found = paired_bootstrap(ours, theirs, [str(i) for i in range(800)], resamples=4000)
    difference = (ours - theirs)[0]
    half = 1.96 * difference.std() / 800**0.5
    assert found.gain == pytest.approx(difference.mean())
    assert found.low == pytest.approx(difference.mean() - half, abs=0.004)
    assert found.high == pytest.approx(difference.mean() + half, abs=0.004)


def test_questions_of_one_image_count_as_one():
    """Eight copies of each question say nothing new: the interval stays, where independent ones would shrink it."""
    rng = np.random.default_rng(1)
    ours, theirs = (rng.random((1, 60)) < 0.7).astype(float), (rng.random((1, 60)) < 0.5).astype(float)
    names = [str(i) for i in range(60)]
    one = paired_bootstrap(ours, theirs, names)
    many = paired_bootstrap(ours.repeat(8, 1), theirs.repeat(8, 1), list(np.repeat(names, 8)))
    assert many.high - many.low == pytest.approx(one.high - one.low, rel=0.1)


def test_runs_that_differ_widen_the_interval():
    rng = np.random.default_rng(2)
    base = (rng.random((1, 300)) < 0.6).astype(float)
    alike = base.repeat(5, 0)
    apart = np.stack([np.where(rng.random(300) < k / 10, 1 - base[0], base[0]) for k in range(5)])
    names = [str(i // 3) for i in range(300)]
    narrow, wide = paired_bootstrap(alike, base, names), paired_bootstrap(apart, base, names)
    assert narrow.gain == narrow.low == narrow.high == 0
    assert narrow.p == 1
    assert wide.high - wide.low > 0.05
    with pytest.raises(ValueError, match="scores are of 300, 299"):
        paired_bootstrap(base, base[:, 1:], names)


def test_mcnemar_is_the_binomial_test_of_what_only_one_answers():
    ours = np.array([1] * 20 + [0] * 6 + [1] * 30 + [0] * 10, float)
    theirs = np.array([0] * 20 + [1] * 6 + [1] * 30 + [0] * 10, float)
    assert mcnemar_test(ours, theirs) == pytest.approx(binomtest(6, 26).pvalue)


def test_the_papers_figures_are_shares_of_the_free_form_questions_only():
    assert possible_counts(43.9, 179) == []
    assert possible_counts(75.1, 272) == []
    assert possible_counts(43.9, 123) == [54]
    assert possible_counts(75.1, 185) == [139]
    assert possible_counts(62.7, 308) == [54 + 139]
