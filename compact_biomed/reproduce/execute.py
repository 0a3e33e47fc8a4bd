"""Do the remaining steps of a plan within a time limit.

A step that fails does not stop the others. Running the same command again continues with what remains.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from compact_biomed.console import say
from compact_biomed.records import append_record, read_lines
from compact_biomed.reproduce.compression import Compression
from compact_biomed.reproduce.costs import StepCost
from compact_biomed.reproduce.processes import ITSELF, USER, Ended, Launch
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
    launch: Launch,
    *,
    minutes: float | None = None,
    costs: Costs | None = None,
    continue_later: bool = False,
    jobs: int = 1,
    lock: int | None = None,
) -> StepOutcomes:
    """Run the steps that remain (`plan.remaining`), in an order that finishes whole things within the time limit.

    A training is begun if it and the evaluations of its model fit into the time that is left; if there is no such
    training, if it and a score on one task fit. What does not fit is left for a longer slice, with all that needs it.

    Args:
        launch: runs a command, as `processes.launch` does.
        minutes: time limit. A training that it cuts off is saved and resumes next time on the same machine; a
            fine-tuning that would probably exceed it is not begun.
        costs: estimates the costs of what remains of some steps; without it, and without a limit, all are begun.
        continue_later: begin trainings that cannot end within the limit, too.
        jobs: fine-tunings of an evaluation at the same time.
        lock: passed to `launch`.
    """
    slice_ = _Slice(launch, None if minutes is None else time.monotonic() + 60 * minutes, jobs, lock)
    outcomes, pending = StepOutcomes(), list(steps)
    for training in (step for step in steps if isinstance(step, Training) and step.here()):
        _append_if_new(training)  # a reproduction that was killed may not have
    pending = remaining(steps)
    outcomes.done = [step for step in steps if step not in pending]
    total, shortest = len(pending), min(_SHORTEST_STEP, 30 * minutes) if minutes is not None else 0.0
    selective = minutes is not None and costs is not None and not continue_later
    while pending:
        left = slice_.seconds()
        step = _choose_next(pending, costs(pending), left) if selective else pending[0]
        if step is None or (left is not None and left < shortest):
            outcomes.too_long = [] if step else [each for each in pending if isinstance(each, Training)]
            outcomes.remaining = pending
            break
        pending.remove(step)
        if absent := [training for training in step.requires if not training.here()]:
            outcomes.failed[str(step)] = f"{absent[0].model.name} is not trained"
            continue
        say(f"\n=== [{total - len(pending)}/{total}] {step}")
        ended = slice_.run(step)
        if _note_if_done(step, outcomes):
            continue
        if ended.by != ITSELF or (ended.status == 0 and left is not None):
            outcomes.remaining, outcomes.interrupted = [step, *pending], ended.by == USER
            break
        outcomes.failed[str(step)] = _failure(ended.status)
        say(f"  failed: {step}: {outcomes.failed[str(step)]}")
    return outcomes


def _choose_next(pending: Sequence[Step], costs: Mapping[Step, StepCost], left: float) -> Step | None:
    """Return the step to do within `left` seconds, None if there is none that can be finished.

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
            if not chain:
                return step
            scored = [each for each in pending if isinstance(each, Evaluation) and chain[-1] in each.requires]
            one = seconds(scored[:1]) / sum(map(len, scored[0].missing().values())) if scored else 0.0
            if seconds(chain) + (seconds(scored) if whole else one) <= left:
                return chain[0]
    return None


@dataclass(frozen=True)
class _Slice:
    """The time in which steps are run: until `end` on the monotonic clock, None = without a limit."""

    launch: Launch
    end: float | None
    jobs: int
    lock: int | None

    def seconds(self) -> float | None:
        return None if self.end is None else self.end - time.monotonic()

    def run(self, step: Step) -> Ended:
        seconds = self.seconds()
        if isinstance(step, Training):
            return self.launch(step.command, seconds=seconds, lock=self.lock)
        # A fine-tuning cannot be interrupted and resumed, so it keeps to the time limit by itself.
        minutes = None if seconds is None else seconds / 60
        if isinstance(step, Compression):
            return self._compress(step, minutes)
        return self.launch(step.command_for(list(step.missing()), minutes=minutes, jobs=self.jobs), lock=self.lock)

    def _compress(self, step: Compression, minutes: float | None) -> Ended:
        """Run the commands of a compression until one fails or is cut off by time, and keep what they recorded."""
        ended = Ended(0)
        for command in step.commands(minutes=minutes):
            ended = self.launch(command, lock=self.lock)
            if ended.status or ended.by != ITSELF:
                break
        step.keep()
        return ended


def _note_if_done(step: Step, outcomes: StepOutcomes) -> bool:
    is_training = isinstance(step, Training)
    if not (step.here() if is_training else step.done()):
        return False
    if is_training:
        _append_if_new(step)
    outcomes.done.append(step)
    return True


def _append_if_new(step: Training) -> None:
    """Append the record of a finished training to the records in results/, unless it is there already."""
    file, record = step.paths.pretraining, step.record()
    run = f"{step.model.name}-{record['weights_sha256'][:16]}"
    if run not in {line.record.get("run") for line in (read_lines([file]) if file.is_file() else [])}:
        about: dict[str, Any] = {"record": "pretraining", "run": run, "model": step.model.name}
        append_record(file, about | {name: record[name] for name in _KEPT})


def _failure(status: int) -> str:
    if status == 0:
        return "it ended well but left no record"
    if status < 0:
        return f"ended by signal {-status}" + (" (out of memory?)" if status == -9 else "")
    return f"exit status {status}; its error message is above"
