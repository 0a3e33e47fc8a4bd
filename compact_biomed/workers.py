"""Work in other processes, which stop when they should.

`run_all` runs a function over many items in a pool of workers. `side_by_side` does a few long pieces of work at the
same time, each in a process of its own with its share of the cores; such a process may save its work when it is
stopped.

Processes are started afresh (spawn): a fork would copy the threads and locks of the caller's libraries. A process
imports only the module of its task, and ends by itself if the one that started it is killed.
"""

import os
import pickle
import signal
import sys
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from types import FrameType, ModuleType
from typing import Any

from compact_biomed.console import number_lines, say
from compact_biomed.errors import UsageError, UserError, from_os_error
from compact_biomed.interruption import Terminated, handled_by, take_effect
from compact_biomed.machine import threads_of_others, usable_cores

# ---- many items


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
    threading.Thread(target=_end_with_parent, args=(signal.SIGKILL,), daemon=True).start()


def _end_with_parent(number: int) -> None:
    """Wait for the end of the process that started this one, then end this one by a signal."""
    parent_process().join()
    os.kill(os.getpid(), number)


# ---- a few long pieces of work


def side_by_side(
    begin: Callable[[], Callable[[Any], Any]], items: Sequence[Any], *, processes: int, cores: int
) -> dict[int, Any]:
    """Work on items in several processes at the same time.

    Each process calls `begin()` once, and calls what that returns with one item after another, in their order. Lines
    that it prints begin with its number in brackets. Ctrl-C and SIGTERM are passed on to all processes, and
    have their effect here when these have ended: so each can save what it has.

    Args:
        begin: is pickled, as the items are; it may not be defined in the main script.
        cores: most cores that a process uses.

    Returns:
        Index of an item -> what came of it; without items whose process died or reported an error, which is printed,
        and those that no process was left for.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    context, work = get_context("spawn"), pickle.dumps((begin, items))
    started: list[BaseProcess] = []
    channels: list[Connection] = []
    results: dict[int, Any] = {}
    todo = iter(range(len(items)))
    with _passing_on_signals(started) as received:
        try:
            with threads_of_others(cores):
                for number in range(1, processes + 1):
                    ours, theirs = context.Pipe()
                    with _starting_workers():
                        process = context.Process(target=_work_on, args=(number, theirs))
                        process.start()
                        started.append(process)
                    theirs.close()  # here; the process has another
                    channels.append(ours)
                    with suppress(OSError):  # it is dead
                        ours.send_bytes(work)
            while channels:
                for channel in wait_for_any(channels):
                    try:
                        if (done := channel.recv()) is not None:
                            results[done[0]] = done[1]
                        channel.send(None if received else next(todo, None))
                    except (EOFError, OSError):  # it has ended, perhaps in the middle of a message
                        channels.remove(channel)
        except BaseException:
            for process in started:
                process.terminate()
            raise
        finally:
            for process in started:
                process.join()
    for number, process in enumerate(started, 1):
        if process.exitcode == Terminated.STATUS:
            say(f"process {number} ended by signal {signal.SIGTERM:d}")
        if process.exitcode < 0:
            hint = " (out of memory?)" if process.exitcode == -signal.SIGKILL else ""
            say(f"process {number} ended by signal {-process.exitcode}{hint}")
    return results


@contextmanager
def _passing_on_signals(processes: Sequence[BaseProcess]) -> Iterator[list[int]]:
    """Pass SIGINT and SIGTERM on to processes within the block, and let the last one take effect at its end.

    Outside the main thread, where Python handles no signals, nothing is passed on.

    Args:
        processes: may become more within the block; those that start after a signal do not get it.

    Yields:
        The signals so far.
    """
    received: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        received.append(number)
        for process in processes:
            with suppress(ProcessLookupError):
                os.kill(process.pid, number)

    with handled_by(pass_on):
        yield received
    if received:
        take_effect(received[-1])


def _work_on(number: int, channel: Connection) -> None:
    """Work on items in this process, which `side_by_side` has started with SIGINT blocked."""
    os.setsid()  # Ctrl-C reaches the first process alone, which passes it on
    threading.Thread(target=_end_with_parent, args=(signal.SIGTERM,), daemon=True).start()
    number_lines(number)
    work = channel.recv_bytes()  # all of it, before it is unpickled, which may take seconds
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        begin, items = pickle.loads(work)
        do, done = begin(), None
        while True:
            channel.send(done)
            if (index := channel.recv()) is None:
                break
            done = index, do(items[index])
    except KeyboardInterrupt as error:
        sys.exit(Terminated.STATUS if isinstance(error, Terminated) else 130)
    except UserError as error:
        say(f"error: {error}")
        sys.exit(1)
    except OSError as error:
        if (user_error := from_os_error(error)) is None:
            raise
        say(f"error: {user_error}")
        sys.exit(1)
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends anyway
