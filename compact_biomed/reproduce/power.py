"""How many seeds the comparisons of a plan need, and which claims its seeds can decide.

What is expected comes from records: the deviations over seeds of fine-tuning and of pretraining, what the choice of
test examples adds, and the ratio of two scores. What no record gives is assumed (`[power]` in recipes/reproduce.toml).
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.claims import CLAIMS, SIGNIFICANCE, Claim, best_of, verdict_of
from compact_biomed.report.contrasts import MeasuredByCell, by_model_and_column
from compact_biomed.report.measured import Column, Measured, measure
from compact_biomed.report.replicates import variance_of
from compact_biomed.report.resampling import on_all_cores, retention_draws
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.reproduce.declaration import Declaration
from compact_biomed.reproduce.plan import ReproductionPlan
from compact_biomed.reproduce.steps import Evaluation

MOST_SEEDS = 100
_SHARES = 4000


def power(*, difference: float, deviation: float, seeds: int, sets: int = 1, significance: float = 0.05) -> float:
    """Return the power of the two-sided paired t-test over seeds: the probability that it detects a difference.

    The value of a seed is the difference of the two scores, averaged over `sets` test sets. Its standard deviation is
    sqrt(2 / sets) times that of a score (independent runs, normal). Under that difference the statistic has the
    noncentral t-distribution (Cohen 1988, Statistical power analysis, section 2.2).

    Args:
        difference: between the two models' true scores.
        deviation: standard deviation of one model's score over seeds, on one set.
        seeds: of each model, at least 2.

    Raises:
        ValueError: fewer than 2 seeds or 1 set, or a deviation that is not above 0.
    """
    if seeds < 2 or deviation <= 0 or sets < 1:
        raise ValueError(f"{seeds} seeds, {sets} sets, deviation {deviation}: at least 2, 1, and above 0")
    shift = abs(difference) / (deviation * math.sqrt(2 / sets)) * math.sqrt(seeds)
    bound = stats.t.ppf(1 - significance / 2, seeds - 1)
    # Average over equal shares of the distribution of the estimated deviation: scipy's nct fails far in the tails.
    estimated = stats.chi.ppf((np.arange(_SHARES) + 0.5) / _SHARES, seeds - 1) / math.sqrt(seeds - 1)
    return float(np.mean(stats.norm.sf(bound * estimated - shift) + stats.norm.cdf(-bound * estimated - shift)))


def seeds_needed(
    *, difference: float, deviation: float, sets: int = 1, target: float = 0.8, significance: float = 0.05
) -> int | None:
    """Return the smallest number of seeds that reaches the target power, or None if `MOST_SEEDS` do not."""
    for seeds in range(2, MOST_SEEDS + 1):
        reached = power(difference=difference, deviation=deviation, seeds=seeds, sets=sets, significance=significance)
        if reached >= target:
            return seeds
    return None


def detectable(
    *, deviation: float, seeds: int, sets: int = 1, target: float = 0.8, significance: float = 0.05
) -> float:
    """Return the smallest difference that so many seeds and sets detect with the target power."""

    def surplus(difference: float) -> float:
        reached = power(difference=difference, deviation=deviation, seeds=seeds, sets=sets, significance=significance)
        return reached - target

    upper = deviation
    while surplus(upper) < 0:
        upper *= 2
    return float(optimize.brentq(surplus, 0.0, upper))


def pooled_deviation(measured: Sequence[Measured]) -> tuple[float, int] | None:
    """Return the standard deviation over seeds of a training, pooled over models and tasks, and its degrees of freedom.

    Return None where no model has two seeds on any task. Scores on word-pieces are left out.
    """
    cells = [
        group
        for each in measured
        if not each.column.on_pieces and each.seeds
        for group in np.split(each.scores(), np.cumsum(each.groups)[:-1])
        if len(group) > 1
    ]
    squares = [float(np.var(scores)) * len(scores) for scores in cells]
    freedom = sum(len(scores) - 1 for scores in cells)
    return (math.sqrt(sum(squares) / freedom), freedom) if freedom else None


# ---- Which claims the planned seeds can decide


POWER = 0.8
_RESAMPLES = 499
_TYPICAL_SCORE = 75.0  # turns assumed points of score into shares of it


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a score, as shares of it.

    Args:
        finetuning: model -> over seeds of one training, on one test set; "" = the median of the models.
        pretraining: over trainings, of the mean over test sets.
        examples: (model, reference) -> of their ratio over the test sets, by the choice of test examples; ("", "") =
            the median; empty where no record keeps counts of examples.
        assumed: the names of those that no record gives.
    """

    finetuning: Mapping[str, float]
    pretraining: float
    examples: Mapping[tuple[str, str], float]
    assumed: tuple[str, ...]


@dataclass(frozen=True)
class Planned:
    """What is planned for a model.

    Args:
        seeds: task -> runs, over all trainings.
        trainings: 0 for a checkpoint.
    """

    seeds: Mapping[str, int]
    trainings: int


@dataclass(frozen=True)
class PairPower:
    """What the planned runs of two models can decide.

    Args:
        sets: test sets that both are measured on with enough seeds.
        margin: smallest distance of the ratio of their scores from the threshold that is found with a power of 80 %.
        expected: the ratio that records of these models show; None if there are none.
    """

    model: str
    reference: str
    sets: int
    margin: float
    expected: float | None


@dataclass(frozen=True)
class ClaimPower:
    """A claim with what the plan can decide.

    Args:
        verdict: what the records of the plan would say if the expected ratios are the true ones; None = undecided.
        unknown: whether no record says what to expect of some pair.
    """

    claim: Claim
    pairs: tuple[PairPower, ...]
    verdict: str | None
    unknown: bool


def noise_in(scores: MeasuredByCell, declared: Declaration) -> Noise:
    """Return the deviations that records show, the declared ones where they show none."""
    assumed = []
    finetuning = {name: of for name in {name for name, _ in scores} if (of := _of_finetuning(scores, name))}
    finetuning[""] = float(np.median([*finetuning.values()])) if finetuning else declared.deviation / _TYPICAL_SCORE
    if len(finetuning) == 1:
        assumed.append("fine-tuning")
    among = variance_of(scores, sorted({column for _, column in scores})) if scores else None
    if among is None:
        assumed.append("pretraining")
    pretraining = math.sqrt(among.variance) if among else declared.pretraining / _TYPICAL_SCORE
    pairs = [pair for claim in CLAIMS for pair in claim.pairs if all(isinstance(side, str) for side in pair)]
    found = on_all_cores(lambda pair: _by_examples(scores, *pair), pairs, what="power of the claims")
    examples = {pair: of for pair, of in zip(pairs, found, strict=True) if of is not None}
    if examples:
        examples["", ""] = float(np.median([*examples.values()]))
    return Noise(finetuning, pretraining, examples, tuple(assumed))


def _of_finetuning(scores: MeasuredByCell, model: str) -> float | None:
    """Return a model's deviation over seeds as a share of its scores, pooled over tasks; None with too few runs."""
    of_model = [each for (name, _), each in scores.items() if name == model]
    groups = [group / np.mean(group) for each in of_model for group in _runs_by_training(each)]
    freedom = sum(len(group) - 1 for group in groups)
    return math.sqrt(sum(np.var(group) * len(group) for group in groups) / freedom) if freedom else None


def claims_power(plan: ReproductionPlan, lines: Sequence[Line]) -> tuple[Noise, list[ClaimPower]]:
    """Return the deviations to expect, and for every claim with contrasts what the planned runs can decide.

    Args:
        lines: records of scores of the same or of similar models.
    """
    scores: MeasuredByCell = {}
    if lines:
        with suppress(UserError):  # records that do not fit together say nothing about what to expect
            scores = by_model_and_column(measure(lines), on_pieces=False)
    noise, planned = noise_in(scores, plan.declared), planned_runs(plan)
    return noise, [_claim_power(claim, planned, noise, scores) for claim in CLAIMS if claim.pairs]


def planned_runs(plan: ReproductionPlan) -> dict[str, Planned]:
    """Return what is planned for each model, done or not."""
    seeds: dict[str, dict[str, set]] = {}
    trainings: dict[str, set] = {}
    for step in plan.steps:
        if isinstance(step, Evaluation):
            for task in step.tasks:
                run = (step.needs.replicate if step.needs else 0, step.seed)
                seeds.setdefault(step.model.name, {}).setdefault(task, set()).add(run)
            trainings.setdefault(step.model.name, set()).update([step.needs.replicate] if step.needs else [])
    return {
        name: Planned({task: len(runs) for task, runs in by_task.items()}, len(trainings[name]))
        for name, by_task in seeds.items()
    }


def _claim_power(claim: Claim, planned: Mapping[str, Planned], noise: Noise, scores: MeasuredByCell) -> ClaimPower:
    pairs = []
    for sides in claim.pairs:
        names = [side if isinstance(side, str) else best_of(side, scores) or side[0] for side in sides]
        if all(name in planned for name in names):
            pairs.append(_pair_power(*names, planned, noise, scores, len(claim.pairs)))
    sides = [
        0
        if each.expected is None or abs(each.expected - claim.threshold) < each.margin
        else 1
        if each.expected > claim.threshold
        else -1
        for each in pairs
    ]
    verdict = verdict_of(claim, sides) if len(pairs) == len(claim.pairs) else None
    return ClaimPower(claim, tuple(pairs), verdict, any(each.expected is None for each in pairs))


def _pair_power(
    model: str, reference: str, planned: Mapping[str, Planned], noise: Noise, scores: MeasuredByCell, pairs: int
) -> PairPower:
    both = [planned[name] for name in (model, reference)]
    common = [task for task in both[0].seeds if task in both[1].seeds]
    enough = [task for task in common if min(each.seeds[task] for each in both) >= FEWEST_SEEDS] or common
    if not enough:
        return PairPower(model, reference, 0, math.inf, None)
    variance = noise.examples.get((model, reference), noise.examples.get(("", ""), 0.0)) ** 2
    for name, each in zip((model, reference), both, strict=True):
        of_score = noise.finetuning.get(name, noise.finetuning[""])
        variance += sum(of_score**2 / each.seeds[task] for task in enough) / len(enough) ** 2
        variance += noise.pretraining**2 / each.trainings if each.trainings else 0.0
    # Holm's first step: the smallest p of the claim is compared with the level over the number of its contrasts.
    quantiles = stats.norm.ppf(1 - SIGNIFICANCE / 2 / pairs) + stats.norm.ppf(POWER)
    margin = float(quantiles) * math.sqrt(variance)
    return PairPower(model, reference, len(enough), margin, _ratio(scores, model, reference))


def _ratio(scores: MeasuredByCell, model: str, reference: str) -> float | None:
    common = _common(scores, model, reference)
    ratios = [scores[model, column].summary().mean / scores[reference, column].summary().mean for column in common]
    return float(np.mean(ratios)) if ratios else None


def _common(scores: MeasuredByCell, model: str, reference: str) -> list[Column]:
    columns = sorted(column for name, column in scores if name == model and (reference, column) in scores)
    positive = [each for each in columns if scores[reference, each].summary().mean > 0]
    runs = {each: min(len(scores[name, each].seeds) for name in (model, reference)) for each in positive}
    return [each for each in positive if runs[each] >= FEWEST_SEEDS] or positive


def _by_examples(scores: MeasuredByCell, model: str, reference: str) -> float | None:
    """Return the deviation of a ratio over test sets by the choice of test examples, the runs as they are."""
    drawn = []
    for number, column in enumerate(_common(scores, model, reference)):
        counts = [scores[name, column].example_counts() for name in (model, reference)]
        if all(each is not None for each in counts):
            apart = [[1] * len(scores[name, column].seeds) for name in (model, reference)]  # no run is drawn
            how = {"resamples": _RESAMPLES, "seed": number, "groups": apart}
            drawn.append(retention_draws(*counts, scores[model, column].metric, **how)[1])
    deviation = float(np.std(np.mean(drawn, axis=0))) if drawn else math.nan
    return deviation if math.isfinite(deviation) else None


def _runs_by_training(measured: Measured) -> list[np.ndarray]:
    groups = np.split(np.asarray(measured.scores()), np.cumsum(measured.groups)[:-1])
    return [group for group in groups if len(group) > 1 and np.mean(group) > 0]
