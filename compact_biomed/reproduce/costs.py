"""What is left of each step costs: tokens, FLOPs, and time at a measured rate."""

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compact_biomed.evaluation import records
from compact_biomed.files import sha256_json, write_json
from compact_biomed.reproduce import work
from compact_biomed.reproduce.steps import Evaluation, Step, Training

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
            written = list(records.read(evaluations[0].places.evaluation))
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
            each = self._once(known, lambda name=name, fold=folds[0]: work.of_task(step, name, fold))
            tokens += len(folds) * (each["a_seed"] + (0 if pair in searched else each["search"]))
            searched.add(pair)
        shape = self._shape(self._trainings[step.model.like or step.model.name])
        mine = [r["how"]["tokens_per_second"] for r in written if _measured(r, step.model.name)]
        rate = statistics.median(mine or [shape["rate"] * shape["flops"] / shape["encoder_flops"]])
        return Cost(tokens, tokens * shape["encoder_flops"], rate, bool(mine))

    def _shape(self, step: Training) -> Mapping[str, float]:
        return self._once(f"shape-{self._key(step)}", lambda: work.of_shape(step))

    def _key(self, step: Training) -> str:
        """The same for trainings of the same shape on the same machine."""
        science = {name: value for name, value in step.settings.items() if name not in _BESIDES}
        return sha256_json([step.model.recipe, step.preset, science, work.machine()])[:16]

    def _once(self, key: str, find: Callable[[], Mapping[str, float]]) -> Mapping[str, float]:
        if key not in self._kept:
            self._kept[key] = find()
            write_json(self._path, self._kept)
        return self._kept[key]


def _measured(record: Mapping[str, Any], model: str) -> bool:
    return record["record"] == records.SCORES and record["model"]["name"] == model


def _reached(folder: Path) -> int:
    """The step of the newest checkpoint."""
    numbers = [path.name.rpartition("-")[2] for path in folder.glob("checkpoint-*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=0)
