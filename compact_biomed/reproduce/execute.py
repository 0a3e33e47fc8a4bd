"""Doing what is left of a plan: step by step, in a slice of time, going on after failures."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compact_biomed.console import count, duration, say
from compact_biomed.records import append_record, read_lines, score_lines
from compact_biomed.report.measured import measure
from compact_biomed.reproduce.costs import Cost, detectable, pooled_deviation, seeds_needed
from compact_biomed.reproduce.plan import Evaluation, Plan, Step, Training
from compact_biomed.reproduce.processes import ITSELF, USER, Ended, Launch

_LEAST = 20.0  # seconds that are worth starting a process for
# What the record of a training keeps in results/: not the curve, which lies in the run's folder.
_KEPT = ("kind", "hyperparameters", "corpus", "start_sha256", "speed", "parameters", "tokens", "flops", "seconds")
_KEPT += ("peak_memory_bytes", "heldout", "weights_sha256", "from")


@dataclass
class Tally:
    """What became of the steps.

    Args:
        failed: step -> why.
        left: not done when time was up, or after Ctrl-C.
        interrupted: by Ctrl-C.
    """

    done: list[Step] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left: list[Step] = field(default_factory=list)
    interrupted: bool = False


def execute(steps: Sequence[Step], launch: Launch, *, minutes: float | None = None, lock: int | None = None) -> Tally:
    """Do what is not done.

    Args:
        launch: runs a command (`processes.launch`).
        minutes: of the slice. A training that it cuts off is saved and goes on next time; a
            fine-tuning is not begun if it would probably end later.
        lock: as `launch` takes it.
    """
    end, tally = None if minutes is None else time.monotonic() + 60 * minutes, Tally()
    waiting = [step for step in steps if not _already(step, tally)]
    for number, step in enumerate(waiting):
        seconds = None if end is None else end - time.monotonic()
        if seconds is not None and seconds < min(_LEAST, 30 * minutes):
            tally.left = waiting[number:]
            break
        if step.needs and not step.needs.done():
            tally.failed[str(step)] = f"{step.needs.model.name} is not trained"
            continue
        say(f"\n=== [{number + 1}/{len(waiting)}] {step}")
        ended = _run(step, launch, seconds, lock)
        if step.done():
            _record(step)
            tally.done.append(step)
        elif ended.by != ITSELF or (ended.status == 0 and seconds is not None):
            tally.left, tally.interrupted = waiting[number:], ended.by == USER
            break
        else:
            tally.failed[str(step)] = _why(ended.status)
            say(f"  failed: {step}: {tally.failed[str(step)]}")
    return tally


def _run(step: Step, launch: Launch, seconds: float | None, lock: int | None) -> Ended:
    if isinstance(step, Training):
        return launch(step.command, seconds=seconds, lock=lock)
    # A fine-tuning cannot be cut off and gone on with, so it is asked to look at the clock itself.
    minutes = None if seconds is None else seconds / 60
    return launch(step.command_for(list(step.missing()), minutes=minutes), lock=lock)


def _already(step: Step, tally: Tally) -> bool:
    if step.done():
        _record(step)
        tally.done.append(step)
        return True
    return False


def _why(status: int) -> str:
    if status == 0:
        return "it ended well and left no record"
    if status < 0:
        return f"ended by signal {-status}" + (" (out of memory?)" if status == -9 else "")
    return f"exit status {status}; its own words stand above"


def _record(step: Step) -> None:
    """Put a training that is done into the records of results, once."""
    if isinstance(step, Evaluation):
        return
    file, record = step.places.pretraining, step.record()
    run = f"{step.model.name}-{record['weights_sha256'][:16]}"
    if run not in {line.record.get("run") for line in read_lines([file], missing_ok=True)}:
        kept: dict[str, Any] = {"record": "pretraining", "run": run, "model": step.model.name}
        append_record(file, kept | {name: record[name] for name in _KEPT})


# ----------------------------------------------------------------------------------------------------
# The words around a reproduction: the plan with its costs before, what became of it after.


def plan_of_steps(plan: Plan, costs: Mapping[Step, Cost]) -> None:
    """Each step with its state and cost, the sum, and what the seeds can tell apart."""
    say(f"\nReproduction, preset {plan.declared.preset}: {len(plan.chosen)} steps")
    wide = max((len(_short(step)) for step in plan.chosen), default=0)
    for step in plan.chosen:
        say(f"  {_short(step):<{wide}}  {_cost(costs[step]) if step in costs else 'done'}")
    left = [costs[step] for step in plan.chosen if step in costs]
    total = Cost(sum(c.tokens for c in left), sum(c.flops for c in left), 1.0, True)
    say(f"\n{len(plan.chosen) - len(left)} done, {len(left)} left: {count(total.tokens)} tokens, "
        f"{count(total.flops)} FLOPs, about {duration(sum(c.seconds for c in left))}.")  # fmt: skip
    say("Times: * at a rate probed on made-up text, others at that of recorded runs on this machine.")
    for notice in [*(f"Left out: {each}" for each in plan.missing), *plan.notices]:
        say(notice)
    _power(plan)


def _short(step: Step) -> str:
    if isinstance(step, Evaluation):
        return f"{step.model.name}, seed {step.seed}: {', '.join(step.tasks)}"
    return f"{step.model.name}: {step.model.recipe}"


def _cost(cost: Cost) -> str:
    mark = "" if cost.measured else "*"
    return f"{count(cost.tokens):>7} tokens {count(cost.flops):>7} FLOPs {duration(cost.seconds):>13}{mark}"


def _power(plan: Plan) -> None:
    """What a comparison of two models can tell apart."""
    declared = plan.declared
    seeds = max((len(each.seeds) for each in declared.measurements), default=0)
    sets = max((len(each.tasks) for each in declared.measurements), default=0)
    deviation, source = declared.deviation, "assumed"
    if known := _deviation(plan.places.evaluation):
        deviation, source = known[0], f"of the records, {known[1]} degrees of freedom"
    say(f"\nPower (paired t-test over seeds, two-sided, 5 %, power 80 %; "
        f"a seed deviates by {deviation:.2f} points on a set: {source})")  # fmt: skip
    needed = {n: seeds_needed(difference=declared.difference, deviation=deviation, sets=n) for n in range(1, sets + 1)}
    table = "; ".join(f"{n} set{'s' * (n > 1)}: {seeds or 'over 100'} seeds" for n, seeds in needed.items())
    say(f"  to tell {declared.difference:g} points apart: {table}")
    if seeds > 1:
        least = detectable(deviation=deviation, seeds=seeds, sets=sets)
        say(f"  planned: {sets} set(s) x {seeds} seeds tell {least:.2f} points apart; one set "
            f"{detectable(deviation=deviation, seeds=seeds):.2f}")  # fmt: skip


def _deviation(records: Path) -> tuple[float, int] | None:
    if not records.is_file():
        return None
    lines = score_lines(read_lines([records]))
    found = pooled_deviation(measure(lines)) if lines else None
    return found if found and found[0] > 0 else None


def summary(plan: Plan, tally: Tally) -> None:
    """What became of the steps."""
    say(f"\n{len(tally.done)} of {len(plan.chosen)} steps are done.")
    if tally.failed:
        say(f"{len(tally.failed)} failed:")
        for step, why in tally.failed.items():
            say(f"  {step}: {why}")
    if tally.left:
        reason = "Stopped" if tally.interrupted else "The time is up"
        say(f"{reason}; {len(tally.left)} are left, {tally.left[0]} first. The same command goes on.")
