"""Run each step as a separate process, which frees its memory at its end and records its own command."""

import ctypes
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.files import FileLock

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


Launch = Callable[..., Ended]
"""Type of `launch` and of what replaces it: (command, *, seconds=None, lock=None) -> Ended."""


def launch(command: Sequence[str], *, seconds: float | None = None, lock: int | None = None) -> Ended:
    """Run a command that prints to the terminal, and wait for its end.

    The command runs in a new session; every Ctrl-C is forwarded to it. If this process is killed, Linux asks the
    command to save and end.

    Args:
        seconds: time limit, after which the command gets SIGINT; a training then saves and ends with status 130.
        lock: a file descriptor that the command keeps open as long as it runs.
    """
    inherited = () if lock is None else (lock,)
    child = subprocess.Popen(command, start_new_session=True, pass_fds=inherited, preexec_fn=_end_with_parent)
    end, by = None if seconds is None else time.monotonic() + seconds, ITSELF
    while True:
        try:
            return Ended(child.wait(None if end is None else max(end - time.monotonic(), 0)), by)
        except subprocess.TimeoutExpired:
            end, by = None, TIME
        except KeyboardInterrupt:
            by = USER
        child.send_signal(signal.SIGINT)


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
