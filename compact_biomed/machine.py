"""How many processors there are for us."""

import ctypes
import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Speed:
    """Everything that decides how fast, not what.

    Args:
        precision: "auto" (bf16 where the machine computes it, else fp32), "bf16" or "fp32".
        replicas: micro-batches side by side on a CPU, one core each; 0 = one for each core.
        micro_batch_tokens: padded tokens a micro-batch; 0 = chosen for the machine.
        kernels: "auto" (our encoder on CPUs), "fast" or "transformers" (its own modules).
        pseudo_positions: sample size of the pseudo-perplexity.
        heldout_documents: most held-out documents that are measured, None = all.
        gradient_shares: log each distillation term's share of the gradient (costs a backward pass per term).
        loss_backend: "own", or "textbrewer": TextBrewer's distiller combines the losses (slower, to the same values).
    """

    precision: str = "auto"
    replicas: int = 0
    micro_batch_tokens: int = 0
    kernels: str = "auto"
    pseudo_positions: int = 512
    heldout_documents: int | None = None
    gradient_shares: bool = False
    loss_backend: str = "own"


def usable_cores() -> int:
    """The processors that this process may use; all, where the system does not tell."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable else os.cpu_count() or 1


# ----------------------------------------------------------------------------------------------------
# Peak memory of a process, measured from inside it.


def own_peak_memory() -> int:
    """Peak resident memory of this process in bytes.

    Not by getrusage where it can be helped: on Linux a process that was started by a
    larger one begins with that one's peak.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# ----------------------------------------------------------------------------------------------------
# How the C library keeps memory that was freed (glibc; elsewhere these do nothing).


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
