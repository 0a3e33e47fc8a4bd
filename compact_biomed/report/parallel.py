"""Resampling on all cores."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits  # scikit-learn brings it

from compact_biomed.cores import usable_cores

T, R = TypeVar("T"), TypeVar("R")


def on_all_cores(make: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """make(item) for each item, in order; each has random numbers of its own, so that company changes nothing.

    numpy draws without the interpreter's lock, so threads are enough. Its matrix products are too small to be shared:
    their threads would wait for each other.
    """
    with threadpool_limits(1), ThreadPoolExecutor(usable_cores()) as pool:
        return list(pool.map(make, items))
