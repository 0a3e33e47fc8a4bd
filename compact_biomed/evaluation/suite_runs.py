"""Run the jobs of a suite: skip what is recorded, and go on after failures."""

import errno
import math
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from compact_biomed.console import counted, duration, say
from compact_biomed.errors import UserError, from_os_error
from compact_biomed.evaluation.forecast import Forecast
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.scoring import words_cut_off
from compact_biomed.records.locks import in_turns

_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


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
    """Run the jobs that are not recorded. Jobs locked by other processes are retried last.

    Args:
        minutes: start no run that is expected to end after so many minutes.
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
    recorded = f"{counted(recorded, 'run')} recorded in {runner.store.path}"
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
