"""A step as a process of its own: its memory goes back when it ends, its record names its own command."""

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
    """How a command ended.

    Args:
        status: its exit status, negative for a signal.
        by: `ITSELF`, or asked to because `TIME` was up, or by the `USER`'s Ctrl-C.
    """

    status: int
    by: str = ITSELF


Launch = Callable[..., Ended]
"""(command, *, seconds=None, lock=None) -> how it ended; see `launch`."""


def launch(command: Sequence[str], *, seconds: float | None = None, lock: int | None = None) -> Ended:
    """Run a command; what it prints goes to the terminal.

    It is a session of its own, and Ctrl-C is handed to it, once for each time it was pressed.
    If this process is killed the child is asked to save and end (Linux).

    Args:
        seconds: then it gets SIGINT, which makes a training save and end with status 130.
        lock: a descriptor that the child holds open as long as it lives.
    """
    kept = () if lock is None else (lock,)
    child = subprocess.Popen(command, start_new_session=True, pass_fds=kept, preexec_fn=_end_with_parent)
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
    """In the child: ask Linux for SIGTERM when the parent dies, also by kill -9."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not inherited as ignored
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def sole_user(folder: Path) -> Iterator[int]:
    """Hold a folder against a second reproduction; yields the lock's descriptor, to be shared with children.

    The lock is held as long as this process or a child lives: what a killed reproduction left running
    keeps the next one out until it has saved and ended.

    Raises:
        UserError: another one holds it.
    """
    lock = FileLock(folder / "lock")
    if not lock.acquire(wait=False):
        remedy = "wait until it has ended; what was killed first saves its step"
        raise UserError("another reproduction works here", where=folder, remedy=remedy)
    with lock:
        yield lock.descriptor
