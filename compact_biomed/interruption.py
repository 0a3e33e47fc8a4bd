"""Ctrl-C and SIGTERM as a request: the step in progress ends first, and the work is saved."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from compact_biomed.console import say

# Linux can send a child several SIGTERM when its parent dies: one for each thread of the parent that it is handed on to
# while these end (PR_SET_PDEATHSIG). Within these seconds they are one request.
_ONE_DEATH = 2.0


class StopRequest:
    """What the user asked for by a signal. A second signal does not wait: it raises `KeyboardInterrupt`.

    Attributes:
        signal: number of the signal that was given; None as long as there was none.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._given = 0.0

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Take signals as requests within the block; outside the main thread they do what they always do."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal is None:
            self.signal, self._given = number, now
            say("\nfinishing this step, then saving; press Ctrl-C again to stop at once ...")
        elif number == signal.SIGINT or now - self._given > _ONE_DEATH:
            raise KeyboardInterrupt
