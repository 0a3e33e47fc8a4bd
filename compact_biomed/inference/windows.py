"""Long documents in overlapping windows; each token is answered where it is farthest from an edge."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

from compact_biomed.inference.tokens import Token

Item = TypeVar("Item")
Result = TypeVar("Result")


class Window(NamedTuple):
    """Tokens that are read together; those from `first` to before `last` take their answer from here."""

    tokens: list[Token]
    first: int
    last: int


def windows(tokens: Iterable[Token], length: int, overlap: int) -> Iterator[Window]:
    """Cut a document into windows of `length` tokens of which neighbors share `overlap`.

    The answered parts lie end to end: each token is answered once, by the window in whose middle it lies
    deeper. The ends of the document are no edges. 0 <= 2 * overlap <= length.
    """
    half = overlap // 2
    buffer: list[Token] = []
    first = 0
    for token in tokens:
        if len(buffer) == length:  # and one more: this window is not the last
            yield Window(buffer, first, length - overlap + half)
            buffer, first = buffer[length - overlap :], half
        buffer.append(token)
    if buffer:
        yield Window(buffer, first, len(buffer))


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], pool: Executor, ahead: int
) -> Iterator[tuple[Item, Result]]:
    """(item, work(item)) for each item in order, computed by a pool, at most `ahead` at a time in memory.

    Where the items end in an error, those before it are answered first.
    """
    waiting: deque = deque()
    items, failure = iter(items), None
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
        if failure is not None:
            raise failure
    finally:
        for _, future in waiting:
            future.cancel()
