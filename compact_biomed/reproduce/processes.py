"""Run each step as a separate process, which frees its memory at its end and records its own command."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.console import LINES_OF
from compact_biomed.errors import UserError
from compact_biomed.files import FileLock
from compact_biomed.machine import thread_limit

ITSELF, TIME, USER = "itself", "time", "user"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True)
class Ended:
    """The end of a command.

    Args:
        status: exit status; negative for a signal.
        by: what ended it: the command `ITSELF`, the `TIME` limit, or the `USER` by Ctrl-C.
    """

    status: int
    by: str = ITSELF


@dataclass(frozen=True)
class Share:
    """What a command has that runs beside others.

    Args:
        number: of its place, from 1; its output's lines begin with it, in brackets.
        cores: most cores to use.
    """

    number: int
    cores: int


class Launcher:
    """Runs commands, which print to the terminal, and waits for their ends.

    A command runs in a new session; every Ctrl-C is forwarded to it. If this process is killed, Linux asks the command
    to save and end. Several threads may run commands at the same time. Only the main thread sees Ctrl-C; it tells the
    others' commands by `interrupt`.
    """

    def __init__(self):
        self._children: set[subprocess.Popen] = set()
        self._interrupted = False

    def __call__(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        lock: int | None = None,
        share: Share | None = None,
    ) -> Ended:
        """Run a command.

        Args:
            seconds: time limit, after which the command gets SIGINT; a training then saves and ends with status 130.
            lock: a file descriptor that the command keeps open as long as it runs.
            share: of a command that runs beside others.
        """
        if self._interrupted:
            return Ended(130, USER)
        variables = {} if share is None else thread_limit(share.cores) | {LINES_OF: str(share.number)}
        options = {"start_new_session": True, "preexec_fn": _end_with_parent, "env": os.environ | variables}
        child = subprocess.Popen(command, pass_fds=() if lock is None else (lock,), **options)
        self._children.add(child)
        if self._interrupted:  # before it was noted
            child.send_signal(signal.SIGINT)
        try:
            return self._end_of(child, seconds)
        finally:
            self._children.discard(child)

    def _end_of(self, child: subprocess.Popen, seconds: float | None) -> Ended:
        end, by = None if seconds is None else time.monotonic() + seconds, ITSELF
        while True:
            try:
                status = child.wait(None if end is None else max(end - time.monotonic(), 0))
                return Ended(status, USER if self._interrupted else by)
            except subprocess.TimeoutExpired:
                end, by = None, TIME
            except KeyboardInterrupt:
                by = USER
            child.send_signal(signal.SIGINT)

    def interrupt(self) -> None:
        """Forward a Ctrl-C to all commands that run, and begin no more."""
        self._interrupted = True
        for child in list(self._children):
            child.send_signal(signal.SIGINT)


class Turns:
    """The order of work in several threads, of which some has to be alone."""

    def __init__(self):
        self._turn, self._changed, self._running = threading.Lock(), threading.Condition(), 0

    @contextmanager
    def beside_others(self) -> Iterator[None]:
        """Begin the block while no other is alone, or waits for that."""
        with self._turn, self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Begin the block when no other runs, and let none begin before its end."""
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: not self._running)
            yield


def _end_with_parent() -> None:
    """Ask Linux, in the child, for SIGTERM when the parent dies, even by kill -9."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not inherited as ignored
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def sole_user(folder: Path) -> Iterator[int]:
    """Lock a folder against a second reproduction; yield the lock's descriptor, for `launch` to pass on.

    The lock is held until this process and all its children have ended: after a reproduction was killed, the next one
    cannot start before the step that was running has saved and ended.

    Raises:
        UserError: another one holds it.
    """
    lock = FileLock(folder / "lock")
    if not lock.acquire(wait=False):
        remedy = "wait until it has ended; what was killed first saves its step"
        raise UserError("another reproduction works here", where=folder, remedy=remedy)
    with lock:
        yield lock.descriptor
