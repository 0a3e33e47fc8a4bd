"""Ratios of two models' scores: on one column, and averaged over tasks with the probability of a claim's threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.report.grid import not_counted
from compact_biomed.report.measured import Column, Measured
from compact_biomed.report.replicates import TrainingVariance, variance_of, with_other_trainings
from compact_biomed.report.resampling import Interval, retention_draws
from compact_biomed.report.statistics import FEWEST_SEEDS

RESAMPLES = 1_999
"""Of a contrast, of which a page of claims has a hundred; the smallest p is 1 / 1,999."""
MeasuredByCell = Mapping[tuple[str, Column], Measured]


def retained_interval(
    model: Measured, reference: Measured, among: TrainingVariance | None
) -> tuple[Interval | None, str]:
    """Return the ratio of a model's score to a reference's with its 95 % interval, or None and the reason.

    The interval is over test examples, seeds and, as far as `among` is known, trainings.
    """
    if reference.summary().mean <= 0:
        return None, "the teacher's score is not above 0: nothing to retain"
    counts, of_reference = model.example_counts(), reference.example_counts()
    if counts is None or of_reference is None:
        return None, "no counts of single examples: no interval, no test over examples"
    try:
        value, drawn = retention_draws(counts, of_reference, model.metric, groups=(model.groups, reference.groups))
    except ValueError as error:
        return None, f"no interval: {error}"
    low, high = np.quantile(with_other_trainings(drawn, model, reference, among), [0.025, 0.975])
    if not np.isfinite([low, high]).all():
        return None, "no interval: the teacher scores 0 in some resamples"
    return Interval(value, float(low), float(high)), ""


@dataclass(frozen=True)
class Contrast:
    """The ratio of a model's scores to those of a reference, averaged over tasks.

    Args:
        model, reference: names.
        columns: those on which both were measured, with enough seeds where there are any such.
        ratio: mean over the columns of the ratio of their scores, with its 95 % interval over examples and seeds.
        p: two-sided, that the ratio is the threshold: twice the smaller share of resamples on either side of it.
        fewest: smallest number of seeds over models and columns.
        freedom: degrees of freedom of the variance among trainings that is in the interval; 0 if no model was trained
            several times, so that it is in none.
    """

    model: str
    reference: str
    columns: tuple[Column, ...]
    ratio: Interval
    p: float
    fewest: int
    freedom: int = 0


def contrast(
    scores: MeasuredByCell, model: str, reference: str, threshold: float, *, resamples: int = RESAMPLES
) -> Contrast | str:
    """Return the contrast, or in words why there is none.

    Each task has the same weight. Each is resampled by itself; the tasks are fixed, so nothing follows for others.
    Tasks with too few seeds are left out where both models were measured on others with enough: otherwise one seed
    of one task would leave the whole undecided.
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
        counts = [scores[name, column].example_counts() for name in (model, reference)]
        if any(each is None for each in counts):
            return f"no counts of single examples on {column.task}"
        try:
            how = {"resamples": resamples, "seed": number}
            how["groups"] = [scores[name, column].groups for name in (model, reference)]
            value, drawn = retention_draws(*counts, scores[model, column].metric, **how)
        except ValueError as error:
            return f"{column.task}: {error}"
        values.append(value)
        draws.append(drawn)
    mean = np.mean(draws, axis=0)
    if not np.isfinite(mean).all():
        return f"{reference} scores 0 in some resamples"
    among = variance_of(scores, columns)
    mean = with_other_trainings(mean, scores[model, columns[0]], scores[reference, columns[0]], among)
    low, high = np.quantile(mean, [0.025, 0.975])
    below = min(np.mean(mean <= threshold), np.mean(mean >= threshold))
    fewest = min(_fewest(scores, model, reference, column) for column in columns)
    ratio = Interval(float(np.mean(values)), float(low), float(high))
    p = float(min(max(2 * below, 1 / resamples), 1))
    return Contrast(model, reference, tuple(columns), ratio, p, fewest, among.freedom if among else 0)


def _fewest(scores: MeasuredByCell, model: str, reference: str, column: Column) -> int:
    return min(len(scores[name, column].seeds) for name in (model, reference))


def by_model_and_column(measured: Sequence[Measured], *, on_pieces: bool) -> dict[tuple[str, Column], Measured]:
    """Return the measurements on one scale that have a complete seed, without columns that are not counted."""
    out = not_counted(measured)
    return {
        (each.model, each.column): each
        for each in measured
        if each.seeds and each.column.on_pieces == on_pieces and each.column not in out
    }
