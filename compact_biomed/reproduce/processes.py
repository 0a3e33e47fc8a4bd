"""Run each step as a separate process, which frees its memory at its end and records its own command."""

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.console import say
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
    to save and end. Several threads may run commands at the same time; only the main thread sees Ctrl-C, and
    tells the others' commands by `interrupt`.
    """

    def __init__(self):
        self._children: set[subprocess.Popen] = set()
        self._interrupted = False
        self._turn, self._changed, self._running = threading.Lock(), threading.Condition(), 0

    def __call__(
        self,
        command: Sequence[str],
        *,
        seconds: float | None = None,
        lock: int | None = None,
        share: Share | None = None,
        alone: bool = False,
    ) -> Ended:
        """Run a command.

        Args:
            seconds: time limit, after which the command gets SIGINT; a training then saves and ends with status 130.
            lock: a file descriptor that the command keeps open as long as it runs.
            share: of a command that runs beside others.
            alone: wait until no other command runs, and let no other begin meanwhile: for measurements of speed.
        """
        with self._alone() if alone else self._beside_others():
            return Ended(130, USER) if self._interrupted else self._run(command, seconds, lock, share)

    @contextmanager
    def _beside_others(self) -> Iterator[None]:
        with self._turn, self._changed:  # not while another command runs alone, or waits for that
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._turn:
            with self._changed:
                self._changed.wait_for(lambda: not self._running)
            yield

    def _run(self, command: Sequence[str], seconds: float | None, lock: int | None, share: Share | None) -> Ended:
        options = {"start_new_session": True, "preexec_fn": _end_with_parent}
        options["pass_fds"] = () if lock is None else (lock,)
        if share is not None:
            options |= {"env": os.environ | thread_limit(share.cores), "text": True, "errors": "replace"}
            options |= {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        child = subprocess.Popen(command, **options)
        self._children.add(child)
        if self._interrupted:  # before it was noted
            child.send_signal(signal.SIGINT)
        reader = threading.Thread(target=_repeat, args=(child, share)) if share is not None else None
        if reader is not None:
            reader.start()
        try:
            return self._end_of(child, seconds)
        finally:
            self._children.discard(child)
            if reader is not None:
                reader.join()

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
        """Forward a Ctrl-C to all commands."""
        self._interrupted = True
        for child in list(self._children):
            child.send_signal(signal.SIGINT)


Launch = Callable[..., Ended]
"""Type of `launch` and of what replaces it: (command, *, seconds=None, lock=None, share=None) -> Ended."""

launch = Launcher()


def _repeat(child: subprocess.Popen, share: Share) -> None:
    for line in child.stdout:
        say(f"[{share.number}] {line}".rstrip())


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
