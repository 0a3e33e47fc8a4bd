"""The plan: which steps there are here, with the data at hand, and which of them are asked for."""

import json
import os
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.tasks import DATA_VARIABLE, Task
from compact_biomed.corpus.smoke import smoke_task_folder
from compact_biomed.errors import UserError
from compact_biomed.records import SCORES, Records, require_parts
from compact_biomed.reproduce.declaration import Declaration, Model

# ----------------------------------------------------------------------------------------------------
# A declaration made into steps: each a command of this project, and a way to tell that it is done.


_NONE = "none"  # a flag's word for None
REPRODUCTION = "reproduction"  # the folder of results that this plan fills


@dataclass(frozen=True)
class Places:
    """Where things lie.

    Args:
        recipes: folder of the recipes.
        runs: a folder for each trained model.
        results: a folder per study: records, and the tables made from them.
        readme: the document that shows the headline table, None: none does.
    """

    recipes: Path
    runs: Path
    results: Path
    readme: Path | None = None

    @property
    def pretraining(self) -> Path:
        return self.results / REPRODUCTION / "pretraining.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.results / REPRODUCTION / "evaluation.jsonl"

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
        require_parts(found, ["hyperparameters"], path, "in records of earlier versions, rename `science` so")
        science = found["hyperparameters"]
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
        return self.missing_in([line.record for line in Records(self.places.evaluation).lines])

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
        if record["record"] != SCORES or record["seed"] != self.seed:
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


STAGES = (Training.stage, Evaluation.stage)
SMOKE = "smoke"  # a task made here
_AGAINST = "decontaminate_against"


@dataclass(frozen=True)
class Plan:
    """Everything that a reproduction does.

    Args:
        steps: all, in order.
        chosen: those asked for.
        missing: tasks that can't be had here, and why; the reproduction is then not whole.
        notices: what else is otherwise than declared.
    """

    declared: Declaration
    places: Places
    steps: Sequence[Step]
    chosen: Sequence[Step]
    missing: Sequence[str]
    notices: Sequence[str]


def make(declared: Declaration, places: Places, only: Collection[str] = ()) -> Plan:
    """The plan of a declaration.

    Args:
        only: models, tasks and stages ("pretraining", "evaluation"); of each kind that is named, no others.
            The teacher of a model comes with it.

    Raises:
        UserError: a name that is none of these.
    """
    here, missing = _tasks(declared)
    notices: list[str] = []
    shared = dict(declared.training)
    if _AGAINST in shared and not _has_benchmarks():
        del shared[_AGAINST]
        notices.append(f"no benchmarks here ({DATA_VARIABLE} is not set): the text is not kept clear of any test set")
    steps = steps_of(declared, places, here, shared=shared)
    return Plan(declared, places, steps, _chosen(steps, declared, set(only)), missing, notices)


def _tasks(declared: Declaration) -> tuple[dict[str, Task], list[str]]:
    """The tasks whose files are here, by their names in the declaration; what the others lack."""
    here: dict[str, Task] = {}
    missing = []
    for name in dict.fromkeys(name for each in declared.measurements for name in each.tasks):
        if name == SMOKE:
            here[name] = tasks.ner_task_from_folder(smoke_task_folder())
            continue
        task = tasks.task_named(name)
        try:
            tasks.find(task)
            here[name] = task
        except UserError as error:
            missing.append(str(error))
    return here, missing


def _has_benchmarks() -> bool:
    folder = os.environ.get(DATA_VARIABLE)
    return bool(folder) and any((Path(folder) / task.place).is_dir() for task in tasks.TASKS.values())


def _chosen(steps: Sequence[Step], declared: Declaration, only: set[str]) -> list[Step]:
    names = {name for each in declared.measurements for name in each.tasks}
    if unknown := sorted(only - set(STAGES) - names - set(declared.models)):
        known = [*STAGES, *declared.models, *sorted(names)]
        raise UserError(f"nothing is called {unknown[0]!r}", where="--only", remedy=f"one of {', '.join(known)}")
    models, stages, wanted = (only & each or each for each in (set(declared.models), set(STAGES), names))
    taught = models | {teacher for name in models if (teacher := declared.models[name].teacher)}
    chosen: list[Step] = []
    for step in steps:
        if step.stage not in stages:
            continue
        if isinstance(step, Training) and step.model.name in taught:
            chosen.append(step)
        if isinstance(step, Evaluation) and step.model.name in models and wanted & step.tasks.keys():
            chosen.append(step.on(wanted))
    return chosen
