"""Runs that are being done: processes that share a file of records share the work as well."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from compact_biomed.console import say

T, R = TypeVar("T"), TypeVar("R")
PAUSE = 1.0  # seconds between looks at what another process is at


class Claims:
    """Which runs for a file of records some process is at. A process that ends, however it does, claims nothing more.

    Args:
        records: the file; need not exist yet. An empty file `.<records>.claims` comes to lie beside it.
    """

    def __init__(self, records: Path):
        records = records.resolve()
        self._path = records.with_name(f".{records.name}.claims")
        self._descriptor: int | None = None
        self._told = False

    @contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Whether no other process is at this run (16 hex digits); within the block it is ours.

        Where no lock can be had, as on some shared disks, it is always ours, and that is said.
        """
        # A byte of the file for each run. The system frees it with the process, and it takes no space.
        place = int(run, 16) >> 2
        try:
            file = self._open()
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            other = error.errno in (errno.EAGAIN, errno.EACCES) and self._descriptor is not None
            if not other and not self._told:
                say(f"{self._path} cannot be locked ({error.strerror}): another process would do the same runs again")
                self._told = True
            yield not other
            return
        try:
            yield True
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def _open(self) -> int:
        # Opened once: to close one descriptor of a file frees all of the process' locks on it.
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._descriptor


def shared(items: Sequence[T], do: Callable[[T], R | None]) -> dict[T, R]:
    """do(item) of each; where it gives None, because another process is at the item, it is asked again later."""
    found: dict[T, R] = {}
    told = False
    while missing := [item for item in items if item not in found]:
        now = {item: result for item in missing if (result := do(item)) is not None}
        found |= now
        if not now:
            if not told:
                say(f"  another process is at {', '.join(map(str, missing))}: waiting")
            told = True
            time.sleep(PAUSE)
    return found
