"""How many seeds and test sets it takes to tell two models apart."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import optimize, stats

from compact_biomed.report.measured import Measured

MOST_SEEDS = 100
_SHARES = 4000


def power(*, difference: float, deviation: float, seeds: int, sets: int = 1, significance: float = 0.05) -> float:
    """Chance that the paired t-test over seeds, two-sided, finds a difference that is there.

    A seed's value is the mean over `sets` test sets of the difference of the two scores; it deviates by
    sqrt(2 / sets) times what a score deviates (independent runs, normal). Under that difference the statistic has
    the noncentral t-distribution (Cohen 1988, Statistical power analysis, section 2.2).

    Args:
        difference: of the two models' true scores.
        deviation: of one model's score over seeds, on one set.
        seeds: of each model, at least 2.
    """
    if seeds < 2 or deviation <= 0 or sets < 1:
        raise ValueError(f"{seeds} seeds, {sets} sets, deviation {deviation}: at least 2, 1, and above 0")
    shift = abs(difference) / (deviation * math.sqrt(2 / sets)) * math.sqrt(seeds)
    bound = stats.t.ppf(1 - significance / 2, seeds - 1)
    # Over the estimated deviation, in equal shares of its distribution: scipy's nct has no values far out.
    estimated = stats.chi.ppf((np.arange(_SHARES) + 0.5) / _SHARES, seeds - 1) / math.sqrt(seeds - 1)
    return float(np.mean(stats.norm.sf(bound * estimated - shift) + stats.norm.cdf(-bound * estimated - shift)))


def seeds_needed(
    *, difference: float, deviation: float, sets: int = 1, wanted: float = 0.8, significance: float = 0.05
) -> int | None:
    """Fewest seeds that reach the wanted power; None if `MOST_SEEDS` do not."""
    for seeds in range(2, MOST_SEEDS + 1):
        found = power(difference=difference, deviation=deviation, seeds=seeds, sets=sets, significance=significance)
        if found >= wanted:
            return seeds
    return None


def detectable(
    *, deviation: float, seeds: int, sets: int = 1, wanted: float = 0.8, significance: float = 0.05
) -> float:
    """The smallest difference that so many seeds and sets find with the wanted power."""

    def lack(difference: float) -> float:
        found = power(difference=difference, deviation=deviation, seeds=seeds, sets=sets, significance=significance)
        return found - wanted

    most = deviation
    while lack(most) < 0:
        most *= 2
    return float(optimize.brentq(lack, 0.0, most))


def pooled_deviation(measured: Sequence[Measured]) -> tuple[float, int] | None:
    """Standard deviation over seeds within a model and task, over all of them, and its degrees of freedom.

    None where no model has two seeds on any task. Words and word-pieces of one task count once, as words.
    """
    cells = [each.scores() for each in measured if not each.column.on_pieces and len(each.seeds) > 1]
    squares = [float(np.var(scores)) * len(scores) for scores in cells]
    freedom = sum(len(scores) - 1 for scores in cells)
    return (math.sqrt(sum(squares) / freedom), freedom) if freedom else None
