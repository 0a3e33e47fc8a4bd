"""Summaries, tests over seeds and the correction for many tests: against scipy and by hand."""

import itertools

import numpy as np
import pytest
from scipy import stats

from compact_biomed.report.resampling import spearman_interval
from compact_biomed.report.statistics import Summary, holm, paired_difference, seed_tests, summarize


def test_summary_by_hand() -> None:
    assert summarize([1.0, 2.0, 3.0]) == Summary(2.0, 1.0, 3)
    assert summarize([83.3]) == Summary(83.3, None, 1)
    with pytest.raises(ValueError, match="no score"):
        summarize([])


def test_summary_is_the_same_in_any_order() -> None:
    scores = [80.1, 82.7, 81.3, 79.9]
    first = summarize(scores)
    assert first.deviation == pytest.approx(np.std(scores, ddof=1))
    for order in itertools.permutations(scores):
        again = summarize(order)
        assert (again.mean, again.deviation) == (pytest.approx(first.mean), pytest.approx(first.deviation))


def test_seed_tests_are_scipys() -> None:
    a = [80.1, 82.7, 81.3, 79.9, 83.0, 82.2, 81.8]
    b = [79.0, 81.9, 81.5, 78.1, 82.0, 81.6, 81.1]
    found = seed_tests(a, b)
    assert found.n == 7
    assert found.t == pytest.approx(stats.ttest_rel(a, b).pvalue, rel=1e-9)
    assert found.wilcoxon == stats.wilcoxon(np.subtract(a, b)).pvalue
    assert found.note == ""
    swapped = seed_tests(b, a)
    assert (swapped.t, swapped.wilcoxon) == (pytest.approx(found.t), pytest.approx(found.wilcoxon))


def test_few_seeds_say_so() -> None:
    one = seed_tests([80.0], [79.0])
    assert one.t is None and "one seed" in one.note
    three = seed_tests([80.0, 81.0, 82.5], [79.0, 79.5, 80.0])
    assert three.wilcoxon == 0.25  # all of one sign: 2 / 2^3, however large the differences
    assert "p = 0.25" in three.note and "3 seeds" in three.note
    five = seed_tests([1.0, 2.0, 3.0, 4.0, 5.0], [0.0] * 5)
    assert five.wilcoxon == 0.0625 and "p = 0.0625" in five.note


def test_equal_differences_have_no_t_test() -> None:
    same = seed_tests([1.0, 2.0], [1.0, 2.0])
    assert (same.t, same.wilcoxon) == (None, None)
    with pytest.raises(ValueError, match="the same number"):
        seed_tests([1.0], [])


def test_holm_by_hand() -> None:
    # 4 x 0.01; 3 x 0.02; 2 x 0.03 = 0.06, not below the one before; 1 x 0.04 raised to 0.06.
    assert holm([0.02, 0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.06, 0.04, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.03]) == [0.03]
    assert holm([]) == []


def test_holm_rejects_what_the_step_down_procedure_rejects() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        p = rng.random(6) ** 3
        rejected = set()
        for step, place in enumerate(np.argsort(p)):
            if p[place] > 0.05 / (6 - step):
                break
            rejected.add(int(place))
        assert {n for n, value in enumerate(holm(p)) if value <= 0.05} == rejected
        # Never stricter than Bonferroni, never laxer than no correction.
        assert all(value <= min(1, 6 * one) + 1e-12 and value >= one for value, one in zip(holm(p), p, strict=True))


def test_holm_keeps_false_alarms_rare() -> None:
    rng = np.random.default_rng(1)
    alarms = [min(holm(rng.random(10))) <= 0.05 for _ in range(2_000)]
    assert np.mean(alarms) == pytest.approx(0.05, abs=0.015)


def test_differences_that_are_equal_but_for_rounding_have_no_t_test() -> None:
    """One question more of 162 right, with each of three seeds."""
    a, b = ([100 * (hits + more) / 162 for hits in (40, 55, 61)] for more in (1, 0))
    assert len(set(np.subtract(a, b).tolist())) > 1
    assert seed_tests(a, b).t is None and seed_tests(a, a).wilcoxon is None
    found = paired_difference(a, b)
    assert found.low == found.high == pytest.approx(100 / 162)


def test_the_interval_of_spearman_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    x = rng.integers(0, 6, 40).astype(float)  # with ties
    y = x + rng.normal(0, 1.5, 40)
    ours = spearman_interval(x, y, resamples=2000)
    assert ours.value == pytest.approx(100 * stats.spearmanr(x, y).statistic)
    theirs = stats.bootstrap(
        (x, y), lambda a, b: stats.spearmanr(a, b).statistic, paired=True, vectorized=False, n_resamples=999,
        method="percentile", rng=4,
    ).confidence_interval  # fmt: skip
    assert ours.low == pytest.approx(100 * theirs.low, abs=3) and ours.high == pytest.approx(100 * theirs.high, abs=1.5)
    constant = spearman_interval(np.ones(5), np.arange(5.0))
    assert (constant.low, constant.value, constant.high) == (0, 0, 0)
