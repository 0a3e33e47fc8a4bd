"""Processes that share a file of records: none does a run that another one is doing."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from compact_biomed.console import say
from compact_biomed.files import FileLock

T = TypeVar("T")
# Every version locks the same file, so that processes of different versions do no run twice.
_SUFFIX = ".claim"
PAUSE = 1.0  # seconds before runs that other processes have locked are tried again


class RunLocks:
    """Locks of the runs that processes do for a file of records. A lock ends with its process, however that ends.

    Args:
        records: the file, which need not exist. Beside it is an empty file `.<records>.<run>.claim` per locked run.
    """

    def __init__(self, records: Path):
        self._records = records.resolve()
        self._warned = False

    @contextmanager
    def hold(self, run: str) -> Iterator[bool]:
        """Yield whether no other process has locked this run; if so, it is locked for the length of the block.

        Where files cannot be locked, as on some shared disks, the answer is always yes, with a warning.
        """
        lock = FileLock(self._records.with_name(f".{self._records.name}.{run}{_SUFFIX}"), remove=True)
        try:
            is_ours = lock.acquire(wait=False)
        except OSError as error:
            is_ours = True
            if not self._warned:
                say(f"{lock.path} cannot be locked ({error.strerror}): another process may do the same runs again")
                self._warned = True
        try:
            yield is_ours
        finally:
            lock.release()


def in_turns(items: Sequence[T], busy: list[T]) -> Iterator[tuple[T, list[T]]]:
    """Yield each item, and all that remain with it. Items that the body puts into `busy` are yielded again later.

    Args:
        busy: empty at first; items that other processes have locked. If no others remain, there is a pause.
    """
    has_reported = False
    while items:
        for index, item in enumerate(items):
            yield item, [*busy, *items[index:]]
        if len(busy) == len(items):
            if not has_reported:
                say(f"waiting for another process to finish {busy[0]}" + f" and {len(busy) - 1} more" * (len(busy) > 1))
                has_reported = True
            time.sleep(PAUSE)
        items = busy.copy()
        busy.clear()
