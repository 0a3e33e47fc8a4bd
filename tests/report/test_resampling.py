"""Intervals, the paired test and retention: against scipy, exact cases, simulated coverage."""

import itertools

import numpy as np
import pytest
from scipy import stats

from compact_biomed.report.resampling import Interval, example_interval, randomization_test, retention_draws


def f1(sums: np.ndarray) -> np.ndarray:
    tp, fp, fn = np.moveaxis(np.asarray(sums, float), -1, 0)
    return 2 * tp / np.maximum(2 * tp + fp + fn, 1)


def ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def sentences(seed: int, n: int, found: float, seeds: int = 1) -> np.ndarray:
    """Counts [seeds, n, (tp, fp, fn)] of made-up sentences with 0 to 3 entities, each found with a chance `found`."""
    rng = np.random.default_rng(seed)
    entities = rng.integers(0, 4, n)
    tp = rng.binomial(entities, found, (seeds, n))
    return np.stack([tp, rng.binomial(2, (1 - found) / 3, (seeds, n)), entities - tp], axis=-1)


def plain_f1(tp, fp, fn, axis=-1):
    tp, fp, fn = (column.sum(axis) for column in (tp, fp, fn))
    return 2 * tp / (2 * tp + fp + fn)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_interval_is_that_of_scipy(method: str) -> None:
    counts = sentences(1, 150, 0.7)
    ours = example_interval([counts], f1, method=method, resamples=20_000)
    columns = tuple(counts[0].T)
    theirs = stats.bootstrap(
        columns, plain_f1, paired=True, vectorized=True, method=method, n_resamples=20_000, batch=2_000, rng=1
    ).confidence_interval
    assert ours.value == pytest.approx(plain_f1(*columns), abs=1e-12)
    width = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=0.03 * width)
    assert ours.high == pytest.approx(theirs.high, abs=0.03 * width)


def test_bca_differs_from_percentile_the_way_scipy_does() -> None:
    # Few examples, a skewed statistic: the two methods are far apart, and BCa is scipy's.
    rows = np.stack([np.random.default_rng(5).exponential(size=25) ** 2, np.ones(25)], axis=-1)
    bca = example_interval([rows[None]], ratio, resamples=20_000)
    percentile = example_interval([rows[None]], ratio, method="percentile", resamples=20_000)
    theirs = stats.bootstrap((rows[:, 0],), np.mean, method="BCa", n_resamples=20_000, rng=1).confidence_interval
    width = theirs.high - theirs.low
    assert bca.high - percentile.high > 0.05 * width
    assert bca.low == pytest.approx(theirs.low, abs=0.04 * width)
    assert bca.high == pytest.approx(theirs.high, abs=0.04 * width)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_intervals_hold_the_true_score_as_often_as_they_say(method: str) -> None:
    population = sentences(0, 100_000, 0.6)[0]
    truth = f1(population.sum(0))
    rng = np.random.default_rng(7)
    held = 0
    for trial in range(400):
        sample = population[rng.integers(0, len(population), 120)]
        found = example_interval([sample[None]], f1, method=method, resamples=500, seed=trial)
        held += found.low <= truth <= found.high
    assert 0.92 <= held / 400 <= 0.98


def test_the_interval_is_the_same_in_any_order_and_with_the_same_seed() -> None:
    counts = sentences(2, 80, 0.7, seeds=3)
    shuffled = counts[:, np.random.default_rng(0).permutation(80)]
    assert example_interval([counts], f1) == example_interval([shuffled], f1)
    assert example_interval([counts], f1, seed=1) != example_interval([counts], f1, seed=2)


def test_more_examples_give_narrower_intervals() -> None:
    def width(n: int) -> float:
        found = example_interval([sentences(3, n, 0.7)], f1, resamples=2_000)
        return found.high - found.low

    assert width(1_600) == pytest.approx(width(400) / 2, rel=0.2)


def test_a_perfect_score_is_a_point() -> None:
    found = example_interval([np.tile([1, 0, 0], (1, 50, 1))], f1)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_folds_and_seeds_are_averaged_after_the_metric() -> None:
    folds = [np.array([[[1, 0, 1], [1, 0, 0]], [[0, 1, 2], [1, 0, 0]]]), np.array([[[3, 0, 0]], [[3, 3, 0]]])]
    by_hand = ((4 / 5 + 2 / 5) / 2 + (1 + 6 / 9) / 2) / 2
    assert example_interval(folds, f1, resamples=50).value == pytest.approx(by_hand)


def test_folds_are_drawn_one_by_one() -> None:
    # Two folds that never vary inside, far apart: drawn within folds, nothing varies.
    folds = [np.tile([1, 1], (1, 20, 1)), np.tile([0, 1], (1, 30, 1))]
    found = example_interval(folds, ratio)
    assert (found.low, found.value, found.high) == (0.5, 0.5, 0.5)


def test_bad_counts() -> None:
    with pytest.raises(ValueError, match="no test example"):
        example_interval([np.zeros((1, 0, 3))], f1)
    with pytest.raises(ValueError, match="BCa or percentile"):
        example_interval([sentences(1, 5, 0.5)], f1, method="basic")
    with pytest.raises(ValueError, match="different examples"):
        randomization_test([sentences(1, 5, 0.5)], [sentences(1, 6, 0.5)], f1)
    with pytest.raises(ValueError, match="different numbers of seeds"):
        randomization_test([sentences(1, 5, 0.5)], [sentences(1, 5, 0.5, seeds=2)], f1)


def exact_p(a: np.ndarray, b: np.ndarray) -> float:
    """The share of all 2^n exchanges with a difference at least as large."""
    observed = abs(f1(a.sum(0)) - f1(b.sum(0)))
    differences = []
    for exchange in itertools.product([False, True], repeat=len(a)):
        chosen = np.array(exchange)[:, None]
        left, right = np.where(chosen, b, a), np.where(chosen, a, b)
        differences.append(abs(f1(left.sum(0)) - f1(right.sum(0))))
    return float(np.mean(np.array(differences) >= observed - 1e-12))


@pytest.mark.parametrize("found", [0.5, 0.8])
def test_randomization_is_the_exact_test_in_the_limit(found: float) -> None:
    a, b = sentences(4, 10, 0.5), sentences(4, 10, found)
    assert randomization_test([a], [b], f1) == pytest.approx(exact_p(a[0], b[0]), abs=0.02)


def test_randomization_is_scipys_permutation_test() -> None:
    a, b = sentences(8, 60, 0.55), sentences(9, 60, 0.65)
    rows = np.concatenate([a[0], b[0]])

    def difference(left, right, axis):
        return f1(rows[left].sum(-2)) - f1(rows[right].sum(-2))

    theirs = stats.permutation_test(
        (np.arange(60), np.arange(60, 120)),
        difference,
        permutation_type="samples",
        vectorized=True,
        n_resamples=9_999,
        batch=1_000,
        rng=0,
    )
    assert 0.01 < theirs.pvalue < 0.99
    assert randomization_test([a], [b], f1) == pytest.approx(theirs.pvalue, abs=0.02)


def test_randomization_is_symmetric_and_knows_itself() -> None:
    a, b = sentences(5, 300, 0.6, seeds=2), sentences(6, 300, 0.65, seeds=2)
    assert randomization_test([a], [b], f1) == pytest.approx(randomization_test([b], [a], f1), abs=0.02)
    assert randomization_test([a], [a], f1) == 1.0
    worlds_apart = randomization_test([sentences(5, 300, 0.3)], [sentences(5, 300, 0.9)], f1)
    assert worlds_apart == 1 / 10_000  # the least that 9,999 resamples can say


def test_randomization_is_right_when_the_models_are_alike() -> None:
    p = [
        randomization_test([sentences(2 * n, 60, 0.6)], [sentences(2 * n + 1, 60, 0.6)], f1, resamples=199)
        for n in range(200)
    ]
    assert 0.02 <= np.mean(np.array(p) <= 0.05) <= 0.09
    assert stats.kstest(p, "uniform").pvalue > 0.01


def retained(*counts, resamples: int = 9_999, seed: int = 0) -> Interval:
    """The ratio of two scores with its percentile interval."""
    value, drawn = retention_draws(*counts, resamples=resamples, seed=seed)
    return Interval(value, *np.quantile(drawn, [0.025, 0.975]).tolist())


def test_retention_of_oneself_is_one() -> None:
    counts = sentences(3, 100, 0.7)
    found = retained([counts], [counts], f1)
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_retention_by_hand_and_its_spread_over_examples_and_seeds() -> None:
    student = np.array([[[1, 1]] * 60 + [[0, 1]] * 40, [[1, 1]] * 70 + [[0, 1]] * 30])
    teacher = np.array([[[1, 1]] * 80 + [[0, 1]] * 20] * 3)
    found = retained([student], [teacher], ratio)
    assert found.value == pytest.approx(0.65 / 0.8)
    assert found.low < found.value < found.high
    # One seed of the student leaves the examples alone as a source of spread.
    alone = retained([student[:1]], [teacher], ratio)
    assert alone.high - alone.low < found.high - found.low


def test_retention_covers_the_truth() -> None:
    rng = np.random.default_rng(11)
    held = 0
    for trial in range(200):
        # An example is hard or not for both models; seeds of the student are better or worse.
        easy = rng.random(150)[None, :]
        student = (easy > 0.4 + rng.normal(0, 0.02, (8, 1))) & (rng.random((8, 150)) < 0.9)
        teacher = (easy > 0.3) & (rng.random((8, 150)) < 0.95)
        counts = [[np.stack([right, np.ones_like(right)], axis=-1).astype(int)] for right in (student, teacher)]
        found = retained(*counts, ratio, resamples=300, seed=trial)
        held += found.low <= (0.6 * 0.9) / (0.7 * 0.95) <= found.high
    assert 0.89 <= held / 200 <= 0.99


def test_nothing_is_retained_of_a_teacher_that_scores_nothing() -> None:
    with pytest.raises(ValueError, match="scores 0"):
        retained([sentences(1, 10, 0.5)], [np.tile([0, 1, 1], (1, 10, 1))], f1)
