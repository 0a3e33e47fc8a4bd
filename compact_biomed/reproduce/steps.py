"""A declaration made into steps: each a command of this project, and a way to tell that it is done."""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from compact_biomed.evaluation import records
from compact_biomed.evaluation.tasks import Task
from compact_biomed.reproduce.declaration import Declaration, Model

_NONE = "none"  # a flag's word for None


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Args:
        recipes: folder of the recipes.
        runs: a folder for each trained model.
        results: records, and the tables made from them.
        readme: the document that shows the headline table, None: none does.
    """

    recipes: Path
    runs: Path
    results: Path
    readme: Path | None = None

    @property
    def pretraining(self) -> Path:
        return self.results / "pretraining.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.results / "evaluation.jsonl"

    def checkpoint(self, model: Model) -> str:
        """Where the weights of a model are, or will be."""
        return model.checkpoint or str(self.runs / model.name / "model")


@dataclass(frozen=True, eq=False)
class Training:
    """A run of a recipe.

    Args:
        settings: of its science, in the spelling of flags.
        needs: the training of its teacher.
    """

    model: Model
    preset: str
    settings: Mapping[str, Any]
    places: Places
    needs: "Training | None"

    stage = "pretraining"

    def __str__(self) -> str:
        return f"pretraining {self.model.name}"

    @property
    def folder(self) -> Path:
        return self.places.runs / self.model.name

    @cached_property
    def flags(self) -> list[str]:
        """Of the recipe, without the folder."""
        flags = ["--preset", self.preset]
        for name, value in self.settings.items():
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return flags

    @property
    def command(self) -> list[str]:
        script = str(self.places.recipes / f"{self.model.recipe}.py")
        return [sys.executable, script, *self.flags, "--output_dir", str(self.folder)]

    def record(self) -> dict[str, Any] | None:
        """Of the finished run; None if there is none, or of other settings (the recipe then says what differs)."""
        path = self.folder / "record.json"
        if not path.is_file():
            return None
        found = json.loads(path.read_text(encoding="utf-8"))
        science = found["science"]
        wanted = {name: None if value == _NONE else value for name, value in self.settings.items()}
        if any(name in science and science[name] != value for name, value in wanted.items() if name != "teacher"):
            return None
        if self.needs and science["teacher_sha256"] != self.needs.weights():
            return None
        return found

    def weights(self) -> str | None:
        """Their sha256, None if the run is not done."""
        record = self.record()
        return record["weights_sha256"] if record else None

    def done(self) -> bool:
        return self.record() is not None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """One seed of a model on tasks.

    Args:
        tasks: name in the declaration -> the task.
        folds: of cross-validation sets, None = all.
        protocol: `name`, and what takes the place of its settings.
        needs: the training of the model; None for a checkpoint.
    """

    model: Model
    tasks: Mapping[str, Task]
    seed: int
    folds: tuple[int, ...] | None
    protocol: Mapping[str, Any]
    places: Places
    needs: Training | None

    stage = "evaluation"

    def __str__(self) -> str:
        return f"evaluating {self.model.name} on {', '.join(self.tasks)}, seed {self.seed}"

    @property
    def protocol_name(self) -> str:
        return self.protocol.get("name", "standard")

    @property
    def overrides(self) -> dict[str, Any]:
        return {name: value for name, value in self.protocol.items() if name != "name"}

    def on(self, tasks: Collection[str]) -> "Evaluation":
        """The same on some of its tasks."""
        return replace(self, tasks={name: task for name, task in self.tasks.items() if name in tasks})

    def command_for(self, tasks: Sequence[str], *, minutes: float | None = None) -> list[str]:
        """The command that measures some of the tasks."""
        folders = [name for name in tasks if Path(self.tasks[name].place).is_absolute()]
        named = [name for name in tasks if name not in folders]
        command = [sys.executable, "-m", "compact_biomed", "evaluate", "--name", self.model.name]
        command += ["--model", self.places.checkpoint(self.model), "--seeds", str(self.seed)]
        command += ["--task", ",".join(named)] if named else []
        for name in folders:
            command += ["--ner-dir", self.tasks[name].place]
        command += ["--folds", ",".join(map(str, self.folds))] if self.folds else []
        command += ["--protocol", self.protocol_name, "--records", str(self.places.evaluation)]
        for name, value in self.overrides.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        return [*command, *(["--minutes", f"{minutes:.2f}"] if minutes is not None else [])]

    def missing(self) -> dict[str, list[int | None]]:
        """Task -> folds that no record has."""
        return self.missing_in(list(records.read(self.places.evaluation)))

    def missing_in(self, found: Sequence[Mapping[str, Any]]) -> dict[str, list[int | None]]:
        """The same, of records that were read already."""
        weights = self.needs.weights() if self.needs else None
        mine = [record for record in found if self._is_mine(record, weights)]
        there = {(record["task"]["name"], record["task"]["fold"]) for record in mine}
        missing = {}
        for name, task in self.tasks.items():
            left = [fold for fold in self._folds(task) if (task.name, fold) not in there]
            if left:
                missing[name] = left
        return missing

    def done(self) -> bool:
        return not self.missing()

    def _folds(self, task: Task) -> Sequence[int | None]:
        if not task.folds:
            return [None]
        return self.folds or range(1, task.folds + 1)

    def _is_mine(self, record: Mapping[str, Any], weights: str | None) -> bool:
        if record["record"] != records.SCORES or record["seed"] != self.seed:
            return False
        model, protocol = record["model"], record["protocol"]
        if self.needs and model["weights_sha256"] != weights:
            return False
        mine = (self.model.name, self.protocol_name, self.overrides)
        return (model["name"], protocol["name"], protocol["overrides"]) == mine


Step = Training | Evaluation


def steps_of(
    declared: Declaration, places: Places, tasks: Mapping[str, Task], *, shared: Mapping[str, Any]
) -> list[Step]:
    """All steps: trainings, then evaluations seed by seed, so that what is there after a while compares all models.

    Args:
        tasks: name in the declaration -> task, of those that can be had here; others are left out.
        shared: settings of every training, from the declaration or in its place.
    """
    trainings: dict[str, Training] = {}
    for model in declared.models.values():
        if model.recipe:
            teacher = {"teacher": places.checkpoint(declared.models[model.teacher])} if model.teacher else {}
            settings = {**shared, **model.settings, **teacher}
            needs = trainings.get(model.teacher)
            trainings[model.name] = Training(model, declared.preset, settings, places, needs)
    steps: list[Step] = list(trainings.values())
    for seed in sorted({seed for each in declared.measurements for seed in each.seeds}):
        for each in declared.measurements:
            here = {name: tasks[name] for name in each.tasks if name in tasks}
            if seed in each.seeds and here:
                models = [declared.models[name] for name in each.models]
                steps += [
                    Evaluation(model, here, seed, each.folds, declared.protocol, places, trainings.get(model.name))
                    for model in models
                ]
    return steps
