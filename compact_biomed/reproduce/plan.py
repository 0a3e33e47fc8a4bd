"""Turn the declaration of a reproduction into steps, and choose among them.

Tasks whose files are not here are left out.
"""

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.tasks import DATA_VARIABLE, Task
from compact_biomed.corpus.smoke import smoke_task_folder
from compact_biomed.errors import UsageError, UserError
from compact_biomed.reproduce.compression import Compression
from compact_biomed.reproduce.declaration import Declaration, DeclaredModel, Replicate, with_teachers
from compact_biomed.reproduce.steps import Evaluation, ReproductionPaths, Step, Training

SMOKE_TASK = "smoke"  # made by the package, needs no files
_AGAINST = "decontaminate_against"
STAGES = (Training.stage, Evaluation.stage, Compression.stage)


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


def make_plan(
    declared: Declaration,
    paths: ReproductionPaths,
    only: Collection[str] = (),
    *,
    seeds: Collection[int] = (),
    pretraining_seeds: Collection[int] = (),
) -> ReproductionPlan:
    """Make the plan of a declaration.

    Args:
        only: names of models, tasks and stages (`STAGES`). Each kind that is named restricts the
            chosen steps; the teacher of a chosen model is chosen too.
        seeds: of the fine-tunings that are chosen; empty = all.
        pretraining_seeds: of the models that are chosen; empty = all. A checkpoint, and a training with the recipe's
            own seed, are chosen in any case.

    Raises:
        UserError: a name is none of these, or no step has one of the seeds.
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
    chosen = _with_seeds(_choose(steps, declared, set(only)), seeds, pretraining_seeds)
    return ReproductionPlan(declared, paths, steps, chosen, missing, notices)


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
        if number == 0:
            steps += _compressions(declared, paths, tasks, trainings)
    return steps


def _compressions(
    declared: Declaration,
    paths: ReproductionPaths,
    tasks: Mapping[str, Task],
    trainings: Mapping[str, Training],
) -> Iterator[Compression]:
    """Yield the compressions: by the first replicate, after its evaluations, seed by seed."""
    if compress := declared.compression:
        available = [name for name in compress.tasks if name in tasks]
        for seed, name, model in product(compress.seeds, available, compress.models):
            yield Compression(
                declared.models[model],
                name,
                tasks[name],
                seed,
                trainings[model],
                trainings[compress.teacher],
                compress.unlabelled,
                compress.protocol,
                compress.teacher_protocol,
                paths,
            )


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
                protocol, own = {**declared.protocol, **measurement.protocol}, measurement.protocol
                yield Evaluation(model, available, seed, measurement.folds, protocol, paths, trained, own)


def _available_tasks(declared: Declaration) -> tuple[dict[str, Task], list[str]]:
    """Return the tasks whose files are here, by their names in the declaration, and what the others lack."""
    available: dict[str, Task] = {}
    missing = []
    for name in _task_names(declared):
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


def _task_names(declared: Declaration) -> list[str]:
    measured = [name for measurement in declared.measurements for name in measurement.tasks]
    return list(dict.fromkeys([*measured, *(declared.compression.tasks if declared.compression else ())]))


def _has_benchmarks() -> bool:
    folder = os.environ.get(DATA_VARIABLE)
    return bool(folder) and any((Path(folder) / task.place).is_dir() for task in tasks.TASKS.values())


def _choose(steps: Sequence[Step], declared: Declaration, only: set[str]) -> list[Step]:
    task_names = set(_task_names(declared))
    if unknown := sorted(only - set(STAGES) - task_names - set(declared.models)):
        known = [*STAGES, *declared.models, *sorted(task_names)]
        raise UsageError(f"unknown name {unknown[0]!r}", where="--only", remedy=f"one of {', '.join(known)}")
    models = only & set(declared.models) or set(declared.models)
    stages = only & set(STAGES) or set(STAGES)
    measured = only & task_names or task_names
    trained = set(models)
    if (compress := declared.compression) and Compression.stage in stages and models & set(compress.models):
        trained.add(compress.teacher)
    trained = set(with_teachers(sorted(trained), declared.models))
    chosen: list[Step] = []
    for step in steps:
        if step.stage not in stages:
            continue
        if isinstance(step, Training) and step.model.name in trained:
            chosen.append(step)
        if isinstance(step, Evaluation) and step.model.name in models and measured & step.tasks.keys():
            chosen.append(step.on(measured))
        if isinstance(step, Compression) and step.model.name in models and step.name in measured:
            chosen.append(step)
    return chosen


def _with_seeds(steps: Sequence[Step], seeds: Collection[int], pretraining_seeds: Collection[int]) -> list[Step]:
    """Return the steps of these seeds, all if none are named; of the trainings, those that the others need."""

    def pretraining_seed(step: Step) -> int | None:
        training = step if isinstance(step, Training) else step.needs
        return training and training.seed

    def seed(step: Step) -> int | None:
        return None if isinstance(step, Training) else step.seed

    for flag, named, seed_of in (
        ("--seeds", seeds, seed),
        ("--pretraining-seeds", pretraining_seeds, pretraining_seed),
    ):
        known = {number for step in steps if (number := seed_of(step)) is not None}
        if unknown := sorted(set(named) - known):
            remedy = f"one of {', '.join(map(str, sorted(known)))}" if known else "leave it out"
            raise UsageError(f"no step has seed {unknown[0]}", where=flag, remedy=remedy)
        steps = [step for step in steps if not named or seed_of(step) in (None, *named)]
    if not seeds:
        return list(steps)
    needed: set[Training] = set()
    for step in reversed(steps):  # a teacher comes before its students
        if not isinstance(step, Training) or step in needed:
            needed.update(step.requires)
    return [step for step in steps if not isinstance(step, Training) or step in needed]
