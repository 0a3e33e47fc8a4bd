"""Turn the declaration of a reproduction into steps, and choose among them.

A step is a command of this project that can say whether it is done. Tasks whose files are not here are left out.
"""

import json
import os
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.tasks import DATA_VARIABLE, Task
from compact_biomed.corpus.smoke import smoke_task_folder
from compact_biomed.errors import UserError
from compact_biomed.records import SCORES, Line, Records, read_lines, require_parts
from compact_biomed.reproduce.declaration import Declaration, DeclaredModel, Replicate
from compact_biomed.training.recipe import load_recipe

_NONE = "none"  # how a flag spells None
SMOKE_TASK = "smoke"  # made by the package, needs no files
_AGAINST = "decontaminate_against"
_LENGTH = {"max_steps", "batch_size"}


@dataclass(frozen=True)
class ReproductionPaths:
    """The folders of a reproduction.

    Args:
        recipes: the recipes.
        runs: one folder per training.
        results: one folder per study: records, and the tables made from them.
        study: name of the folder that this reproduction fills: its preset.
        readme: the document that shows the headline table, if any.
        shown: whether tables that several studies could give are made from this one.
    """

    recipes: Path
    runs: Path
    results: Path
    study: str
    readme: Path | None = None
    shown: bool = True

    @property
    def pretraining(self) -> Path:
        return self.results / self.study / "pretraining.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.results / self.study / "evaluation.jsonl"

    @property
    def releases(self) -> Path:
        """The list of released models with the sha256 of their weights."""
        return self.results / self.study / "releases.json"


@dataclass(frozen=True, eq=False)
class Training:
    """A step that runs a recipe with one seed of pretraining.

    Args:
        scale: preset of the recipe.
        seed: of pretraining; None = the recipe's own.
        replicate: number of the replicate, from 0.
        settings: hyperparameters, in the spelling of the recipe's flags, with the seed.
        needs: the training of its teacher.
    """

    model: DeclaredModel
    scale: str
    seed: int | None
    replicate: int
    settings: Mapping[str, Any]
    paths: ReproductionPaths
    needs: "Training | None"

    stage = "pretraining"

    def __str__(self) -> str:
        return f"pretraining {self.model.name}{of_replicate(self)}"

    @property
    def folder(self) -> Path:
        return self.paths.runs / (f"{self.model.name}-seed{self.seed}" if self.replicate else self.model.name)

    @property
    def checkpoint(self) -> str:
        """The folder of its weights, which may not be trained yet."""
        return str(self.folder / "model")

    @cached_property
    def flags(self) -> list[str]:
        """The recipe's flags, without the folder."""
        flags = ["--preset", self.scale]
        for name, value in self.settings.items():
            flags += [f"--{name}", *map(str, value if isinstance(value, list) else [value])]
        return flags

    @property
    def command(self) -> list[str]:
        script = str(self.paths.recipes / f"{self.model.recipe}.py")
        return [sys.executable, script, *self.flags, "--output_dir", str(self.folder)]

    @cached_property
    def expected(self) -> dict[str, Any]:
        """The hyperparameters that a record of it must have: its settings, and the recipe's length and batch."""
        expected = {name: None if value == _NONE else value for name, value in self.settings.items()}
        expected.pop("teacher", None)  # a folder; its weights are compared
        if not expected.keys() >= _LENGTH:
            recipe = load_recipe(self.model.recipe).at(self.scale)
            expected |= {name: recipe[name] for name in _LENGTH if name not in expected}
        return expected

    def record(self) -> dict[str, Any] | None:
        """Return the record of the finished run in the folder.

        Return None if there is none, or if it has other settings; the recipe then reports the difference.
        """
        path = self.folder / "record.json"
        if not path.is_file():
            return None
        record = json.loads(path.read_text(encoding="utf-8"))
        require_parts(record, ["hyperparameters"], path, "in records of earlier versions, rename `science` so")
        return record if self._fits(record) else None

    def recorded(self) -> list[dict[str, Any]]:
        """Return the records in results/ of trainings with these settings, on this machine or another."""
        lines = [line.record for line in _lines_of(self.paths.pretraining)]
        return [record for record in lines if record.get("model") == self.model.name and self._fits(record)]

    def _fits(self, record: Mapping[str, Any]) -> bool:
        recorded = record["hyperparameters"]
        if any(name in recorded and recorded[name] != value for name, value in self.expected.items()):
            return False
        return self.needs is None or recorded.get("teacher_sha256") in self.needs.known_weights()

    def weights(self) -> str | None:
        """Return the sha256 of the weights in the folder, or None if the run is not done here."""
        record = self.record()
        return record["weights_sha256"] if record else None

    def known_weights(self) -> set[str]:
        """Return the sha256 of the weights of every such training, whether or not they still exist."""
        here = self.weights()
        return {record["weights_sha256"] for record in self.recorded()} | ({here} if here else set())

    def here(self) -> bool:
        """Return whether its weights are on this machine."""
        return self.record() is not None

    def done(self) -> bool:
        """Return whether it was done, here or elsewhere."""
        return self.here() or bool(self.recorded())


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A step that fine-tunes and scores a model on tasks with one seed.

    It is done when scores of its model are recorded, by whichever training of these settings: weights that were lost
    with a machine need not be made again.

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
        return f"evaluating {self.model.name}{of_replicate(self.needs)} on {', '.join(self.tasks)}, seed {self.seed}"

    @property
    def checkpoint(self) -> str:
        """The folder or name of the model's weights."""
        return self.needs.checkpoint if self.needs else self.model.checkpoint

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
        command += ["--model", self.checkpoint, "--seeds", str(self.seed)]
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
        return self.missing_in([line.record for line in scores_in(self.paths.evaluation)])

    def missing_in(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, list[int | None]]:
        """Return task -> folds without a record among `scores`."""
        weights = self.needs.known_weights() if self.needs else None
        matching = [record for record in scores if self._matches(record, weights)]
        recorded = {(record["task"]["name"], record["task"]["fold"]) for record in matching}
        missing = {}
        for name, task in self.tasks.items():
            folds = [fold for fold in self._folds(task) if (task.name, fold) not in recorded]
            if folds:
                missing[name] = folds
        return missing

    def done(self) -> bool:
        return not self.missing()

    def _folds(self, task: Task) -> Sequence[int | None]:
        if not task.folds:
            return [None]
        return self.folds or range(1, task.folds + 1)

    def _matches(self, record: Mapping[str, Any], weights: Collection[str] | None) -> bool:
        if record["record"] != SCORES or record["seed"] != self.seed:
            return False
        model, protocol = record["model"], record["protocol"]
        if weights is not None and model.get("weights_sha256") not in weights:
            return False
        expected = (self.model.name, self.protocol_name, self.overrides)
        return (model["name"], protocol["name"], protocol["overrides"]) == expected


Step = Training | Evaluation
STAGES = (Training.stage, Evaluation.stage)


def of_replicate(training: Training | None) -> str:
    """Return the seed of pretraining in words; nothing for the first, and for a checkpoint."""
    return f", pretraining seed {training.seed}" if training and training.replicate else ""


def weights_needed(steps: Iterable[Step]) -> dict[Training, Step]:
    """Return the trainings whose weights are not here although a remaining step needs them, and the first such step.

    What is recorded is done: nobody needs the weights of a model all of whose scores are recorded.
    """
    needed: dict[Training, Step] = {}

    def need(training: Training | None, step: Step) -> None:
        if training and training not in needed and not training.here():
            needed[training] = step
            need(training.needs, training)

    for step in steps:
        if not step.done():
            need(step.needs, step)
    return needed


def remaining(steps: Sequence[Step]) -> list[Step]:
    """Return what is left to do, in order: steps without a record, and trainings whose weights these need."""
    needed = weights_needed(steps)
    return [step for step in steps if step in needed or not step.done()]


def scores_in(path: Path) -> Sequence[Line]:
    """Return the records of an evaluation, read once per version of the file."""
    return _scores_in(path, _version(path))


def _lines_of(path: Path) -> Sequence[Line]:
    return _read(path, _version(path))


def _version(path: Path) -> tuple[int, int]:
    state = path.stat() if path.is_file() else None
    return (state.st_mtime_ns, state.st_size) if state else (0, 0)


@lru_cache(maxsize=4)
def _read(path: Path, version: tuple[int, int]) -> Sequence[Line]:
    return read_lines([path], missing_ok=True)


@lru_cache(maxsize=4)
def _scores_in(path: Path, version: tuple[int, int]) -> Sequence[Line]:
    return Records(path).lines


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
    """Return all steps, replicate by replicate: each training, followed by the evaluations of its model.

    So a slice of time leaves whole results: a model is scored before the next is trained, because the next slice may
    be on a machine that does not have its weights.

    Args:
        tasks: name in the declaration -> task; tasks that are not in it are left out.
        training: settings of every training.
    """
    steps: list[Step] = []
    for number, replicate in enumerate(declared.replicates):
        trainings: dict[str, Training] = {}
        for name in replicate.models:
            model = declared.models[name]
            if model.recipe:
                teacher = trainings.get(model.teacher)
                settings = {
                    **training,
                    **({} if replicate.seed is None else {"seed": replicate.seed}),
                    **model.settings,
                }
                settings |= {"teacher": teacher.checkpoint} if teacher else {}
                trainings[name] = Training(model, declared.scale, replicate.seed, number, settings, paths, teacher)
                steps.append(trainings[name])
            steps += _evaluations(declared, model, replicate, paths, tasks, trainings.get(name))
    return steps


def _evaluations(
    declared: Declaration,
    model: DeclaredModel,
    replicate: Replicate,
    paths: ReproductionPaths,
    tasks: Mapping[str, Task],
    trained: Training | None,
) -> Iterator[Evaluation]:
    """Yield the evaluations of a model, seed by seed."""
    measurements = [each for each in declared.measurements if each.covers(model.name, replicate)]
    for seed in sorted({seed for measurement in measurements for seed in measurement.seeds}):
        for measurement in measurements:
            available = {name: tasks[name] for name in measurement.tasks if name in tasks}
            if seed in measurement.seeds and available:
                yield Evaluation(model, available, seed, measurement.folds, declared.protocol, paths, needs=trained)


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
