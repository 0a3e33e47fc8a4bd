"""A comparison: models x tasks x folds x seeds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from compact_biomed.benchmarks.own import OwnData, own_task
from compact_biomed.benchmarks.tasks import TASKS, Task, ner_task_from_folder, task_named, zero_shot
from compact_biomed.errors import UserError, flag_of
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.protocols import (
    NO_OVERRIDES,
    PROTOCOLS,
    ZERO_SHOT,
    Overrides,
    default_seeds,
)
from compact_biomed.settings import SettingsFile, read_settings


class SuiteKeys(TypedDict, total=False):
    """The keys of a suite's file, see `load`."""

    models: dict[str, str]
    tasks: list[str]
    ner_dirs: list[str]
    data: list[OwnData]
    seeds: list[int]
    folds: list[int]
    protocol: str


@dataclass(frozen=True)
class Suite:
    """A comparison: every model on every task, with every seed. What is listed twice counts once.

    Args:
        models: name -> checkpoint.
        folds: folds of cross-validation sets; None = all.
    """

    models: dict[str, str]
    tasks: Sequence[Task]
    seeds: Sequence[int]
    protocol: str = "standard"
    folds: Sequence[int] | None = None
    overrides: Overrides = NO_OVERRIDES

    def __post_init__(self) -> None:
        for name in ("tasks", "seeds", "folds"):
            if (values := getattr(self, name)) is not None:
                object.__setattr__(self, name, list(dict.fromkeys(values)))

    def jobs(self) -> list[Job]:
        """Return all runs, seed by seed, so that an interrupted suite compares all models on all tasks.

        Tasks without training have one run per model, whatever the seeds and the protocol.
        """
        jobs = (
            Job(name, start, task, fold, 0, ZERO_SHOT)
            if task.untrained
            else Job(name, start, task, fold, seed, self.protocol, self.overrides)
            for seed in self.seeds
            for task in dict.fromkeys(self._tasks())
            for fold in self._folds(task)
            for name, start in self.models.items()
        )
        return list(dict.fromkeys(jobs))

    def _tasks(self) -> Sequence[Task]:
        return [zero_shot(task) for task in self.tasks] if self.protocol == ZERO_SHOT else self.tasks

    def _folds(self, task: Task) -> Sequence[int | None]:
        if not task.folds:
            return [None]
        return list(range(1, task.folds + 1)) if self.folds is None else self.folds

    def check(self, where: object, error: type[UserError] = UserError) -> "Suite":
        """Return the suite itself if every run is possible and has a name of its own.

        Args:
            where: the file or the flags that define the suite.
            error: class of the errors to raise.

        Raises:
            UserError (or `error`): a protocol, seed or fold that does not exist, or two sets of one name.
        """
        if not self.models:
            raise error("no models", where=where, remedy="name at least one checkpoint")
        if self.protocol not in PROTOCOLS:
            raise error(f"no protocol {self.protocol!r}", where=where, remedy=f"one of {', '.join(PROTOCOLS)}")
        if self.protocol == ZERO_SHOT and (changed := list(self.overrides.changed())):
            raise error(f"{changed[0]} without training", where=where, remedy="leave it out")
        self._tasks()  # each of them can be scored by the protocol
        if not self.seeds or not all(0 <= seed < 2**32 for seed in self.seeds):
            what = f"not a list of seeds: {list(self.seeds)}"
            raise error(what, where=where, remedy="give at least one whole number from 0 to 2^32 - 1")
        for name, value in self.overrides.changed().items():
            values = value if isinstance(value, list) else [value]
            if not values or not all(0 < each < math.inf for each in values):
                remedy = "give at least one number above 0" if isinstance(value, list) else "give a number above 0"
                raise error(f"{name} {value}", where=where, remedy=remedy)
        if (twice := self.overrides.contradiction()) is not None:
            what = " and ".join(flag_of(name) for name in twice)
            raise error(f"{what} at the same time", where=where, remedy="leave one of them out")
        if bad := [name for name in ("layer_decay", "average_last") if (getattr(self.overrides, name) or 0) > 1]:
            raise error(f"{bad[0]} {getattr(self.overrides, bad[0])}", where=where, remedy="give a share, at most 1")
        if bad := [name for name in self.models if not name.strip() or not name.isprintable()]:
            raise error(f"{bad[0]!r} is no name of a model", where=where, remedy="use printable letters; see --name")
        folders = {task.name: task.place for task in self.tasks}
        if twin := next((task for task in self.tasks if task.place != folders[task.name]), None):
            remedy = "rename one of the folders, or give --task-name"
            raise error(f"two sets are called {twin.name}", where=where, remedy=remedy)
        if self.folds is not None:
            most = max(task.folds for task in self._tasks())
            if not most:
                raise error("none of the tasks has folds", where=where, remedy="leave the folds out")
            if not self.folds or not all(1 <= fold <= most for fold in self.folds):
                raise error(f"folds {list(self.folds)}", where=where, remedy=f"numbers from 1 to {most}")
        return self


def load(path: Path | str, overrides: Overrides = NO_OVERRIDES) -> Suite:
    """Read a suite from a TOML file.

    Its keys are `tasks` (names), `ner_dirs` (folders), `seeds`, `folds`, `protocol`, a table `[models]` of
    name = checkpoint, and for each task of your own a table `[[data]]` with the keys of `benchmarks.own.OwnData`.

    Raises:
        UserError: not TOML, an unknown key, or missing models or tasks.
    """
    file = read_settings(path, SuiteKeys)
    content = file.content
    if not content.get("models"):
        remedy = 'add a table [models] with lines such as NAME = "FOLDER"'
        raise UserError("no models", where=file.where(), remedy=remedy)
    protocol = content.get("protocol", "standard")
    seeds = content.get("seeds", default_seeds(protocol))
    suite = Suite(content["models"], _tasks_of(file), seeds, protocol, content.get("folds"), overrides)
    return suite.check(file.path)


def _tasks_of(file: SettingsFile) -> list[Task]:
    try:
        tasks = [task_named(name) for name in file.content.get("tasks", [])]
    except UserError as error:  # whose remedy names a flag
        remedy = f"one of {', '.join(TASKS)}, or ner_dirs or [[data]]"
        raise UserError(error.what, where=file.where("tasks"), remedy=remedy) from error
    try:
        tasks += [ner_task_from_folder(folder) for folder in file.content.get("ner_dirs", [])]
    except UserError as error:
        raise UserError(error.what, where=f"{file.where('ner_dirs')}: {error.where}", remedy=error.remedy) from error
    for own in file.content.get("data", []):
        try:
            tasks.append(own_task(**own))
        except UserError as error:
            raise UserError(error.what, where=f"{file.where('data')}: {error.where}", remedy=error.remedy) from error
    if not tasks:
        raise UserError("no tasks", where=file.where(), remedy='add a line such as tasks = ["NCBI-disease"]')
    return tasks
