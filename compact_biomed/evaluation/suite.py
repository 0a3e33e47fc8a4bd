"""Many runs: models x tasks x folds x seeds; what is recorded is skipped, what fails is named."""

import errno
import math
import statistics
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from compact_biomed.benchmarks import tasks as tasks_module
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.console import duration, say
from compact_biomed.errors import UserError, from_os_error
from compact_biomed.evaluation.protocols import AS_IS, PROTOCOLS, Overrides, default_seeds
from compact_biomed.evaluation.runs import Job, Runner
from compact_biomed.records import in_turns
from compact_biomed.settings import read_settings

_NO_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


class SuiteKeys(TypedDict, total=False):
    """The keys of a suite's file, see `load`."""

    models: dict[str, str]
    tasks: list[str]
    ner_dirs: list[str]
    seeds: list[int]
    folds: list[int]
    protocol: str


@dataclass(frozen=True)
class Suite:
    """What is to be compared.

    Args:
        models: name -> checkpoint.
        seeds: of each run.
        folds: which folds of cross-validation sets, None = all.
    """

    models: dict[str, str]
    tasks: Sequence[Task]
    seeds: Sequence[int]
    protocol: str = "standard"
    folds: Sequence[int] | None = None
    overrides: Overrides = AS_IS

    def jobs(self) -> list[Job]:
        """All runs; seed by seed, so that what is there after a while compares all models on all tasks."""
        return [
            Job(name, start, task, fold, seed, self.protocol, self.overrides)
            for seed in dict.fromkeys(self.seeds)
            for task in dict.fromkeys(self.tasks)
            for fold in self._folds(task)
            for name, start in self.models.items()
        ]

    def _folds(self, task: Task) -> Sequence[int | None]:
        if not task.folds:
            return [None]
        return list(range(1, task.folds + 1)) if self.folds is None else list(dict.fromkeys(self.folds))

    def check(self, where: object, error: type[UserError] = UserError) -> "Suite":
        """The suite itself, if all of it can be done and told apart.

        Args:
            where: the file or the flags that it comes from.
            error: what is raised.

        Raises:
            UserError (or `error`): a protocol, seed or fold that does not exist, or two sets of one name.
        """
        if self.protocol not in PROTOCOLS:
            raise error(f"no protocol {self.protocol!r}", where=where, remedy=f"one of {', '.join(PROTOCOLS)}")
        if not self.seeds or not all(0 <= seed < 2**32 for seed in self.seeds):
            raise error("seeds are whole numbers from 0 to 2^32 - 1, at least one", where=where)
        if bad := [name for name in self.models if not name.strip() or not name.isprintable()]:
            raise error(f"{bad[0]!r} is no name of a model", where=where, remedy="letters on one line; see --name")
        places = {task.name: task.place for task in self.tasks}
        if twin := next((task for task in self.tasks if task.place != places[task.name]), None):
            raise error(f"two sets are called {twin.name}", where=where, remedy="rename one of the folders")
        if self.folds is not None:
            most = max(task.folds for task in self.tasks)
            if not most:
                raise error("none of the tasks has folds", where=where, remedy="leave the folds out")
            if not self.folds or not all(1 <= fold <= most for fold in self.folds):
                raise error(f"folds {list(self.folds)}", where=where, remedy=f"numbers from 1 to {most}")
        return self


def load(path: Path | str, overrides: Overrides = AS_IS) -> Suite:
    """Read a suite's file.

    It is TOML: `tasks` (names), `ner_dirs` (folders), `seeds`, `folds`, `protocol`, and the table
    `[models]` with a checkpoint for each name.

    Raises:
        UserError: not TOML, an unknown key, or something missing.
    """
    file = read_settings(path, SuiteKeys)
    content = file.content
    if not content.get("models"):
        raise UserError(
            "no models", where=file.where(), remedy='add a table [models] with lines such as NAME = "FOLDER"'
        )
    try:
        named = [tasks_module.task_named(name) for name in content.get("tasks", [])]
    except UserError as error:  # which names a flag
        raise UserError(
            error.what, where=file.where("tasks"), remedy=f"one of {', '.join(tasks_module.TASKS)}, or ner_dirs"
        ) from error
    try:
        named += [tasks_module.ner_task_from_folder(folder) for folder in content.get("ner_dirs", [])]
    except UserError as error:
        raise UserError(error.what, where=f"{file.where('ner_dirs')}: {error.where}", remedy=error.remedy) from error
    if not named:
        raise UserError("no tasks", where=file.where(), remedy='add a line such as tasks = ["NCBI-disease"]')
    protocol = content.get("protocol", "standard")
    seeds = content.get("seeds", default_seeds(protocol))
    return Suite(content["models"], named, seeds, protocol, content.get("folds"), overrides).check(file.path)


@dataclass
class Tally:
    """What became of the jobs."""

    done: list[dict[str, Any]]
    failed: dict[str, str]  # job -> why
    left: list[Job]


def run(jobs: Sequence[Job], runner: Runner, *, minutes: float | None = None) -> Tally:
    """Do what is not recorded; what another process is at comes last, when it has ended.

    Args:
        minutes: begin nothing that would probably end later than that.
    """
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    tally, waiting, busy = Tally([], {}, []), [], []
    for job in jobs:
        _guarded(tally, job, lambda job=job: _sort(job, runner, tally, waiting))
    if tally.done:
        say(f"{len(tally.done)} of {len(jobs)} runs are recorded already.")
    asked = len(waiting)
    for job, left in in_turns(waiting, busy):
        if time.monotonic() + _expected(job, runner) > ends:
            tally.left = left
            break
        place = f"[{asked - len(left) + 1}/{asked}]"
        _guarded(tally, job, lambda job=job, left=left, place=place: _do(job, place, left, runner, tally, busy))
    return tally


def _sort(job: Job, runner: Runner, tally: Tally, waiting: list[Job]) -> None:
    record = runner.recorded(job)
    if record is None:
        waiting.append(job)
    else:
        tally.done.append(record)


def _do(job: Job, place: str, left: Sequence[Job], runner: Runner, tally: Tally, busy: list[Job]) -> None:
    def now() -> dict[str, Any]:
        expected = sum(_expected(other, runner) for other in left)
        say(f"{place} {job}" + (f", about {duration(expected)} left" if expected else ""))
        record = runner.run(job)
        how = record["how"]
        say(f"  {record['task']['metric']} {record['score']:.2f} on test; {duration(how['seconds'])}, "
            f"{how['tokens_per_second']:,.0f} tokens/s in training")  # fmt: skip
        return record

    # It may be recorded by now: by another process, or under another name of the same model.
    record = runner.once(runner.name(job), lambda: runner.recorded(job), now)
    if record is None:
        busy.append(job)
    else:
        tally.done.append(record)


def _guarded(tally: Tally, job: Job, work: Callable[[], None]) -> None:
    """A run that cannot be done is named; the others go on."""
    try:
        work()
    except UserError as error:
        _fail(tally, job, str(error))
    except OSError as error:
        if error.errno in _NO_PLACE:  # what comes next could not be recorded either
            raise
        _fail(tally, job, str(from_os_error(error) or error))
    except Exception as error:  # a defect, or a checkpoint that transformers chokes on: the others shall not suffer
        tally.failed[str(job)] = f"{type(error).__name__}: {error}"
        say(f"  failed: {job}:\n{traceback.format_exc()}")


def _fail(tally: Tally, job: Job, why: str) -> None:
    """Name it; what several jobs fail of, as the folds of a set that is not there, is said once."""
    if why not in tally.failed.values():
        say(f"  failed: {job}: {why}")
    tally.failed[str(job)] = why


def _expected(job: Job, runner: Runner) -> float:
    """Seconds that a job may take, from finished runs of the same task, else of any; 0 = no idea."""
    known = [line.record for line in runner.store.lines if _is_timed(line.record)]
    alike = [r for r in known if r["task"]["name"] == job.task.name]
    same = [r for r in alike if r["model"]["name"] == job.model]
    seconds = [r["how"]["seconds"] for r in same or alike or known]
    return sum(seconds) / len(seconds) if seconds else 0.0


def _is_timed(record: dict[str, Any]) -> bool:
    """Whether it tells of what, and how long it took: not so a damaged one, which tables name."""
    task, model, how = (record.get(name) for name in ("task", "model", "how"))
    if not all(isinstance(part, dict) for part in (task, model, how)):
        return False
    return "name" in task and "name" in model and isinstance(how.get("seconds"), int | float)


# ----------------------------------------------------------------------------------------------------
# The words around evaluation: what will be done, and what came of it.


def plan_of_runs(suite: Suite, jobs: Sequence[Job]) -> None:
    """What is to be done."""
    models, named = ", ".join(suite.models), ", ".join(task.name for task in suite.tasks)
    seeds = ", ".join(map(str, suite.seeds))
    say(f"{len(jobs)} run(s): {models} on {named}; seeds {seeds}; protocol {suite.protocol}")
    if given := suite.overrides.given():
        changed = ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in given.items())
        say(f"In place of the protocol's: {changed}. Such scores stand apart in tables.")


def summary(tally: Tally, records: Path) -> None:
    """Scores, where they lie, what failed, what is left, what to do next."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in tally.done:
        metric = f"{record['task']['name']} ({record['task']['metric']})"
        groups.setdefault((record["model"]["name"], metric, _size(record)), []).append(record)
    if groups:
        wide = [max(len(key[i]) for key in groups) for i in (0, 1)]
        say(
            f"\n{'model':<{wide[0]}}  {'task (metric)':<{max(wide[1], 13)}}  {'mean':>6}  {'sd':>5}  {'n':>3}  test set"
        )
        for (model, metric, test), found in groups.items():
            scores = _by_seed(found)
            deviation = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
            say(f"{model:<{wide[0]}}  {metric:<{max(wide[1], 13)}}  {statistics.mean(scores):>6.2f}  {deviation:>5}  "
                f"{len(scores):>3}  {test}")  # fmt: skip
        say(f"\n  records    {records}   one line a run, with its settings; each example's numbers beside")
    if tally.failed:
        runs = f"{len(tally.failed)} run{'s' * (len(tally.failed) > 1)}"
        first = next(iter(tally.failed))
        told = "; ".join(tally.failed) if len(tally.failed) <= 5 else f"{first} first"
        say(f"\n{runs} failed, as said above: {told}")
    if tally.left:
        say(f"\nThe time is up; {len(tally.left)} runs are left, {tally.left[0]} first. The same command goes on.")
    elif tally.done and not tally.failed and len(tally.done) < 5:
        say("\nNext: more seeds (--seeds 1,2,3,4,5) tell chance from difference.")


def _by_seed(found: Sequence[dict[str, Any]]) -> list[float]:
    """One score a seed; folds are averaged within it, as in tables."""
    seeds: dict[int, list[float]] = {}
    for record in found:
        seeds.setdefault(record["seed"], []).append(record["score"])
    return [statistics.mean(scores) for scores in seeds.values()]


def _size(record: dict[str, Any]) -> str:
    if record["task"]["fold"] is not None:
        return "folds"
    questions = record.get("counts", {}).get("questions")  # several contexts may belong to one
    return f"{questions:,} questions" if questions else f"{record['task']['examples']['test']:,} examples"
