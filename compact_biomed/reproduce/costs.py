"""Estimate what the remaining steps of a plan cost.

The cost of a step is in tokens, FLOPs, and time at a measured rate. Finding out how much work a model's shape and a
task's examples make takes seconds, so these numbers are kept in a file.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.readers import read
from compact_biomed.corpus.cache import read_cached_json
from compact_biomed.engine.plan import device_name
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.cost import READING, recorded_rates, work_of
from compact_biomed.files import sha256_json, write_json
from compact_biomed.records.lines import SCORES
from compact_biomed.reproduce.compression import Compression
from compact_biomed.reproduce.declaration import DeclaredModel
from compact_biomed.reproduce.steps import Evaluation, Step, Training, evaluation_lines, remaining
from compact_biomed.training.cost import estimate
from compact_biomed.training.prerequisites import has_made_start
from compact_biomed.training.recipe import MADE_BY_RECIPE, load_recipe
from compact_biomed.training.resolve import resolve

_ANY = ""  # in place of the weights of a checkpoint, which no training made
# Settings that change neither shape nor speed of a training.
_WITHOUT_EFFECT_ON_SPEED = (
    *("max_steps", "warmup_steps", "learning_rate", "seed", "save_steps", "decontaminate_against", "teacher"),
)


@dataclass(frozen=True)
class StepCost:
    """What remains to be paid for a step.

    Args:
        tokens: trained on; in evaluation a token that is only read counts a third.
        rate: tokens per second.
        measured: whether the rate is that of recorded runs; otherwise it is probed.
    """

    tokens: float
    flops: float
    rate: float
    measured: bool

    @property
    def seconds(self) -> float:
        return self.tokens / self.rate


class CostEstimator:
    """Estimates the costs of a plan's steps.

    Args:
        steps: all steps of the plan: its trainings give the shapes of the models.
        cache: JSON file for what takes seconds to find out.
    """

    def __init__(self, steps: Sequence[Step], cache: Path):
        self._path = cache
        self._trainings = [step for step in steps if isinstance(step, Training)]
        self._cache: dict[str, Any] = read_cached_json(cache, dict[str, dict[str, Any]]) or {}

    def remaining(self, chosen: Sequence[Step]) -> dict[Step, StepCost]:
        """Return the costs of those of the chosen steps that remain (`steps.remaining`), in their order."""
        finished = {step: record for step in self._trainings if (record := step.record())}
        steps = remaining(chosen)
        evaluations = [step for step in steps if isinstance(step, Evaluation)]
        scores = [line.record for line in evaluation_lines(evaluations[0].paths.evaluation)] if evaluations else []
        searched = {
            (record["model"]["name"], weights, record["task"]["name"])
            for record in scores
            if record["record"] == SCORES
            for weights in (record["model"]["weights_sha256"], _ANY)
        }
        starts: set[tuple[str, str]] = set()
        return {
            step: self._with_start(step, self._of_training(step, finished), starts)
            if isinstance(step, Training)
            else self._of_compression(step)
            if isinstance(step, Compression)
            else self._of_evaluation(step, step.missing_in(scores), scores, searched)
            for step in steps
        }

    def _of_training(self, step: Training, finished: Mapping[Training, Mapping[str, Any]]) -> StepCost:
        """Estimate a training.

        Args:
            finished: records of the trainings that were finished on this machine.
        """
        shape = self._shape(step)
        corpora = [record["corpus"]["train"] for record in finished.values()]
        length = corpora[0]["tokens"] / corpora[0]["documents"] if corpora else shape["length"]
        steps = step.expected["max_steps"] - _last_checkpoint(step.folder)
        tokens = steps * step.expected["batch_size"] * length
        rates = [
            record["tokens"] / record["seconds"]
            for training, record in finished.items()
            if record["tokens"]
            and record["speed"]["device"] == machine()  # which says how many cores
            and self._shape_key(training) == self._shape_key(step)
        ]
        return StepCost(tokens, tokens * shape["flops"], statistics.fmean(rates or [shape["rate"]]), bool(rates))

    def _with_start(self, step: Training, cost: StepCost, counted: set[tuple[str, str]]) -> StepCost:
        """Add the cost of the start weights that a recipe makes, if they do not exist yet.

        Args:
            counted: recipes and scales whose cost an earlier step has; this one's is added.
        """
        start = step.settings.get("start") or load_recipe(step.model.recipe).at(step.scale).get("start") or ""
        made = (start.removeprefix(MADE_BY_RECIPE), step.scale)
        if not start.startswith(MADE_BY_RECIPE) or made in counted or has_made_start(*made):
            return cost
        counted.add(made)
        model = DeclaredModel(made[0], recipe=made[0])
        own = self._of_training(Training(model, step.scale, None, 0, {}, step.paths, None), {})
        tokens = cost.tokens + own.tokens
        return StepCost(tokens, cost.flops + own.flops, tokens / (cost.seconds + own.seconds), False)

    def _of_evaluation(
        self,
        step: Evaluation,
        missing: Mapping[str, list[int | None]],
        scores: Sequence[Mapping[str, Any]],
        searched: set[tuple[str, str, str]],
    ) -> StepCost:
        """Estimate an evaluation.

        Args:
            missing: task -> folds without a record.
            searched: models, weights and tasks whose learning rate was chosen on dev. The first step of any others does
                that, and they are added.
        """
        tokens = 0.0
        for name, folds in missing.items():
            weights = (step.needs.weights() or step.needs.checkpoint) if step.needs else _ANY
            model_and_task = (step.model.name, weights, step.tasks[name].name)
            key = f"evaluation-{sha256_json([name, dict(step.protocol)])[:16]}"
            work = self._cached(key, lambda name=name, fold=folds[0]: of_task(step, name, fold))
            search = 0 if model_and_task in searched else work["search"]
            tokens += len(folds) * (work["per_seed"] + search)
            searched.add(model_and_task)
        shape = self._shape(self._training_of(step))
        rates = recorded_rates(scores, step.model.name, machine())
        rate = statistics.median(rates or [shape["rate"] * shape["flops"] / shape["encoder_flops"]])
        return StepCost(tokens, tokens * shape["encoder_flops"], rate, bool(rates))

    def _of_compression(self, step: Compression) -> StepCost:
        """Estimate a compression: the teacher's fine-tuning, and the student's with the text that only it labels.

        The teacher is fine-tuned once for all students of a task. The student's work includes the teacher's reading.
        """
        shape, of_teacher = (self._shape(each) for each in (step.needs, step.teacher))
        work = {
            name: self._cached(
                f"compression-{sha256_json([step.name, dict(protocol)])[:16]}",
                lambda protocol=protocol: of_task(step.fine_tuning(protocol), step.name, None),
            )
            for name, protocol in (("student", step.protocol), ("teacher", step.teacher_protocol))
        }
        student = work["student"]["per_seed"] + work["student"]["search"]
        student *= 1 + step.unlabelled / work["student"].get("examples", step.unlabelled)
        teacher = 0.0 if step.has_teacher() else work["teacher"]["per_seed"] + work["teacher"]["search"]
        flops = student * shape["encoder_flops"] + (teacher + student * READING) * of_teacher["encoder_flops"]
        rate = shape["rate"] * shape["flops"] / flops * (student + teacher)
        return StepCost(student + teacher, flops, rate, False)

    def _training_of(self, step: Evaluation) -> Training:
        """Return the training that gives the shape of an evaluated model."""
        return next(each for each in self._trainings if each.model.name == (step.model.like or step.model.name))

    def _shape(self, step: Training) -> Mapping[str, float]:
        return self._cached(f"shape-{self._shape_key(step)}", lambda: of_shape(step))

    def _shape_key(self, step: Training) -> str:
        """Return a key that trainings of the same shape on the same machine share."""
        settings = {name: value for name, value in step.settings.items() if name not in _WITHOUT_EFFECT_ON_SPEED}
        return sha256_json([step.model.recipe, step.scale, settings, machine()])[:16]

    def _cached(self, key: str, compute: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        if key not in self._cache:
            self._cache[key] = compute()
            write_json(self._path, self._cache)
        return self._cache[key]


def _last_checkpoint(folder: Path) -> int:
    """Return the step of the newest checkpoint of a run, 0 if there is none."""
    numbers = [path.name.rpartition("-")[2] for path in folder.glob("checkpoint-*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


# ---- The work of a model's shape and of a task's examples


def machine() -> str:
    """Return a description of the device."""
    return device_name()


def of_shape(step: Training) -> dict[str, float]:
    """Return a training's probed tokens per second, FLOPs per token, and expected tokens per document."""
    run = resolve(load_recipe(step.model.recipe), step.scale, output_dir=step.folder, changes=step.settings)
    work = estimate(run)
    return {
        "rate": work.rate,
        "flops": work.flops_per_token,
        "encoder_flops": work.encoder_flops_per_token,
        "length": work.length,
    }


def of_task(step: Evaluation, name: str, fold: int | None) -> dict[str, float]:
    """Return a task's tokens per seed and for the search on dev; tokens that are only read count a third."""
    task = step.tasks[name]
    splits = read(task, tasks.find(task), fold)
    overrides = protocols.Overrides(**step.overrides)
    name_of_protocol = protocols.ZERO_SHOT if task.untrained else step.protocol_name
    protocol = protocols.protocol(name_of_protocol, task, len(splits.train), overrides)
    work = work_of(splits, protocol, overrides)
    search = len(protocol.candidates) * work.per_trial if protocol.searches else 0.0
    return {"per_seed": work.per_seed, "search": search, "examples": work.examples["train"]}
