"""Do the runs of a suite in several processes at the same time, each on its share of the cores.

One training on short sentences gains less from each further core; several trainings, each on few cores, use all of
them. The processes divide the runs by the claims in which any two commands with one file of records do so.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.suite import ExpectedTimes, SuiteOutcome, Survey, run, say_what_is_kept
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.records import Records
from compact_biomed.workers import side_by_side


@dataclass(frozen=True)
class _Work:
    """What each of the processes does: as many of the jobs as the others leave to it.

    Args:
        records: file of the records.
        make_runner: makes the executor of jobs, given the records.
        jobs: those that are not recorded.
        expected: what they take.
        minutes: see `suite.run`.
    """

    records: Path
    make_runner: Callable[[Records], Runner]
    jobs: Sequence[Job]
    expected: ExpectedTimes
    minutes: float | None

    def do(self) -> SuiteOutcome:
        quiet_transformers()
        runner = self.make_runner(Records(self.records))
        surveyed = Survey(SuiteOutcome([], {}, []), list(self.jobs), self.expected)
        return run(self.jobs, runner, minutes=self.minutes, surveyed=surveyed, processes=self.expected.processes)


def run_in_processes(
    runner: Runner,
    make_runner: Callable[[Records], Runner],
    surveyed: Survey,
    *,
    processes: int,
    minutes: float | None = None,
) -> SuiteOutcome:
    """Run the jobs that are not recorded, as `suite.run` does, in several processes.

    Args:
        runner: the executor that surveyed them.
        make_runner: makes another one, given the records; it is pickled.
        processes: at most as many as there are jobs.
        minutes: see `suite.run`.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed, and the processes have saved their work.
    """
    waiting, outcome = surveyed.waiting, surveyed.outcome
    expected = ExpectedTimes({job: surveyed.forecast.seconds(job) for job in waiting}, processes)
    work = _Work(runner.store.path, make_runner, waiting, expected, minutes)
    try:
        results = side_by_side(_Work.do, [work] * processes)
    except KeyboardInterrupt:
        runner.store.refresh()
        say_what_is_kept(len(outcome.records) + len(_recorded(waiting, runner)), runner)
        raise
    runner.store.refresh()
    recorded = _recorded(waiting, runner)
    outcome.records += recorded.values()
    failed = {job: reason for result in results if result is not None for job, reason in result.failed.items()}
    for job in waiting:
        if job in recorded:
            continue
        if (reason := failed.get(str(job))) is not None:
            outcome.failed[str(job)] = reason
        elif None in results:
            outcome.failed[str(job)] = "a process died"
        else:
            outcome.remaining.append(job)
    return outcome


def _recorded(jobs: Sequence[Job], runner: Runner) -> dict[Job, dict]:
    return {job: record for job in jobs if (record := runner.find(job)) is not None}
