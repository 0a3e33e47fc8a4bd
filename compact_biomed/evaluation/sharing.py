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


def in_turns(items: Sequence[T], busy: list[T], tell: Callable[[list[T]], None]) -> Iterator[tuple[T, list[T]]]:
    """Yield each item, and all that are left with it; those that the body puts into `busy` come again.

    Args:
        busy: empty at first; what another process is at. If that is all that is left, there is a pause.
        tell: says so before the first pause.
    """
    told = False
    while items:
        for number, item in enumerate(items):
            yield item, [*busy, *items[number:]]
        if len(busy) == len(items):
            if not told:
                tell(busy)
                told = True
            time.sleep(PAUSE)
        items = busy.copy()
        busy.clear()


def shared(items: Sequence[T], do: Callable[[T], R | None]) -> dict[T, R]:
    """do(item) of each; where it gives None, because another process is at the item, it is asked again later."""
    found: dict[T, R] = {}
    busy: list[T] = []

    def tell(left: list[T]) -> None:
        say(f"  another process is at {', '.join(map(str, left))}: waiting")

    for item, _ in in_turns(items, busy, tell):
        result = do(item)
        if result is None:
            busy.append(item)
        else:
            found[item] = result
    return found
