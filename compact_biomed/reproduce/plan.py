"""The plan: which steps there are here, with the data at hand, and which of them are asked for."""

import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.evaluation import tasks
from compact_biomed.evaluation.tasks import DATA_VARIABLE, Task
from compact_biomed.reproduce.declaration import Declaration
from compact_biomed.reproduce.steps import Evaluation, Places, Step, Training, steps_of

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
            from compact_biomed.reproduce.smoke_task import smoke_task_folder

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
