"""How the C library keeps memory that was freed (glibc; elsewhere these do nothing)."""

import ctypes
from collections.abc import Callable

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def _function(name: str) -> Callable[..., int]:
    """The C library's function of that name, or one that does nothing."""
    try:
        library = ctypes.CDLL(None)
    except TypeError:  # Windows
        library = None
    return getattr(library, name, lambda *arguments: 0)


def share_one_heap() -> None:
    """Let threads that start from now on take memory from one heap.

    Otherwise each keeps what its own micro-batch has freed, where the others cannot use it:
    a sixth more memory at the peak, and more pages to clear.
    """
    _function("mallopt")(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Keep what is freed for the next that asks, however large it is.

    A step on a batch of sentences takes 200 ms and frees 200 MB in pieces that the library would give back and fetch
    again each time, a page fault for every 4 KiB.
    """
    mallopt = _function("mallopt")
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def give_back_free_memory() -> None:
    """Return what is free in the heap to the system.

    Batches of ever other shapes leave it full of holes: without this, answering seven thousand sentences took a third
    more memory than answering the first thousand.
    """
    _function("malloc_trim")(0)
