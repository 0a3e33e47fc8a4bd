"""Turn the declaration of a reproduction into steps, and choose among them.

A step is a command of this project that can say whether it is done. Tasks whose files are not here are left out.
"""

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
from compact_biomed.reproduce.declaration import Declaration, DeclaredModel
from compact_biomed.settings import read_json
from compact_biomed.training.run_folder import read_record

_NONE = "none"  # how a flag spells None
SMOKE_TASK = "smoke"  # made by the package, needs no files
REPRODUCTION = "reproduction"  # the folder of results that this plan fills
_AGAINST = "decontaminate_against"


@dataclass(frozen=True)
class ReproductionPaths:
    """The folders of a reproduction.

    Args:
        recipes: the recipes.
        runs: one folder per trained model.
        results: one folder per study: records, and the tables made from them.
        readme: the document that shows the headline table, if any.
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

    def checkpoint(self, model: DeclaredModel) -> str:
        """Return the name of a model's checkpoint, which may not be trained yet."""
        return model.checkpoint or str(self.runs / model.name / "model")


@dataclass(frozen=True, eq=False)
class Training:
    """A step that runs a recipe.

    Args:
        settings: hyperparameters, in the spelling of the recipe's flags.
        needs: the training of its teacher.
    """

    model: DeclaredModel
    preset: str
    settings: Mapping[str, Any]
    paths: ReproductionPaths
    needs: "Training | None"

    stage = "pretraining"

    def __str__(self) -> str:
        return f"pretraining {self.model.name}"

    @property
    def folder(self) -> Path:
        return self.paths.runs / self.model.name

    @cached_property
    def flags(self) -> list[str]:
        """The recipe's flags, without the folder."""
        flags = ["--preset", self.preset]
        for name, value in self.settings.items():
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return flags

    @property
    def command(self) -> list[str]:
        script = str(self.paths.recipes / f"{self.model.recipe}.py")
        return [sys.executable, script, *self.flags, "--output_dir", str(self.folder)]

    def record(self) -> dict[str, Any] | None:
        """Return the record of the finished run.

        Return None if there is none, or if it has other settings; the recipe then reports the difference.
        """
        path = self.folder / "record.json"
        if not path.is_file():
            return None
        record = read_json(path, dict[str, Any], remedy=f"remove {self.folder}; the model is then trained again")
        require_parts(record, ["hyperparameters"], path, "in records of earlier versions, rename `science` so")
        record = read_record(path)
        recorded = record["hyperparameters"]
        for name, value in self.settings.items():
            expected = None if value == _NONE else value
            if name != "teacher" and name in recorded and recorded[name] != expected:
                return None
        if self.needs and recorded["teacher_sha256"] != self.needs.weights():
            return None
        return record

    def weights(self) -> str | None:
        """Return the sha256 of the trained weights, or None if the run is not done."""
        record = self.record()
        return record["weights_sha256"] if record else None

    def done(self) -> bool:
        return self.record() is not None


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A step that fine-tunes and scores a model on tasks with one seed.

    Args:
        tasks: name in the declaration -> task.
        folds: of cross-validation sets; None = all.
        protocol: `name`, and settings that replace the protocol's.
        needs: the training of the model; None for a checkpoint.
    """

    model: DeclaredModel
    tasks: Mapping[str, Task]
    seed: int
    folds: tuple[int, ...] | None
    protocol: Mapping[str, Any]
    paths: ReproductionPaths
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
        """Return the same step, restricted to some of its tasks."""
        return replace(self, tasks={name: task for name, task in self.tasks.items() if name in tasks})

    def command_for(self, tasks: Sequence[str], *, minutes: float | None = None) -> list[str]:
        """Return the command that evaluates some of the tasks, within a time limit."""
        folders = [name for name in tasks if Path(self.tasks[name].place).is_absolute()]
        named = [name for name in tasks if name not in folders]
        command = [sys.executable, "-m", "compact_biomed", "evaluate", "--name", self.model.name]
        command += ["--model", self.paths.checkpoint(self.model), "--seeds", str(self.seed)]
        command += ["--task", ",".join(named)] if named else []
        for name in folders:
            command += ["--ner-dir", self.tasks[name].place]
        command += ["--folds", ",".join(map(str, self.folds))] if self.folds else []
        command += ["--protocol", self.protocol_name, "--records", str(self.paths.evaluation)]
        for name, value in self.overrides.items():
            command += [f"--{name.replace('_', '-')}", str(value)]
        return [*command, *(["--minutes", f"{minutes:.2f}"] if minutes is not None else [])]

    def missing(self) -> dict[str, list[int | None]]:
        """Return task -> folds without a record."""
        return self.missing_in([line.record for line in Records(self.paths.evaluation).lines])

    def missing_in(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, list[int | None]]:
        """Return task -> folds without a record among `scores`."""
        weights = self.needs.weights() if self.needs else None
        own = [record for record in scores if self._is_of_model(record, weights)]
        recorded = {(record["task"]["name"], record["task"]["fold"]) for record in own if self._has_settings(record)}
        untrained = {(record["task"]["name"], record["task"]["fold"]) for record in own}
        missing = {}
        for name, task in self.tasks.items():
            known = untrained if task.untrained else recorded
            folds = [fold for fold in self._folds(task) if (task.name, fold) not in known]
            if folds:
                missing[name] = folds
        return missing

    def done(self) -> bool:
        return not self.missing()

    def _folds(self, task: Task) -> Sequence[int | None]:
        if not task.folds:
            return [None]
        return self.folds or range(1, task.folds + 1)

    def _is_of_model(self, record: Mapping[str, Any], weights: str | None) -> bool:
        if record["record"] != SCORES or record["model"]["name"] != self.model.name:
            return False
        return not self.needs or record["model"]["weights_sha256"] == weights

    def _has_settings(self, record: Mapping[str, Any]) -> bool:
        protocol = record["protocol"]
        recorded = (record["seed"], protocol["name"], protocol["overrides"])
        return recorded == (self.seed, self.protocol_name, self.overrides)


Step = Training | Evaluation
STAGES = (Training.stage, Evaluation.stage)


@dataclass(frozen=True)
class ReproductionPlan:
    """All steps of a reproduction.

    Args:
        steps: all, in order.
        chosen: those that are asked for.
        missing: tasks whose files are not here, and why; the reproduction is then not complete.
        notices: other deviations from the declaration.
    """

    declared: Declaration
    paths: ReproductionPaths
    steps: Sequence[Step]
    chosen: Sequence[Step]
    missing: Sequence[str]
    notices: Sequence[str]


def make_plan(declared: Declaration, paths: ReproductionPaths, only: Collection[str] = ()) -> ReproductionPlan:
    """Make the plan of a declaration.

    Args:
        only: names of models, tasks and stages ("pretraining", "evaluation"). Each kind that is named restricts the
            chosen steps; the teacher of a chosen model is chosen too.

    Raises:
        UserError: a name is none of these.
    """
    available, missing = _available_tasks(declared)
    notices: list[str] = []
    training = dict(declared.training)
    if _AGAINST in training and not _has_benchmarks():
        del training[_AGAINST]
        notices.append(
            f"There are no benchmarks here ({DATA_VARIABLE} is not set): the training text is not decontaminated."
        )
    steps = steps_of(declared, paths, available, training=training)
    return ReproductionPlan(declared, paths, steps, _choose(steps, declared, set(only)), missing, notices)


def steps_of(
    declared: Declaration, paths: ReproductionPaths, tasks: Mapping[str, Task], *, training: Mapping[str, Any]
) -> list[Step]:
    """Return all steps: first the trainings, then the evaluations.

    The evaluations are in the order of their seeds, so that an unfinished reproduction already compares all models.

    Args:
        tasks: name in the declaration -> task; tasks that are not in it are left out.
        training: settings of every training.
    """
    trainings: dict[str, Training] = {}
    for model in declared.models.values():
        if model.recipe:
            teacher = {"teacher": paths.checkpoint(declared.models[model.teacher])} if model.teacher else {}
            settings = {**training, **model.settings, **teacher}
            needs = trainings.get(model.teacher)
            trainings[model.name] = Training(model, declared.preset, settings, paths, needs)
    steps: list[Step] = list(trainings.values())
    for seed in sorted({seed for measurement in declared.measurements for seed in measurement.seeds}):
        for measurement in declared.measurements:
            available = {name: tasks[name] for name in measurement.tasks if name in tasks}
            if seed not in measurement.seeds or not available:
                continue
            steps += [
                Evaluation(
                    declared.models[name],
                    available,
                    seed,
                    measurement.folds,
                    declared.protocol,
                    paths,
                    needs=trainings.get(name),
                )
                for name in measurement.models
            ]
    return steps


def _available_tasks(declared: Declaration) -> tuple[dict[str, Task], list[str]]:
    """Return the tasks whose files are here, by their names in the declaration, and what the others lack."""
    available: dict[str, Task] = {}
    missing = []
    for name in dict.fromkeys(name for measurement in declared.measurements for name in measurement.tasks):
        if name == SMOKE_TASK:
            available[name] = tasks.ner_task_from_folder(smoke_task_folder())
            continue
        task = tasks.task_named(name)
        try:
            tasks.find(task)
            available[name] = task
        except UserError as error:
            missing.append(str(error))
    return available, missing


def _has_benchmarks() -> bool:
    folder = os.environ.get(DATA_VARIABLE)
    return bool(folder) and any((Path(folder) / task.place).is_dir() for task in tasks.TASKS.values())


def _choose(steps: Sequence[Step], declared: Declaration, only: set[str]) -> list[Step]:
    task_names = {name for measurement in declared.measurements for name in measurement.tasks}
    if unknown := sorted(only - set(STAGES) - task_names - set(declared.models)):
        known = [*STAGES, *declared.models, *sorted(task_names)]
        raise UserError(f"unknown name {unknown[0]!r}", where="--only", remedy=f"one of {', '.join(known)}")
    models = only & set(declared.models) or set(declared.models)
    stages = only & set(STAGES) or set(STAGES)
    measured = only & task_names or task_names
    trained = models | {teacher for name in models if (teacher := declared.models[name].teacher)}
    chosen: list[Step] = []
    for step in steps:
        if step.stage not in stages:
            continue
        if isinstance(step, Training) and step.model.name in trained:
            chosen.append(step)
        if isinstance(step, Evaluation) and step.model.name in models and measured & step.tasks.keys():
            chosen.append(step.on(measured))
    return chosen
