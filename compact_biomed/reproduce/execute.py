"""Do the remaining steps of a plan within a time limit.

A step that fails does not stop the others. Running the same command again continues with what remains.
"""

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any

from compact_biomed.console import say
from compact_biomed.machine import usable_cores
from compact_biomed.records.store import append_new
from compact_biomed.reproduce.compression import Compression
from compact_biomed.reproduce.costs import StepCost
from compact_biomed.reproduce.processes import ITSELF, USER, Ended, Launcher, Share, Turns
from compact_biomed.reproduce.steps import Evaluation, Step, Training, remaining

Costs = Callable[[Sequence[Step]], Mapping[Step, StepCost]]
"""Returns the costs of what remains of some steps, as `CostEstimator.remaining` does."""

_SHORTEST_STEP = 20.0  # seconds; with less time left no process is started
# Fields of a training's record that are copied to results/; the loss curve stays in the run's folder.
_KEPT = ("kind", "hyperparameters", "corpus", "start_sha256", "speed", "parameters", "tokens", "flops", "seconds")
_KEPT += ("peak_memory_bytes", "heldout", "weights_sha256", "from")


@dataclass
class StepOutcomes:
    """What became of the steps.

    Args:
        failed: step -> reason.
        remaining: not done when time was up or Ctrl-C was pressed.
        too_long: trainings that were not begun because they would not end within the time limit.
        interrupted: whether Ctrl-C was pressed.
    """

    done: list[Step] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    remaining: list[Step] = field(default_factory=list)
    too_long: list[Training] = field(default_factory=list)
    interrupted: bool = False


def execute(
    steps: Sequence[Step],
    launch: Launcher,
    *,
    minutes: float | None = None,
    costs: Costs | None = None,
    continue_later: bool = False,
    jobs: int = 1,
    lock: int | None = None,
) -> StepOutcomes:
    """Run the steps that remain (`steps.remaining`), in an order that finishes whole things within the time limit.

    A training is begun if it and the evaluations of its model fit into the time that is left; if there is no such
    training, if it and a score on one task fit. What does not fit is left for a longer slice, with all that needs it.

    Args:
        launch: runs a command, as `processes.Launcher` does.
        minutes: time limit. A training that it cuts off is saved and resumes next time on the same machine; a
            fine-tuning that would probably exceed it is not begun.
        costs: estimates the costs of what remains of some steps; without it, and without a limit, all are begun.
        continue_later: begin trainings that cannot end within the limit, too.
        jobs: steps that run at the same time, each on its share of the cores.
        lock: passed to `launch`.
    """
    for training in (step for step in steps if isinstance(step, Training) and step.here()):
        _record(training)  # a reproduction that was killed may not have
    pending = remaining(steps)
    done = [step for step in steps if step not in pending]
    slice_ = _Slice(launch, minutes, jobs, lock)
    selective = minutes is not None and costs is not None and not continue_later
    return _Execution(pending, slice_, StepOutcomes(done), costs if selective else None).run()


class _Execution:
    """The steps of a call of `execute`: `pending` ones, `running` ones, and the `outcomes` of those before.

    Args:
        costs: estimates what remains of steps; None = whether they fit into the slice is not asked.
    """

    def __init__(self, pending: list[Step], slice_: "_Slice", outcomes: StepOutcomes, costs: Costs | None):
        self.pending, self.slice, self.outcomes, self.costs = pending, slice_, outcomes, costs
        self.running: dict[Future[Ended], Step] = {}
        self._total, self._stopped = len(pending), False

    def run(self) -> StepOutcomes:
        """Begin steps as long as there is a place for them, and note their ends, until none is left or may begin."""
        with _workers(self.slice.jobs, self.slice.launch) as start:
            while True:
                while len(self.running) < self.slice.jobs and (step := self._next()) is not None:
                    self.running[start(self.slice.run, step)] = step
                if not self.running:
                    break
                for future in _first_completed(self.running, self.slice.launch):
                    self._note(self.running.pop(future), future.result())
        self.outcomes.remaining += self.pending
        return self.outcomes

    def _next(self) -> Step | None:
        """Take the next step from those that are pending; None if none may begin now."""
        while self.pending and not self._stopped:
            if self.slice.is_over():
                self._stopped = True
                break
            if (step := self._chosen()) is None:
                if not self.running:  # whose end could change it
                    self.outcomes.too_long = [each for each in self.pending if isinstance(each, Training)]
                    self._stopped = True
                break
            self.pending.remove(step)
            if absent := [training for training in step.requires if not training.here()]:
                self.outcomes.failed[str(step)] = f"{absent[0].model.name} is not trained"
                continue
            say(f"\n=== [{self._total - len(self.pending)}/{self._total}] {step}")
            return step
        return None

    def _chosen(self) -> Step | None:
        """Return the first step that waits for no training that is running or will run, and fits into the slice."""
        later = [*self.running.values(), *self.pending]
        ready = [step for step in self.pending if not any(training in later for training in step.requires)]
        if self.costs is None:
            return next(iter(ready), None)
        return _choose_next(ready, self.pending, self.costs(self.pending), self.slice.seconds() / self.slice.jobs)

    def _note(self, step: Step, ended: Ended) -> None:
        """Note what became of a step. After one that was cut off no other begins."""
        outcomes = self.outcomes
        if _note_if_done(step, outcomes):
            return
        if ended.by != ITSELF or (ended.status == 0 and self.slice.seconds() is not None):
            outcomes.remaining.append(step)
            outcomes.interrupted |= ended.by == USER
            self._stopped = True
        else:
            outcomes.failed[str(step)] = _failure(ended.status)
            say(f"  failed: {step}: {outcomes.failed[str(step)]}")


@contextmanager
def _workers(jobs: int, launch: Launcher) -> Iterator[Callable[..., Future[Ended]]]:
    """Yield a function that starts a call and returns its future: in a thread if `jobs` > 1, else in this thread.

    An error, or Ctrl-C, within the block ends the commands too.
    """
    if jobs > 1:
        with ThreadPoolExecutor(jobs) as pool:
            try:
                yield pool.submit
            except BaseException:
                launch.interrupt()
                raise
        return

    def call(work: Callable[..., Ended], *arguments: Any) -> Future[Ended]:
        future: Future[Ended] = Future()
        future.set_result(work(*arguments))
        return future

    yield call


def _first_completed(running: Collection[Future[Ended]], launch: Launcher) -> Collection[Future[Ended]]:
    """Wait until at least one call has ended. Ctrl-C is forwarded to the commands, and the wait goes on."""
    while True:
        try:
            return wait(running, return_when=FIRST_COMPLETED).done
        except KeyboardInterrupt:
            launch.interrupt()


def _choose_next(
    ready: Sequence[Step], pending: Sequence[Step], costs: Mapping[Step, StepCost], left: float
) -> Step | None:
    """Return the step among `ready` to do within `left` seconds, None if there is none that can be finished.

    Steps are tried in their order: first those with which a model can be finished (its trainings and all of its
    evaluations), then those with which it can be trained and scored on one task. An evaluation keeps to the limit.
    """

    def seconds(steps: Iterable[Step]) -> float:
        return sum(costs[step].seconds for step in steps if step in costs)

    def trainings_of(step: Step) -> list[Training]:
        """Return the trainings that must come before it, the teacher's first, itself included."""
        chain = [training for other in step.requires for training in trainings_of(other)]
        own = [step] if isinstance(step, Training) and step in pending else []
        return list(dict.fromkeys([*chain, *own]))

    for whole in (True, False):
        for step in pending:
            chain = trainings_of(step)
            if (chain or [step])[0] not in ready:
                continue
            if not chain:
                return step
            scored = [each for each in pending if isinstance(each, Evaluation) and chain[-1] in each.requires]
            one = seconds(scored[:1]) / sum(map(len, scored[0].missing().values())) if scored else 0.0
            if seconds(chain) + (seconds(scored) if whole else one) <= left:
                return chain[0]
    return None


class _Slice:
    """The time and the places in which steps are run.

    Args:
        minutes: from now on; None = without a limit.
        jobs: number of places: steps that run at the same time.
    """

    def __init__(self, launch: Launcher, minutes: float | None, jobs: int, lock: int | None):
        self.launch, self.jobs, self.lock = launch, jobs, lock
        self._end = None if minutes is None else time.monotonic() + 60 * minutes
        self._shortest = 0.0 if minutes is None else min(_SHORTEST_STEP, 30 * minutes)
        self._turns, self._free = Turns(), SimpleQueue[int]()
        for number in range(1, jobs + 1):
            self._free.put(number)

    def seconds(self) -> float | None:
        """Return the time that is left; None without a limit."""
        return None if self._end is None else self._end - time.monotonic()

    def _minutes(self) -> float | None:
        return None if self._end is None else self.seconds() / 60

    def is_over(self) -> bool:
        """Return whether there is too little time left for any step."""
        return self._end is not None and self.seconds() < self._shortest

    def run(self, step: Step) -> Ended:
        """Run a step, beside others if there are several jobs."""
        if self.jobs == 1:
            return self._run(step, {"lock": self.lock})
        number = self._free.get()
        try:
            share = Share(number, max(usable_cores() // self.jobs, 1))
            return self._run(step, {"lock": self.lock, "share": share})
        finally:
            self._free.put(number)

    def _run(self, step: Step, options: Mapping[str, Any]) -> Ended:
        if isinstance(step, Compression):
            return self._compress(step, options)
        with self._turns.beside_others():
            if isinstance(step, Training):
                return self.launch(step.command, seconds=self.seconds(), **options)
            # A fine-tuning cannot be interrupted and resumed, so it keeps to the time limit by itself.
            return self.launch(step.command_for(list(step.missing()), minutes=self._minutes()), **options)

    def _compress(self, step: Compression, options: Mapping[str, Any]) -> Ended:
        """Run the commands of a compression until one fails or is cut off by time, and keep what they recorded."""
        commands = step.commands(minutes=self._minutes)
        ended = Ended(0)
        while ended == Ended(0):
            with self._turns.beside_others():
                if (command := next(commands, None)) is None:
                    break
                ended = self.launch(command, **options)
        if ended == Ended(0):
            with self._turns.alone():
                for command in step.timings():
                    if (ended := self.launch(command, lock=self.lock)) != Ended(0):
                        break
        step.keep()
        return ended


def _note_if_done(step: Step, outcomes: StepOutcomes) -> bool:
    is_training = isinstance(step, Training)
    if not (step.here() if is_training else step.done()):
        return False
    if is_training:
        _record(step)
    outcomes.done.append(step)
    return True


def _record(step: Training) -> None:
    """Append the record of a finished training to the records in results/, unless it is there already."""
    record = step.record()
    run = f"{step.model.name}-{record['weights_sha256'][:16]}"
    about: dict[str, Any] = {"record": "pretraining", "run": run, "model": step.model.name}
    append_new(step.paths.pretraining, about | {name: record[name] for name in _KEPT})


def _failure(status: int) -> str:
    if status == 0:
        return "it ended well but left no record"
    if status < 0:
        return f"ended by signal {-status}" + (" (out of memory?)" if status == -9 else "")
    return f"exit status {status}; its error message is above"
