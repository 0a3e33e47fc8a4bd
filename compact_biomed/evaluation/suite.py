"""Many runs: models x tasks x folds x seeds.

Recorded runs are skipped, and a run that fails does not stop the others.
"""

import errno
import math
import statistics
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from compact_biomed.benchmarks.own import OwnData, own_task
from compact_biomed.benchmarks.tasks import TASKS, Task, ner_task_from_folder, task_named, zero_shot
from compact_biomed.console import duration, say, shortened
from compact_biomed.errors import UserError, flag_of, from_os_error
from compact_biomed.evaluation.analysis import summary
from compact_biomed.evaluation.forecast import Forecast
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.protocols import (
    NO_OVERRIDES,
    PROTOCOLS,
    ZERO_SHOT,
    Overrides,
    changes_in_words,
    default_seeds,
)
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.scoring import words_cut_off
from compact_biomed.settings import SettingsFile, read_settings
from compact_biomed.sharing import in_turns

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
_MOST_DETAILS = 3  # models and tasks whose scores per type are printed


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
    """A comparison: every model on every task, with every seed.

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

    def jobs(self) -> list[Job]:
        """Return all runs, seed by seed, so that an interrupted suite compares all models on all tasks.

        Tasks without training have one run per model, whatever the seeds and the protocol.
        """
        jobs = (
            Job(name, start, task, fold, 0, ZERO_SHOT)
            if task.untrained
            else Job(name, start, task, fold, seed, self.protocol, self.overrides)
            for seed in dict.fromkeys(self.seeds)
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
        return list(range(1, task.folds + 1)) if self.folds is None else list(dict.fromkeys(self.folds))

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


# ---- running


@dataclass
class SuiteOutcome:
    """The state of a suite's jobs after a command.

    Args:
        records: of finished runs, now or before.
        failed: job -> reason.
        remaining: jobs that were not begun for lack of time.
    """

    records: list[dict[str, Any]]
    failed: dict[str, str]
    remaining: list[Job]


@dataclass(frozen=True)
class Survey:
    """The jobs of a suite, looked up before any of them is begun.

    Args:
        outcome: records of finished jobs, and jobs that cannot be done.
        waiting: jobs that are not recorded.
        forecast: of what those cost; in one of several processes, what the first one expects.
    """

    outcome: SuiteOutcome
    waiting: list[Job]
    forecast: "Forecast | ExpectedTimes"


@dataclass(frozen=True)
class ExpectedTimes:
    """What jobs take on a share of the cores.

    Args:
        times: job -> seconds; 0 = unknown.
    """

    times: Mapping[Job, float]

    def seconds(self, job: Job) -> float:
        """Return the expected time of a job."""
        return self.times[job]


def survey(jobs: Sequence[Job], runner: Runner) -> Survey:
    """Look up which jobs are recorded, and estimate what the others cost."""
    surveyed = Survey(SuiteOutcome([], {}, []), [], Forecast(runner))

    def look_up(job: Job) -> None:
        if (record := runner.find(job)) is not None:
            surveyed.outcome.records.append(record)
            runner.checkpoint(runner.key(job)).remove()  # a kill may have left it
        else:
            surveyed.forecast.add(job)
            surveyed.waiting.append(job)

    for job in jobs:
        _guarded(surveyed.outcome, job, look_up)
    surveyed.forecast.measure()
    return surveyed


def run(
    jobs: Sequence[Job],
    runner: Runner,
    *,
    minutes: float | None = None,
    surveyed: Survey | None = None,
    progress: str | None = None,
) -> SuiteOutcome:
    """Run the jobs that are not recorded. Jobs claimed by other processes are retried last.

    Args:
        minutes: begin no run that would probably end later than that.
        surveyed: what `survey` returned for these jobs, if it was called before.
        progress: the line above a run, where another process counts them and says what Ctrl-C leaves.
    """
    ends = math.inf if minutes is None else time.monotonic() + 60 * minutes
    surveyed = surveyed or survey(jobs, runner)
    outcome, forecast, busy = surveyed.outcome, surveyed.forecast, []
    total = len(surveyed.waiting)
    for job, left in in_turns(surveyed.waiting, busy):
        if time.monotonic() + forecast.seconds(job) > ends:
            outcome.remaining = left
            break

        def run_or_wait(job: Job, left: Sequence[Job] = left) -> None:
            # It may be recorded by now: by another process, or under another name of the same model.
            number = surveyed.waiting.index(job) + 1
            above = progress or progress_line(job, number, total, sum(map(forecast.seconds, left)))
            try:
                record = runner.find_or_do(
                    runner.key(job), lambda: runner.find(job), lambda: _run_and_report(job, above, runner)
                )
            except KeyboardInterrupt:
                if progress is None:
                    say_what_is_kept(len(outcome.records), runner)
                raise
            if record is None:
                busy.append(job)
            else:
                outcome.records.append(record)

        _guarded(outcome, job, run_or_wait)
    return outcome


def progress_line(job: Job, number: int, total: int, seconds: float) -> str:
    """Return the line above a run: which it is of how many, and the time that all that are left take; 0 = unknown."""
    return f"[{number}/{total}] {job}" + f", about {duration(seconds)} left" * bool(seconds)


def _run_and_report(job: Job, progress: str, runner: Runner) -> dict[str, Any]:
    say(progress)
    record = runner.run(job)
    performance, score = record["how"], f"{record['task']['metric']} {record['score']:.2f}"
    trained = f", {performance['tokens_per_second']:,.0f} tokens/s in training" if performance["steps"] else ""
    say(f"  {score} on test; {duration(performance['seconds'])}{trained}")
    if cut := words_cut_off(record["counts"]):
        say(f"  {cut}")
    return record


def say_what_is_kept(recorded: int, runner: Runner) -> None:
    """Print what an interrupted command leaves: the number of runs that are recorded, and checkpoints."""
    folder = runner.checkpoint("").folder
    recorded = f"{_runs(recorded)} recorded in {runner.store.path}"
    in_progress = f"; the training in progress is in {folder}" if folder.is_dir() else ""
    say(f"\nKept: {recorded}{in_progress}. The same command continues.")


def _guarded(outcome: SuiteOutcome, job: Job, work: Callable[[Job], None]) -> None:
    """Call `work(job)`; note and print why it fails, unless no further run could be recorded either."""
    try:
        work(job)
    except UserError as error:
        _fail(outcome, job, str(error))
    except OSError as error:
        if error.errno in _NO_SPACE:
            raise
        _fail(outcome, job, str(from_os_error(error) or error))
    except Exception as error:  # a defect, or a checkpoint that transformers cannot handle: the others shall not suffer
        outcome.failed[str(job)] = f"{type(error).__name__}: {error}"
        say(f"  failed: {job}:\n{traceback.format_exc()}")


def _fail(outcome: SuiteOutcome, job: Job, reason: str) -> None:
    # Several jobs may fail for one reason, such as the folds of a missing set; it is printed once.
    if reason not in outcome.failed.values():
        say(f"  failed: {job}: {reason}")
    outcome.failed[str(job)] = reason


# ---- output


def print_plan(suite: Suite, jobs: Sequence[Job], surveyed: Survey) -> None:
    """Print which runs the suite consists of, and what those cost that are not recorded."""
    models, tasks = ", ".join(suite.models), ", ".join(task.name for task in suite.tasks)
    seeds = ", ".join(map(str, suite.seeds))
    say(f"{_runs(len(jobs))}: {models} on {tasks}; seeds {seeds}; protocol {suite.protocol}")
    if changed := suite.overrides.changed():
        say(f"In place of the protocol's: {changes_in_words(changed)}. Tables keep such scores apart.")
    for line in surveyed.forecast.lines(jobs):
        say(line)


def print_summary(outcome: SuiteOutcome, records: Path) -> None:
    """Print the mean scores, the path of the records, failed and remaining runs, and the next command."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in outcome.records:
        metric = f"{record['task']['name']} ({record['task']['metric']})"
        groups.setdefault((record["model"]["name"], metric, _test_size(record)), []).append(record)
    if groups:
        rows = [("model", "task (metric)", "mean", "sd", "seeds", "test set")]
        for (model, metric, size), group in groups.items():
            scores = scores_by_seed(group)
            deviation = f"{statistics.stdev(scores):.2f}" if len(scores) > 1 else "-"
            names = shortened(model), shortened(metric)
            rows.append((*names, f"{statistics.mean(scores):.2f}", deviation, str(len(scores)), size))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        say("\nScores on test in percent: mean and standard deviation over seeds")
        for row in rows:
            names, numbers = zip(row[:2], widths[:2], strict=True), zip(row[2:5], widths[2:5], strict=True)
            cells = [*(cell.ljust(width) for cell, width in names), *(cell.rjust(width) for cell, width in numbers)]
            say("  ".join([*cells, row[5]]))
        _print_details(list(groups.values()))
        say(f"\nRecords: {records} (one line per run)")
    if outcome.failed:
        first = next(iter(outcome.failed))
        listed = "; ".join(outcome.failed) if len(outcome.failed) <= 5 else f"{first} and others"
        say(f"\n{_runs(len(outcome.failed))} failed for the reasons above: {listed}")
    if left := outcome.remaining:
        runs = "1 run is left" if len(left) == 1 else f"{len(left)} runs are left, beginning with"
        say(f"\nTime is up; {runs} {left[0]}. Run the same command again to continue.")
    elif outcome.records and not outcome.failed:
        say(f"\nNext: compact-biomed tables --records {records}")
        if len(outcome.records) < 5 and any(record["how"]["steps"] for record in outcome.records):
            say("      More seeds (--seeds 1,2,3,4,5) show how much a score varies by chance.")


def _print_details(groups: Sequence[Sequence[dict[str, Any]]]) -> None:
    """Print what is behind the scores of each model and task; of many, say where it is."""
    detailed = [group for group in groups if any(record.get("analysis") for record in group)]
    if len(detailed) > _MOST_DETAILS:
        say("\nScores per type and class, confusions and calibration: `analysis` in each record")
        return
    for group in detailed:
        model, task = group[0]["model"]["name"], group[0]["task"]["name"]
        runs = f", mean of {len(group)} runs" if len(group) > 1 else ""
        say(f"\n{shortened(model)} on {shortened(task)}{runs}")
        for line in summary.lines_of(group):
            say(line)


def scores_by_seed(records: Iterable[dict[str, Any]]) -> list[float]:
    """Return one score per seed, the mean over its folds, as in tables."""
    seeds: dict[int, list[float]] = {}
    for record in records:
        seeds.setdefault(record["seed"], []).append(record["score"])
    return [statistics.mean(scores) for scores in seeds.values()]


def _runs(number: int) -> str:
    return f"{number} run{'s' * (number != 1)}"


def _test_size(record: dict[str, Any]) -> str:
    if record["task"]["fold"] is not None:
        return "folds"
    questions = record.get("counts", {}).get("questions")  # one question may have several contexts
    return f"{questions:,} questions" if questions else f"{record['task']['examples']['test']:,} examples"
