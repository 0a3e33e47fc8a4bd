"""Work spread over processes that end when they should.

Workers are started fresh (spawn): a fork would copy whatever threads and locks the
caller's libraries hold. Each ends by itself if the process that started it is killed.
"""

import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context, parent_process
from typing import Any

from compact_biomed.errors import UsageError, UserError
from compact_biomed.machine import usable_cores


class Stopped(Exception):
    """The run was told to stop; raised inside a worker's task."""


_stop: Any = None


def check_stop() -> None:
    """Raise `Stopped` if the run is over; long tasks call this now and then."""
    if _stop is not None and _stop.is_set():
        raise Stopped


def worker_count(workers: int | None) -> int:
    """The number asked for, by default one for each processor this process may use."""
    if workers is not None:
        if workers < 1:
            raise UsageError(f"{workers} workers", where="--workers", remedy="1 or more")
        return workers
    return usable_cores()


def run_all(task: Callable, items: Iterable[Any], workers: int) -> Generator[tuple[Any, Any], None, None]:
    """Yield (item, task(item)) in order of completion.

    A `UserError` of a task is yielded in place of its result: whether it ends the
    run is for the caller to say. With one worker everything happens in this process.
    Closing the generator early (an exception, Ctrl-C) stops the workers within about a second.

    Args:
        task: a function defined at the top of a module; it and the items are sent to the workers.
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
        # Only a few items wait in the queue: a million of them would be a memory of their own.
        first = list(islice(items, 2 * workers))
        with _ctrl_c_waits():
            pending = {pool.submit(_attempt, task, item): item for item in first}
        while pending:
            for future in wait(pending, return_when=FIRST_COMPLETED).done:
                item = pending.pop(future)
                for following in islice(items, 1):
                    with _ctrl_c_waits():
                        pending[pool.submit(_attempt, task, following)] = following
                yield item, future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process was killed, most likely for want of memory",
            where="--workers",
            remedy="take fewer workers; the same command goes on from what was finished",
        ) from None
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _ctrl_c_waits() -> Iterator[None]:
    """Ctrl-C takes effect at the end of the block, and never in a process that is started in it.

    A worker that still imports would die of it, and the pool then kills the others amid their files.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _attempt(task: Callable, item: Any) -> Any:
    try:
        return task(item)
    except UserError as error:
        return error


def _start_worker(stop: Any) -> None:
    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent decides and says stop
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent_process().join()
    os._exit(1)
