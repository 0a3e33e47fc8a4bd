"""Do the runs of a suite in several processes at the same time, each on its share of the cores.

One training on short sentences gains less from each further core; several trainings, each on few cores, use all of
them. Locks of runs keep other commands with the same file of records from doing them too.
"""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.evaluation.finetune import Method
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.suite_runs import (
    ExpectedTimes,
    SuiteOutcome,
    Survey,
    progress_line,
    run,
    say_what_is_kept,
)
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.workers import side_by_side


@dataclass(frozen=True)
class _Task:
    """A job with the line to print above its run, and the seconds that it takes in its process; 0 = unknown."""

    job: Job
    progress: str
    seconds: float


@dataclass(frozen=True)
class _Worker:
    """What a process needs for its work.

    Args:
        workspace, method: see `runs.Runner`.
        minutes: see `suite_runs.run`.
    """

    workspace: Workspace
    method: Method
    minutes: float | None

    def begin(self) -> Callable[[_Task], SuiteOutcome]:
        """Return what does a job, and returns its outcome without the record, which is in the file."""
        quiet_transformers()
        runner = Runner(self.workspace, self.method)
        ends = None if self.minutes is None else time.monotonic() + 60 * self.minutes

        def do(task: _Task) -> SuiteOutcome:
            surveyed = Survey(SuiteOutcome([], {}, []), [task.job], ExpectedTimes({task.job: task.seconds}))
            minutes = None if ends is None else (ends - time.monotonic()) / 60
            outcome = run([task.job], runner, minutes=minutes, surveyed=surveyed, progress=task.progress)
            return SuiteOutcome([], outcome.failed, outcome.remaining)

        return do


def run_in_processes(
    runner: Runner, surveyed: Survey, *, processes: int, cores: int, minutes: float | None = None
) -> SuiteOutcome:
    """Run the jobs that are not recorded, as `suite_runs.run` does, in several processes.

    Args:
        runner: the executor that surveyed them; each process has another one, of the same workspace and method.
        processes: at most as many as there are jobs.
        cores: of each process.
        minutes: see `suite_runs.run`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and the processes have saved their work.
    """
    waiting, outcome = surveyed.waiting, surveyed.outcome
    worker = _Worker(runner.workspace, runner.method, minutes)
    options = {"processes": processes, "cores": cores}
    try:
        results = side_by_side(worker.begin, _tasks(surveyed, processes), **options)
    except KeyboardInterrupt:
        say_what_is_kept(len(outcome.records) + len(_recorded(waiting, runner)), runner)
        raise
    recorded = _recorded(waiting, runner)
    outcome.records += recorded.values()
    for index, job in enumerate(waiting):
        if job in recorded:
            continue
        if index not in results:
            outcome.failed[str(job)] = "its process died"
        else:
            outcome.failed |= results[index].failed
            outcome.remaining += results[index].remaining
    return outcome


def _tasks(surveyed: Survey, processes: int) -> list[_Task]:
    jobs = surveyed.waiting
    seconds = [surveyed.forecast.seconds(job) for job in jobs]  # on all cores
    left = [*accumulate(reversed(seconds))][::-1]
    lines = [progress_line(job, index + 1, len(jobs), left[index]) for index, job in enumerate(jobs)]
    return [_Task(job, line, processes * each) for job, line, each in zip(jobs, lines, seconds, strict=True)]


def _recorded(jobs: Sequence[Job], runner: Runner) -> dict[Job, dict[str, Any]]:
    """Return the records of those jobs that have one. Why one cannot be used is in the outcome of its process."""
    runner.store.refresh()
    recorded = {}
    for job in jobs:
        with suppress(UserError):
            if (record := runner.find(job)) is not None:
                recorded[job] = record
    return recorded
