"""One model's scores over another's, averaged over the tasks that both were measured on, and whether the ratio
lies above a threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.report.measured import Column, Measured
from compact_biomed.report.resampling import Interval, retention_draws
from compact_biomed.report.statistics import FEWEST_SEEDS

RESAMPLES = 1_999  # a page of claims has a hundred contrasts; the smallest p is 1 / 1,999
Scores = Mapping[tuple[str, Column], Measured]


@dataclass(frozen=True)
class Contrast:
    """A model against a reference.

    Args:
        model, reference: names.
        columns: on which both were measured, with enough seeds where there are any such.
        ratio: mean over the columns of the ratio of their scores; its 95 % interval over examples and seeds.
        p: two-sided, that the ratio is the threshold: twice the smaller share of resamples on either side of it.
        fewest: seeds, over models and columns.
    """

    model: str
    reference: str
    columns: tuple[Column, ...]
    ratio: Interval
    p: float
    fewest: int


def contrast(
    scores: Scores, model: str, reference: str, threshold: float, *, resamples: int = RESAMPLES
) -> Contrast | str:
    """The contrast, or in words why it can't be made.

    Each task counts the same. Tasks are resampled apart; they are fixed: nothing is said about other tasks.
    Tasks of too few seeds are left out where both were measured on others with enough: one seed of one task would
    otherwise leave the whole open.
    """
    for name in (model, reference):
        if not any(of == name for of, _ in scores):
            return f"{name} was not measured"
    columns = sorted(column for of, column in scores if of == model and (reference, column) in scores)
    if not columns:
        return f"{model} and {reference} have no task in common"
    enough = [each for each in columns if _fewest(scores, model, reference, each) >= FEWEST_SEEDS]
    columns = enough or columns
    values, draws = [], []
    for number, column in enumerate(columns):
        units = [scores[name, column].units() for name in (model, reference)]
        if any(each is None for each in units):
            return f"no counts of single examples on {column.task}"
        try:
            value, drawn = retention_draws(*units, scores[model, column].metric, resamples=resamples, seed=number)
        except ValueError as error:
            return f"{column.task}: {error}"
        values.append(value)
        draws.append(drawn)
    mean = np.mean(draws, axis=0)
    if not np.isfinite(mean).all():
        return f"{reference} scores 0 in some resamples"
    low, high = np.quantile(mean, [0.025, 0.975])
    below = min(np.mean(mean <= threshold), np.mean(mean >= threshold))
    fewest = min(_fewest(scores, model, reference, column) for column in columns)
    ratio = Interval(float(np.mean(values)), float(low), float(high))
    p = float(min(max(2 * below, 1 / resamples), 1))
    return Contrast(model, reference, tuple(columns), ratio, p, fewest)


def _fewest(scores: Scores, model: str, reference: str, column: Column) -> int:
    return min(len(scores[name, column].seeds) for name in (model, reference))


def by_model_and_column(measured: Sequence[Measured], *, on_pieces: bool) -> dict[tuple[str, Column], Measured]:
    """Those of one scale that have a whole seed."""
    return {(each.model, each.column): each for each in measured if each.seeds and each.column.on_pieces == on_pieces}
