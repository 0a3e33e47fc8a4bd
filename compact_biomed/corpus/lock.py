"""One process at a time in a folder of the cache."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from compact_biomed.console import say


@contextmanager
def one_at_a_time(lock_file: Path, doing: str) -> Iterator[None]:
    """Hold `lock_file` for the length of the block; while another process has it, say so and wait.

    The operating system drops the lock with the process that holds it, however that
    process ends, so a killed run never blocks the next one.
    """
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(f"waiting: another process is {doing}")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()
