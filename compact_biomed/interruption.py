"""Ctrl-C and SIGTERM as a request: the step in progress ends first, and the work is saved."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from compact_biomed.console import say

# When a parent with several threads dies, Linux can hand its child from one thread that ends to the next, and send it
# the signal of PR_SET_PDEATHSIG each time. SIGTERMs within these seconds are therefore one request.
_ONE_DEATH = 2.0


Handler = Callable[[int, FrameType | None], None]


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Let a function handle SIGINT and SIGTERM within the block.

    Outside the main thread, where Python handles no signals, they do what they always do.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, signal.SIG_DFL if previous is None else previous)


class Terminated(KeyboardInterrupt):
    """SIGTERM, in place of an end on the spot: what handles Ctrl-C handles it, and locks are released."""

    STATUS = 128 + signal.SIGTERM  # of the process


def take_effect(number: int) -> NoReturn:
    """Let a signal that was held back have its effect, and at least that of Ctrl-C."""
    if number == signal.SIGTERM and signal.getsignal(number) == signal.SIG_DFL:
        raise Terminated
    signal.raise_signal(number)
    raise KeyboardInterrupt


class StopRequest:
    """Record the first SIGINT or SIGTERM. After it, SIGINT, or a SIGTERM that comes later, raises `KeyboardInterrupt`.

    Args:
        say: prints a line about it.

    Attributes:
        signal: number of the signal that was given; None as long as there was none.
    """

    def __init__(self, say: Callable[[str], None] = say) -> None:
        self.signal: int | None = None
        self._given, self._say = 0.0, say

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take signals as requests within the block, as `handled_by` does."""
        with handled_by(self._ask):
            yield

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._given = number, now
            self._say("\nfinishing this step, then saving; press Ctrl-C again to stop at once ...")
        elif number == signal.SIGINT or (self.signal == signal.SIGTERM and now - self._given > _ONE_DEATH):
            raise KeyboardInterrupt
