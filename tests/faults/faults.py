"""Run a command on a faulty input, in this process, and check how it ends.

The rule for every input: either one line with the file and a remedy, exit status 1 or 2, and nothing half-written; or
the fault is of no effect, and the output is that of the sound input. Never a traceback, never silence.
"""

import re
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from compact_biomed import cli

T = TypeVar("T")
TEMPORARY = re.compile(r"\..*\.(tmp|old|replaced|lock)")


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        status: the exit status.
        out, err: what it printed.
    """

    status: int
    out: str
    err: str


class Commands:
    """Runs commands in this process.

    Args:
        capsys: of pytest.
        main: of the command line.
    """

    def __init__(self, capsys: pytest.CaptureFixture[str], main: Callable[[Sequence[str]], int] = cli.main):
        self._capsys, self._main = capsys, main

    def __call__(self, *arguments: object, main: Callable[[Sequence[str]], int] | None = None) -> Ended:
        self._capsys.readouterr()
        try:
            status = (main or self._main)([str(argument) for argument in arguments])
        except SystemExit as end:  # of argparse
            status = end.code
        return Ended(status, *self._capsys.readouterr())


def refused(ended: Ended, *named: object) -> None:
    """Check that a command has refused its input in one line that names these things and ends in a remedy."""
    assert ended.status in (1, 2), (ended.status, ended.out[-500:], ended.err[-500:])
    assert "Traceback" not in ended.err
    lines = [line for line in ended.err.splitlines() if line.startswith(("error: ", "  failed: "))]
    assert len(lines) == 1, ended.err[-2000:]
    for name in named:
        assert str(name) in lines[0], lines[0]
    assert lines[0].endswith(")") and len(lines[0]) < 1500, lines[0]
    lines[0].encode()


def refused_or_same(ended: Ended, sound: Ended, *named: object) -> None:
    """Check that a command has refused its input, or that the fault had no effect."""
    if ended.status == 0:
        assert ended.out == sound.out
        assert "Traceback" not in ended.err
    else:
        refused(ended, *named)


def check_all(cases: Mapping[str, T], check: Callable[[str, T], None]) -> None:
    """Run a check on each of many cases that share costly inputs, and fail with all that it refuses."""
    failures = {}
    for name, case in cases.items():
        try:
            check(name, case)
        except Exception as error:  # a traceback of the command is a failure of its case
            place = traceback.extract_tb(error.__traceback__)[-1]
            failures[name] = f"{type(error).__name__} at {Path(place.filename).name}:{place.lineno}: {error}"[:700]
    assert not failures, f"{len(failures)} of {len(cases)}:\n" + "\n".join(f"[{k}] {v}" for k, v in failures.items())


def nothing_half_written(*folders: Path) -> None:
    """Check that there is nothing with a temporary name."""
    left = [path for folder in folders for path in folder.rglob("*") if TEMPORARY.fullmatch(path.name)]
    assert left == []
