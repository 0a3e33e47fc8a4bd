"""Print a plan with its costs, do its remaining steps within a time limit, and print what became of them.

A step that fails does not stop the others. Running the same command again continues with what remains.
"""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compact_biomed.console import count, duration, say
from compact_biomed.records import append_record, read_lines, score_lines
from compact_biomed.report.measured import measure
from compact_biomed.reproduce.costs import StepCost, detectable, pooled_deviation, seeds_needed
from compact_biomed.reproduce.plan import (
    Evaluation,
    ReproductionPlan,
    Step,
    Training,
    of_replicate,
    remaining,
    weights_needed,
)
from compact_biomed.reproduce.processes import ITSELF, USER, Ended, Launch

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
    lock: int | None = None,
) -> StepOutcomes:
    """Run the steps that remain (`plan.remaining`), in an order that finishes whole things within the time limit.

    A training is begun if it and the evaluations of its model fit into the time that is left; if there is no such
    training, if it and one evaluation fit. What does not fit is left for a longer slice, with all that needs it.

    Args:
        launch: runs a command, as `processes.launch` does.
        minutes: time limit. A training that it cuts off is saved and resumes next time on the same machine; a
            fine-tuning that would probably exceed it is not begun.
        costs: estimates the costs of what remains of some steps; without it, and without a limit, all are begun.
        continue_later: begin trainings that cannot end within the limit, too.
        lock: passed to `launch`.
    """
    slice_ = _Slice(launch, None if minutes is None else time.monotonic() + 60 * minutes, lock)
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
        if step.needs and not step.needs.here():
            outcomes.failed[str(step)] = f"{step.needs.model.name} is not trained"
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
    evaluations), then those with which it can be trained and evaluated once. An evaluation keeps to the limit itself.
    """

    def seconds(steps: Iterable[Step]) -> float:
        return sum(costs[step].seconds for step in steps if step in costs)

    def training_of(step: Step) -> list[Training]:
        """Return the trainings that must come before it, the teacher's first, itself included."""
        training = step if isinstance(step, Training) else step.needs
        chain = []
        while training in pending:
            chain.insert(0, training)
            training = training.needs
        return chain

    for whole in (True, False):
        for step in pending:
            chain = training_of(step)
            if not chain:
                return step
            scored = [each for each in pending if isinstance(each, Evaluation) and each.needs is chain[-1]]
            if seconds([*chain, *(scored if whole else scored[:1])]) <= left:
                return chain[0]
    return None


@dataclass(frozen=True)
class _Slice:
    """The time in which steps are run: until `end` on the monotonic clock, None = without a limit."""

    launch: Launch
    end: float | None
    lock: int | None

    def seconds(self) -> float | None:
        return None if self.end is None else self.end - time.monotonic()

    def run(self, step: Step) -> Ended:
        seconds = self.seconds()
        if isinstance(step, Training):
            return self.launch(step.command, seconds=seconds, lock=self.lock)
        # A fine-tuning cannot be interrupted and resumed, so it keeps to the time limit by itself.
        minutes = None if seconds is None else seconds / 60
        return self.launch(step.command_for(list(step.missing()), minutes=minutes), lock=self.lock)


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


# ---- Printed summaries of plan and outcome


def print_plan(plan: ReproductionPlan, costs: Mapping[Step, StepCost]) -> None:
    """Print each step with its state and cost, the total, and what the planned seeds can detect.

    Args:
        costs: of the steps that are not done.
    """
    say(f"\nReproduction, preset {plan.declared.preset}: {len(plan.chosen)} steps")
    width = max((len(_label(step)) for step in plan.chosen), default=0)
    needed = weights_needed(plan.chosen)
    for step in plan.chosen:
        state = _cost_columns(costs[step]) if step in costs else "done"
        if step in needed and isinstance(step, Training) and step.recorded():
            state += f"  again: its weights are not on this machine; needed for {needed[step]}"
        say(f"  {_label(step):<{width}}  {state}")
    left = [costs[step] for step in plan.chosen if step in costs]
    tokens, flops, seconds = (sum(getattr(cost, name) for cost in left) for name in ("tokens", "flops", "seconds"))
    total = f"{count(tokens)} tokens, {count(flops)} FLOPs, about {duration(seconds)}"
    say(f"\n{len(plan.chosen) - len(left)} done, {len(left)} left: {total}.")
    say("Times marked * assume a rate probed on generated text; the others use recorded runs on this machine.")
    for notice in [*(f"Left out: {reason}" for reason in plan.missing), *plan.notices]:
        say(notice)
    _print_power(plan)


def _label(step: Step) -> str:
    if isinstance(step, Evaluation):
        return f"{step.model.name}{of_replicate(step.needs)}, seed {step.seed}: {', '.join(step.tasks)}"
    return f"{step.model.name}{of_replicate(step)}: {step.model.recipe}"


def _cost_columns(cost: StepCost) -> str:
    mark = "" if cost.measured else "*"
    return f"{count(cost.tokens):>7} tokens {count(cost.flops):>7} FLOPs {duration(cost.seconds):>13}{mark}"


def _print_power(plan: ReproductionPlan) -> None:
    """Print which differences between two models the plan can detect."""
    declared = plan.declared
    seeds = max((len(measurement.seeds) for measurement in declared.measurements), default=0)
    sets = max((len(measurement.tasks) for measurement in declared.measurements), default=0)
    deviation, source = declared.deviation, "assumed"
    if pooled := _recorded_deviation(plan.paths.evaluation):
        deviation, source = pooled[0], f"from the records, {pooled[1]} degrees of freedom"
    say("\nPower (two-sided paired t-test over seeds at 5 %, power 80 %)")
    say(f"  standard deviation of a score over seeds: {deviation:.2f} points per test set ({source})")
    needed = {n: seeds_needed(difference=declared.difference, deviation=deviation, sets=n) for n in range(1, sets + 1)}
    table = "; ".join(f"{n} test set{'s' * (n > 1)}: {seeds or 'over 100'}" for n, seeds in needed.items())
    say(f"  seeds needed to detect a difference of {declared.difference:g} points: {table}")
    if seeds > 1:
        one, all_sets = (detectable(deviation=deviation, seeds=seeds, sets=n) for n in (1, sets))
        say(f"  the planned {seeds} seeds detect {one:.2f} points on one test set, {all_sets:.2f} on {sets} together")


def _recorded_deviation(records: Path) -> tuple[float, int] | None:
    lines = score_lines(read_lines([records])) if records.is_file() else []
    pooled = pooled_deviation(measure(lines)) if lines else None
    return pooled if pooled and pooled[0] > 0 else None


def print_outcomes(plan: ReproductionPlan, outcomes: StepOutcomes) -> None:
    """Print how many steps are done, and what failed or remains."""
    say(f"\n{len(outcomes.done)} of {len(plan.chosen)} steps are done.")
    if outcomes.failed:
        say(f"{len(outcomes.failed)} failed:")
        for step, reason in outcomes.failed.items():
            say(f"  {step}: {reason}")
    if outcomes.remaining:
        reason = "Stopped by Ctrl-C" if outcomes.interrupted else "The time is up"
        if outcomes.too_long:
            reason = "No remaining training ends within the limit"
        say(f"{reason}. {len(outcomes.remaining)} steps remain; the next is {outcomes.remaining[0]}.")
        if outcomes.too_long:
            say("Run it with more --minutes, or begin it with --continue-later: it resumes on this machine.")
        else:
            say("Run the same command again to continue.")
