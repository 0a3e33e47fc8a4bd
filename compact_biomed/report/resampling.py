"""How sure one may be of a score, of a difference between two models, and of what a student retains: by resampling.

A score is a metric of sums over test examples: F1 of the summed true positives, false positives and false negatives,
accuracy of the summed hits. A run therefore records one row of such counts per example, and resampling examples is
resampling rows. Equal rows are drawn together, by one multinomial (or binomial) number: the distribution is that of
drawing them one by one, and thousands of resamples of a large test set take milliseconds. `scipy.stats.bootstrap`
visits every row of every resample, and all n x n of them for BCa; tests compare the two.

The counts of a model are a list over folds of arrays [seeds, examples, columns]; most tasks have one fold. The score
of a model is the metric of each (fold, seed), averaged over folds and then over seeds. Examples are treated as
independent; sentences of one abstract are not quite, so intervals are a little narrow.

Seeds of fine-tuning are nested in trainings: a model that was pretrained with several seeds has several runs of each
training. Its score is the mean over trainings of the mean over their runs; `groups` gives the number of runs of each
training, in the order of the runs. What another training would change is in `replicates`.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeVar

import numpy as np
from scipy import stats
from threadpoolctl import threadpool_limits

from compact_biomed.console import progress
from compact_biomed.machine import usable_cores

Metric = Callable[[np.ndarray], np.ndarray]
"""Summed columns [..., columns] -> scores [...]."""
ExampleCounts = Sequence[np.ndarray]
"""Over folds: counts [seeds, examples, columns]."""

RESAMPLES = 9_999
_AT_ONCE = 256  # resamples in memory at the same time


@dataclass(frozen=True)
class Interval:
    """A value and its confidence interval."""

    value: float
    low: float
    high: float


def example_interval(
    counts: ExampleCounts,
    metric: Metric,
    *,
    level: float = 0.95,
    method: str = "BCa",
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[int] | None = None,
) -> Interval:
    """Return the bootstrap interval of a model's score over test examples, its seeds fixed.

    Examples are drawn within each fold, and the same ones for all seeds.

    Args:
        level: share of such intervals that hold the true score.
        method: "BCa" (bias-corrected and accelerated: Efron 1987, Better bootstrap confidence intervals,
            equations 2.3 and 6.6) or "percentile".
        seed: of the draw; the same seed gives the same interval.
        groups: runs of each training, if there are several.

    Raises:
        ValueError: no example, or an unknown method.
    """
    if method not in ("BCa", "percentile"):
        raise ValueError(f"no method {method!r}: BCa or percentile")
    folds = [_distinct(np.moveaxis(np.asarray(fold), 0, 1)) for fold in counts]
    score = partial(_mean_over_folds, metric=metric, mean=_mean_over_runs(groups))
    value = float(score([(count @ rows.reshape(len(rows), -1)).reshape(rows.shape[1:]) for rows, count in folds]))
    rng = np.random.default_rng(seed)
    drawn = np.concatenate([score(_draw(folds, n, rng)) for n in _portions(resamples)])
    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if method == "BCa":
        tails = _bca_tails(tails, value, drawn, *_jackknife(folds, score))
    low, high = np.quantile(drawn, tails)
    return Interval(value, float(low), float(high))


def spearman_interval(x: np.ndarray, y: np.ndarray, *, resamples: int = RESAMPLES, seed: int = 0) -> Interval:
    """Return 100 times Spearman's correlation, with its 95 % percentile bootstrap interval over examples.

    Ranks change with each resample, so the correlation is no metric of sums: the pairs themselves are drawn.

    Args:
        x, y: [examples].
    """
    rng = np.random.default_rng(seed)

    def correlation(rows: np.ndarray) -> np.ndarray:
        ranks = [stats.rankdata(values[rows], axis=-1) for values in (x, y)]
        a, b = (each - each.mean(-1, keepdims=True) for each in ranks)
        spread = np.sqrt((a * a).sum(-1) * (b * b).sum(-1))
        return 100 * np.divide((a * b).sum(-1), spread, out=np.zeros_like(spread), where=spread > 0)

    drawn = np.concatenate([correlation(rng.integers(0, len(x), (n, len(x)))) for n in _portions(resamples)])
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(correlation(np.arange(len(x))[None])[0]), float(low), float(high))


def retention_draws(
    student: ExampleCounts,
    teacher: ExampleCounts,
    metric: Metric,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[Sequence[int]] | None = None,
) -> tuple[float, np.ndarray]:
    """Return the student's score over the teacher's, and the same in each resample [resamples].

    Both are drawn anew in each resample: the examples (the same for both models, which were tested on the
    same ones) and the seeds (independently, for training runs of two models have nothing in common).
    With few seeds their part of the spread is too small, by (seeds - 1) / seeds in variance.

    Args:
        student, teacher: counts on the same folds and examples; the numbers of seeds may differ.
        groups: see `joint_draws`.

    Raises:
        ValueError: different folds or numbers of examples, or a teacher that scores 0.
    """
    pair, how = [student, teacher], {"resamples": resamples, "seed": seed, "groups": groups}
    with np.errstate(divide="ignore", invalid="ignore"):
        value, drawn = joint_draws(pair, metric, lambda s, t: s / t, **how)
    if not np.isfinite(value):
        raise ValueError("the teacher scores 0: nothing to retain")
    return value, drawn


def joint_draws(
    models: Sequence[ExampleCounts],
    metric: Metric,
    statistic: Callable[..., np.ndarray],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    groups: Sequence[Sequence[int]] | None = None,
) -> tuple[float, np.ndarray]:
    """Return a function of several models' scores, and its value in each resample [resamples].

    Examples and seeds are drawn as for `retention`.

    Args:
        models: counts on the same folds and examples; the numbers of seeds may differ.
        statistic: of one array of scores [...] for each model.
        groups: for each model, the runs of each training; seeds are drawn within a training.

    Raises:
        ValueError: different folds or numbers of examples.
    """
    for other in models[1:]:
        _check_same_examples(models[0], other)
    groups = groups or [[len(model[0])] for model in models]
    ends = np.cumsum([len(model[0]) for model in models])
    means = [_mean_over_runs(sizes) for sizes in groups]
    bounds = np.cumsum([0, *(size for sizes in groups for size in sizes)])
    folds = [
        _distinct(np.concatenate([np.moveaxis(np.asarray(of), 0, 1) for of in together], axis=1))
        for together in zip(*models, strict=True)
    ]
    rng = np.random.default_rng(seed)

    def values(sums: Sequence[np.ndarray], chosen: np.ndarray) -> np.ndarray:
        scores = np.mean([metric(fold) for fold in sums], axis=0)
        weighed = np.take_along_axis(scores, chosen, axis=-1)
        return statistic(*(mean(of) for mean, of in zip(means, np.split(weighed, ends[:-1], axis=-1), strict=True)))

    whole = [(count @ rows.reshape(len(rows), -1)).reshape(1, *rows.shape[1:]) for rows, count in folds]
    value = float(values(whole, np.arange(ends[-1])[None])[0])
    drawn = []
    for n in _portions(resamples):
        seeds = [rng.integers(a, b, (n, b - a)) for a, b in pairwise(bounds)]
        drawn.append(values(_draw(folds, n, rng), np.concatenate(seeds, axis=1)))
    return value, np.concatenate(drawn)


def randomization_test(
    a: ExampleCounts, b: ExampleCounts, metric: Metric, *, resamples: int = RESAMPLES, seed: int = 0
) -> float:
    """Return the two-sided p-value that two models score alike on the same test examples.

    Approximate randomization: if the models are alike, their outputs on an example may be exchanged; the
    difference of the scores is compared with those after random exchanges (Noreen 1989, Computer-intensive
    methods for testing hypotheses; Yeh 2000, COLING, who shows that tests which treat F1 as a mean of
    independent examples miss differences). It is used rather than the paired bootstrap because it needs no
    assumption about where the bootstrap distribution is centered. An example's outputs are exchanged for
    all seeds together. At least 1 / (resamples + 1).

    Args:
        a, b: counts with the same folds, seeds and examples.

    Raises:
        ValueError: shapes that differ.
    """
    _check_same_examples(a, b)
    if any(np.shape(left) != np.shape(right) for left, right in zip(a, b, strict=True)):
        raise ValueError("the two models have different numbers of seeds")
    folds = []
    for left, right in zip(a, b, strict=True):
        difference = np.moveaxis(np.asarray(right, float) - np.asarray(left, float), 0, 1)
        rows, count = _distinct(difference)
        folds.append((np.sum(left, axis=1), np.sum(right, axis=1), rows, count))
    counts = np.concatenate([count for *_, count in folds])
    ends = np.cumsum([len(count) for *_, count in folds])[:-1]
    rng = np.random.default_rng(seed)

    def difference_after(exchanged: np.ndarray, axis: int = -1) -> np.ndarray:
        total = 0.0
        for (left, right, rows, _), n in zip(folds, np.split(exchanged, ends, axis=-1), strict=True):
            moved = (n @ rows.reshape(len(rows), -1)).reshape(*n.shape[:-1], *rows.shape[1:])
            total = total + (metric(left + moved) - metric(right - moved)).mean(-1)
        # Rounded: differences that are equal but for the order of additions count as equal.
        return np.abs(np.round(total / len(folds), 12))

    test = stats.monte_carlo_test(
        np.zeros(len(counts)),
        lambda size: rng.binomial(counts, 0.5, size=size),
        difference_after,
        vectorized=True,
        n_resamples=resamples,
        batch=_AT_ONCE,
        alternative="greater",
    )
    return float(test.pvalue)


def _distinct(examples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows of [examples, ...]: the rows [distinct, ...] and how often each occurs."""
    if len(examples) == 0:
        raise ValueError("no test example")
    rows, count = np.unique(examples.astype(float), axis=0, return_counts=True)
    return rows, count


def _draw(folds: Sequence[tuple[np.ndarray, np.ndarray]], n: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Return the sums [n, seeds, columns] of n resamples of each fold."""
    sums = []
    for rows, count in folds:
        times = rng.multinomial(count.sum(), count / count.sum(), size=n)
        sums.append((times @ rows.reshape(len(rows), -1)).reshape(n, *rows.shape[1:]))
    return sums


def _mean_over_folds(
    sums: Sequence[np.ndarray], *, metric: Metric, mean: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    return np.mean([mean(metric(fold)) for fold in sums], axis=0)


def _mean_over_runs(groups: Sequence[int] | None) -> Callable[[np.ndarray], np.ndarray]:
    """Return the mean over the last axis: of the runs of one training, or over trainings of such means."""
    if groups is None or len(groups) < 2:
        return lambda scores: scores.mean(-1)
    weights = np.concatenate([np.full(size, 1 / (size * len(groups))) for size in groups])
    return lambda scores: scores @ weights


def _portions(resamples: int) -> list[int]:
    return [min(_AT_ONCE, resamples - start) for start in range(0, resamples, _AT_ONCE)]


def _jackknife(folds, score) -> tuple[np.ndarray, np.ndarray]:
    """Return the score without one example, for each distinct example, and how often it occurs."""
    whole = [(count @ rows.reshape(len(rows), -1)).reshape(1, *rows.shape[1:]) for rows, count in folds]
    scores, counts = [], []
    for place, (rows, count) in enumerate(folds):
        sums = [np.broadcast_to(fold, (len(rows), *fold.shape[1:])) for fold in whole]
        sums[place] = whole[place] - rows
        scores.append(score(sums))
        counts.append(count)
    return np.concatenate(scores), np.concatenate(counts)


def _bca_tails(
    tails: np.ndarray, value: float, drawn: np.ndarray, without_one: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """Return the quantiles of the resamples that bound the interval (as in `scipy.stats.bootstrap`)."""
    if np.ptp(drawn) == 0:
        return tails  # nothing varies: the interval is a point
    below = (np.mean(drawn < value) + np.mean(drawn <= value)) / 2
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(drawn), 1 - 0.5 / len(drawn)))
    away = np.average(without_one, weights=counts) - without_one
    square = np.sum(counts * away**2)
    acceleration = np.sum(counts * away**3) / (6 * square**1.5) if square > 0 else 0.0
    shifted = bias + stats.norm.ppf(tails)
    return stats.norm.cdf(bias + shifted / (1 - acceleration * shifted))


def _check_same_examples(a: ExampleCounts, b: ExampleCounts) -> None:
    left, right = ([np.shape(fold)[1:] for fold in counts] for counts in (a, b))
    if left != right:
        raise ValueError(f"counts of different examples: {left} and {right} (examples, columns) by fold")


T, R = TypeVar("T"), TypeVar("R")


def on_all_cores(make: Callable[[T], R], items: Iterable[T], *, what: str) -> list[R]:
    """Return make(item) for each item, in order; each draws its own random numbers, so the others change nothing.

    numpy draws without the interpreter's lock, so threads are enough. Its matrix products are too small to be split
    among threads, which would wait for each other.

    Args:
        what: the items, in words, for the progress bar.
    """
    items = list(items)
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
        return list(progress(pool.map(make, items), total=len(items), desc=what, leave=False))
