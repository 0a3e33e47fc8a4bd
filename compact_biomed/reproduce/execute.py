"""Doing what is left of a plan: step by step, in a slice of time, going on after failures."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from compact_biomed.console import say
from compact_biomed.files import append_record
from compact_biomed.report.records import read_lines
from compact_biomed.reproduce.processes import ITSELF, USER, Ended, Launch
from compact_biomed.reproduce.steps import Evaluation, Step, Training

_LEAST = 20.0  # seconds that are worth starting a process for
# What the record of a training keeps in results/: not the curve, which lies in the run's folder.
_KEPT = ("kind", "science", "corpus", "start_sha256", "speed", "parameters", "tokens", "flops", "seconds")
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
    if run not in {line.record.get("run") for line in (read_lines([file]) if file.is_file() else [])}:
        kept: dict[str, Any] = {"record": "pretraining", "run": run, "model": step.model.name}
        append_record(file, kept | {name: record[name] for name in _KEPT})
