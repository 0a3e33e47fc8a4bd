"""What another training of a model would change: several pretraining seeds as a random factor.

Two trainings of one model say little about their variance, those of many models together say enough: it is pooled over
all models that were trained several times, relative to their scores, and assumed for those that were trained once.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.report.measured import Column, Measured


@dataclass(frozen=True)
class TrainingVariance:
    """What another training of a model would change: the variance among trainings of a score relative to its mean.

    Args:
        variance: of the true scores of trainings, without what the runs of a training add.
        freedom: degrees of freedom of its estimate.
    """

    variance: float
    freedom: int

    def factors(self, trainings: int, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Return random factors [draws] of a mean over so many trainings: t-distributed about 1; 1 for no training."""
        if trainings == 0:
            return np.ones(draws)
        return 1 + np.sqrt(self.variance / trainings) * rng.standard_t(self.freedom, draws)


def training_variance(models: Iterable[Sequence[Sequence[float]]]) -> TrainingVariance | None:
    """Estimate the variance among trainings from the models that have several; None if there is no such model.

    One-way analysis of variance with random effects, pooled over models: mean square among trainings minus that within
    them, over the effective number of runs (Searle, Casella and McCulloch 1992, Variance components, section 3.6).

    Args:
        models: for each model, for each training, the scores of its runs.
    """
    among = within = size = 0.0
    freedom = runs = 0
    for trainings in models:
        if len(trainings) < 2:
            continue
        groups = [np.asarray(group, float) / np.mean(np.concatenate([*trainings])) for group in trainings]
        n = np.array([len(group) for group in groups])
        means = np.array([group.mean() for group in groups])
        among += float(n @ (means - np.average(means, weights=n)) ** 2)
        within += float(sum(((group - group.mean()) ** 2).sum() for group in groups))
        size += float(n.sum() - (n @ n) / n.sum())
        freedom += len(groups) - 1
        runs += int(n.sum()) - len(groups)
    if not freedom:
        return None
    excess = among / freedom - (within / runs if runs else 0.0)
    return TrainingVariance(max(excess, 0.0) / (size / freedom), freedom)


def variance_of(scores: Mapping[tuple[str, Column], Measured], columns: Sequence[Column]) -> TrainingVariance | None:
    """Return the variance of the mean over some columns, from the models that have all of them.

    A training may be good on all tasks or on none, so runs are averaged over the columns before trainings are compared.
    """
    names = dict.fromkeys(name for name, _ in scores)
    of_models = [[scores[name, column] for column in columns if (name, column) in scores] for name in names]
    several = [each for each in of_models if len(each) == len(columns) and min(one.trainings for one in each) > 1]
    return training_variance(_relative(each) for each in several if all(np.mean(one.scores()) > 0 for one in each))


def with_other_trainings(
    drawn: np.ndarray, model: Measured, reference: Measured, among: TrainingVariance | None
) -> np.ndarray:
    """Return resamples of a ratio with what other trainings of the two models would change, where that is known."""
    if among is None:
        return drawn
    rng = np.random.default_rng(0)
    one, other = (among.factors(each.trainings, len(drawn), rng) for each in (model, reference))
    return drawn * one / other


def _relative(of_model: Sequence[Measured]) -> list[list[float]]:
    """Return for each training its runs on all columns: the mean over columns of the score over the model's mean."""
    common = sorted(set.intersection(*(set(each.seeds) for each in of_model)))
    if not common:
        return []
    relative = [np.array(each.scores(common)) / np.mean(each.scores(common)) for each in of_model]
    by_training: dict[str, list[float]] = {}
    for key, value in zip(common, np.mean(relative, axis=0), strict=True):
        by_training.setdefault(key.training, []).append(float(value))
    return list(by_training.values())
