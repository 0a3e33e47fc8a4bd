"""Scores over seeds: mean and deviation, paired tests of two models, and Holm's correction for many tests.

What the test examples leave open is in `resampling`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

from compact_biomed.report.resampling import Interval

FEWEST_SEEDS = 3
"""Scores of fewer are marked in tables."""


@dataclass(frozen=True)
class Summary:
    """Scores of several seeds.

    Args:
        mean: of the scores.
        deviation: standard deviation with n - 1 in the denominator; None for one seed.
        n: number of seeds; of several trainings, number of runs.
        trainings: number of trainings; their means have the same weight in the mean.
    """

    mean: float
    deviation: float | None
    n: int
    trainings: int = 1


def summarize(scores: Sequence[float]) -> Summary:
    """Return mean, standard deviation and number of the scores of some seeds (at least one)."""
    if len(scores) == 0:
        raise ValueError("no score to summarize")
    deviation = None
    if len(scores) > 1:
        deviation = float(stats.tstd(scores)) if np.ptp(scores) else 0.0
    return Summary(float(np.mean(scores)), deviation, len(scores))


def summarize_trainings(groups: Sequence[Sequence[float]]) -> Summary:
    """Return the summary of the runs of several trainings, each with at least one: mean of means, deviation of runs."""
    of_runs = summarize([score for group in groups for score in group])
    if len(groups) == 1:
        return of_runs
    return replace(of_runs, mean=float(np.mean([np.mean(group) for group in groups])), trainings=len(groups))


@dataclass(frozen=True)
class SeedTests:
    """Paired tests over seeds.

    Args:
        n: pairs.
        t: p-value of the paired t-test, None where it is not defined (one pair, or all differences equal).
        wilcoxon: p-value of Wilcoxon's signed-rank test, None where it is not defined (one pair, or all differences 0).
        note: what so few pairs cannot show, "" if there is nothing to add.
    """

    n: int
    t: float | None
    wilcoxon: float | None
    note: str


def seed_tests(a: Sequence[float], b: Sequence[float], *, significance: float = 0.05) -> SeedTests:
    """Return two-sided paired tests of the scores of two models, one pair per seed.

    Raises:
        ValueError: different numbers of scores, or none.
    """
    if len(a) != len(b) or len(a) == 0:
        raise ValueError(f"{len(a)} and {len(b)} scores: each model needs the same number, at least one")
    differences = _differences(a, b)
    n, notes = len(differences), []
    t = wilcoxon = None
    if n < 2:
        notes.append("one seed says nothing about the spread over seeds")
    elif np.ptp(differences) > 0:
        t = float(stats.ttest_1samp(differences, 0).pvalue)
        if n < 5:
            notes.append(f"{n} seeds: the t-test assumes normal differences, which {n} values cannot confirm")
    if n > 1 and differences.any():
        wilcoxon = float(stats.wilcoxon(differences).pvalue)
    if n > 1 and (smallest := 2.0 ** (1 - n)) > significance:
        notes.append(f"Wilcoxon's test of {n} pairs can't go below p = {smallest:.3g}")
    return SeedTests(n, t, wilcoxon, "; ".join(notes))


def _differences(a: Sequence[float], b: Sequence[float]) -> np.ndarray:
    """Return differences of pairs of scores in percent, rounded so that those of equal scores are exactly 0."""
    return np.round(np.asarray(a, float) - np.asarray(b, float), 9)


def paired_difference(values: Sequence[float], reference: Sequence[float]) -> Interval:
    """Return the mean difference of at least two pairs and its 95 % interval by the t-distribution."""
    differences = _differences(values, reference)
    mean = float(np.mean(differences))
    if np.ptp(differences) == 0:  # no t-test; the interval is a point
        return Interval(mean, mean, mean)
    low, high = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return Interval(mean, float(low), float(high))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number (Holm 1979, A simple sequentially rejective multiple test procedure).

    An adjusted value below 0.05 is significant while the chance of any false alarm among all stays below 0.05.
    """
    p = np.asarray(p_values, float)
    order = np.argsort(p, kind="stable")
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1)
    return adjusted.tolist()
