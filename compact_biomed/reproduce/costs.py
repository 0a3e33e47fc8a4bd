"""What is left of each step costs: tokens, FLOPs, and time at a measured rate."""

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy import optimize, stats

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.test_sets import texts_of
from compact_biomed.engine.plan import device_name
from compact_biomed.evaluation import protocols
from compact_biomed.files import sha256_json, write_json
from compact_biomed.records import SCORES, Records
from compact_biomed.report.measured import Measured
from compact_biomed.reproduce.plan import Evaluation, Step, Training
from compact_biomed.training.cost import estimate
from compact_biomed.training.recipe import load_recipe
from compact_biomed.training.resolve import resolve

# ----------------------------------------------------------------------------------------------------
# How much work a model's shape and a task's examples make: numbers that are found once and kept.


_PIECES_A_WORD = 1.4  # special tokens included; NCBI-disease has 1.37
_READING = 1 / 3  # a forward pass, beside training


def machine() -> str:
    """The device in words."""
    return device_name()


def of_shape(step: Training) -> dict[str, float]:
    """Return of a training: probed tokens per second, FLOPs per token, expected tokens per document."""
    run = resolve(load_recipe(step.model.recipe), step.preset, output_dir=step.folder, changes=step.settings)
    found = estimate(run)
    return {
        "rate": found.rate,
        "flops": found.flops_per_token,
        "encoder_flops": found.encoder_flops_per_token,
        "length": found.length,
    }


def of_task(step: Evaluation, name: str, fold: int | None) -> dict[str, float]:
    """Of a task: tokens of one seed, and of the search on dev; those that are only read count a third."""

    task = step.tasks[name]
    splits = read(task, tasks.find(task), fold)
    overrides = protocols.Overrides(**step.overrides)
    chosen = protocols.protocol(step.protocol_name, task, len(splits.train), overrides)

    def tokens(examples) -> float:
        words = (sum(len(text.split()) for text in texts_of(example)) for example in examples)
        return sum(min(n * _PIECES_A_WORD, chosen.hyperparameters.max_length) for n in words)

    train = chosen.hyperparameters.epochs * tokens(protocols.training_examples(splits, chosen, overrides))
    dev = chosen.hyperparameters.epochs * tokens(splits.dev) * _READING
    search = len(chosen.learning_rates) * (train + dev) if chosen.searches else 0.0
    return {"a_seed": train + tokens(splits.test) * _READING, "search": search}


# What changes neither shape nor speed of a training.
_BESIDES = ("max_steps", "warmup_steps", "learning_rate", "seed", "save_steps", "decontaminate_against", "teacher")


@dataclass(frozen=True)
class Cost:
    """What is left of a step.

    Args:
        tokens: trained on; in evaluation a token that is only read counts a third.
        rate: tokens a second.
        measured: whether the rate is that of recorded runs, or of a probe.
    """

    tokens: float
    flops: float
    rate: float
    measured: bool

    @property
    def seconds(self) -> float:
        return self.tokens / self.rate


class Costs:
    """Costs of a plan's steps.

    Args:
        steps: all of the plan: trainings give the shapes of models.
        kept: a JSON file for what takes seconds to find out.
    """

    def __init__(self, steps: Sequence[Step], kept: Path):
        self._path = kept
        self._trainings = {step.model.name: step for step in steps if isinstance(step, Training)}
        self._kept: dict[str, Any] = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}

    def of_what_is_left(self, chosen: Sequence[Step]) -> dict[Step, Cost]:
        """Costs of those of the chosen steps that are not done, in their order."""
        finished = {name: record for name, step in self._trainings.items() if (record := step.record())}
        trainings = [step for step in chosen if isinstance(step, Training) and step.model.name not in finished]
        found: dict[Step, Cost] = {step: self._of_training(step, finished) for step in trainings}
        evaluations = [step for step in chosen if isinstance(step, Evaluation)]
        if evaluations:
            written = [line.record for line in Records(evaluations[0].places.evaluation).lines]
            searched = {(r["model"]["name"], r["task"]["name"]) for r in written}
            for step in evaluations:
                if missing := step.missing_in(written):
                    found[step] = self._of_evaluation(step, missing, written, searched)
        return found

    def _of_training(self, step: Training, finished: Mapping[str, Mapping[str, Any]]) -> Cost:
        shape = self._shape(step)
        trains = [r["corpus"]["train"] for r in finished.values()]
        length = trains[0]["tokens"] / trains[0]["documents"] if trains else shape["length"]
        tokens = (step.settings["max_steps"] - _reached(step.folder)) * step.settings["batch_size"] * length
        alike = [
            r for name, r in finished.items() if r["tokens"] and self._key(self._trainings[name]) == self._key(step)
        ]
        rates = [r["tokens"] / r["seconds"] for r in alike]
        return Cost(tokens, tokens * shape["flops"], statistics.fmean(rates or [shape["rate"]]), bool(rates))

    def _of_evaluation(
        self,
        step: Evaluation,
        missing: Mapping[str, list[int | None]],
        written: Sequence[Mapping[str, Any]],
        searched: set[tuple[str, str]],
    ) -> Cost:
        """Args:
        searched: models and tasks whose settings were chosen on dev; the first step of others does that, and is added.
        """
        tokens = 0.0
        for name, folds in missing.items():
            pair = (step.model.name, step.tasks[name].name)
            known = f"task-{sha256_json([name, dict(step.protocol)])[:16]}"
            each = self._once(known, lambda name=name, fold=folds[0]: of_task(step, name, fold))
            tokens += len(folds) * (each["a_seed"] + (0 if pair in searched else each["search"]))
            searched.add(pair)
        shape = self._shape(self._trainings[step.model.like or step.model.name])
        mine = [r["how"]["tokens_per_second"] for r in written if _measured(r, step.model.name)]
        rate = statistics.median(mine or [shape["rate"] * shape["flops"] / shape["encoder_flops"]])
        return Cost(tokens, tokens * shape["encoder_flops"], rate, bool(mine))

    def _shape(self, step: Training) -> Mapping[str, float]:
        return self._once(f"shape-{self._key(step)}", lambda: of_shape(step))

    def _key(self, step: Training) -> str:
        """The same for trainings of the same shape on the same machine."""
        science = {name: value for name, value in step.settings.items() if name not in _BESIDES}
        return sha256_json([step.model.recipe, step.preset, science, machine()])[:16]

    def _once(self, key: str, find: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        if key not in self._kept:
            self._kept[key] = find()
            write_json(self._path, self._kept)
        return self._kept[key]


def _measured(record: Mapping[str, Any], model: str) -> bool:
    return record["record"] == SCORES and record["model"]["name"] == model


def _reached(folder: Path) -> int:
    """The step of the newest checkpoint."""
    numbers = [path.name.rpartition("-")[2] for path in folder.glob("checkpoint-*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


# ----------------------------------------------------------------------------------------------------
# How many seeds and test sets it takes to tell two models apart.


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
