"""Run a function over many items in worker processes that stop when they should.

Workers are started afresh (spawn): a fork would copy the threads and locks of the caller's libraries.
A worker imports only the module of its task, and ends by itself if the process that started it is
killed.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from types import ModuleType
from typing import Any

from compact_biomed.errors import UsageError, UserError
from compact_biomed.machine import usable_cores


class Stopped(Exception):
    """Raised inside a worker's task when the run was stopped."""


_stop: Any = None  # in workers, the event that tells them to stop


def check_stop() -> None:
    """Raise `Stopped` if the run was stopped; long tasks call this regularly."""
    if _stop is not None and _stop.is_set():
        raise Stopped


def worker_count(workers: int | None) -> int:
    """Return the number of processes to use, by default one per processor that this process may use."""
    if workers is not None:
        if workers < 1:
            raise UsageError(f"{workers} workers", where="--workers", remedy="use 1 or more")
        return workers
    return usable_cores()


def run_all(task: Callable, items: Iterable[Any], workers: int) -> Generator[tuple[Any, Any], None, None]:
    """Yield (item, task(item)) in order of completion.

    A `UserError` of a task is yielded in place of its result: the caller decides whether to continue.
    With one worker everything runs in this process. Closing the generator early (an exception, Ctrl-C)
    stops the workers within about a second.

    Args:
        task: a top-level function of an imported module, not of the main script; it and the items are
            pickled and sent to the workers.
    """
    items = iter(items)
    if workers == 1:
        for item in items:
            yield item, _attempt(task, item)
        return
    context = get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_start_worker, initargs=(stop,))
    try:
        # Only a few items wait in the queue: a million of them would fill the memory.
        first = list(islice(items, 2 * workers))
        with _starting_workers():
            pending = {pool.submit(_attempt, task, item): item for item in first}
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                item = pending.pop(future)
                for following in islice(items, 1):
                    with _starting_workers():
                        pending[pool.submit(_attempt, task, following)] = following
                yield item, future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely because memory ran out",
            where="--workers",
            remedy="use fewer workers; the same command resumes from what was finished",
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _starting_workers() -> Iterator[None]:
    """Delay Ctrl-C to the end of the block, and keep the main script out of processes started in it.

    A worker interrupted while it imports would die, and the pool would then kill the others in the middle
    of their files. And `multiprocessing` makes a worker import the main script again: for a recipe that
    would be torch, seconds and hundreds of megabytes per worker.
    """
    main = sys.modules["__main__"]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _attempt(task: Callable, item: Any) -> Any:
    try:
        return task(item)
    except UserError as error:
        return error


def _start_worker(stop: Any) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent stops the workers
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
