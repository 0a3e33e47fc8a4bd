"""Facts of the machine: usable cores, peak memory, the C library's heap; and the performance settings."""

import ctypes
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.errors import UsageError, check_choice

PRECISION_CHOICES, KERNEL_CHOICES = ("auto", "bf16", "fp32"), ("auto", "fast", "transformers")


@dataclass(frozen=True)
class PerformanceSettings:
    """The performance settings: how fast a model trains and is measured, not what it learns.

    Args:
        precision: "auto" (bf16 where it is faster, else fp32), "bf16" or "fp32".
        replicas: micro-batches computed in parallel on a CPU, one core each; 0 = one per core.
        micro_batch_tokens: padded tokens per micro-batch; 0 = chosen for the machine.
        kernels: "auto" (this package's encoder on CPUs), "fast" (this encoder) or "transformers" (its modules).
        pseudo_positions: sample size of the pseudo-perplexity.
        heldout_documents: the largest number of held-out documents to measure, None = all.
        gradient_shares: log each distillation term's share of the gradient (one more backward pass per term).
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

    def __post_init__(self):
        check_choice("precision", self.precision, PRECISION_CHOICES)
        check_choice("kernels", self.kernels, KERNEL_CHOICES)
        if self.replicas < 0:
            raise UsageError(f"--replicas {self.replicas} must be at least 0", remedy="0 = one per core")


PRECISIONS = {"bfloat16": "bf16", "float32": "fp32"}
"""torch's name of a type, as records hold it -> the name that flags and tables use."""

_THREADS = "COMPACT_BIOMED_THREADS"
# Where the user says how threads wait: of any OpenMP library, of GNU's, of LLVM's and Intel's.
_WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
# How often GNU's threads look for work before they sleep: about 30 microseconds. Most waits within a step are shorter,
# and to sleep and be woken costs more. With 10,000, two trainings side by side lose a fifth of their speed
# (docs/speed.md).
_LOOKS = 3000


def usable_cores() -> int:
    """Return the number of processors that this process may use; all, where the system does not report it.

    `use_threads` and the variable that it sets make it smaller.
    """
    usable = getattr(os, "sched_getaffinity", None)
    cores = len(usable(0)) if usable else os.cpu_count() or 1
    limit = os.environ.get(_THREADS, "")
    return min(cores, max(int(limit), 1)) if limit.isdecimal() else cores


def use_threads(n: int) -> None:
    """Compute in at most `n` threads from now on, in this process and in those that it starts.

    Raises:
        UsageError: `n` is not above 0.
    """
    if n < 1:
        raise UsageError(f"{n} threads", where="use_threads", remedy="give at least 1")
    os.environ.update(thread_limit(n))
    if torch := sys.modules.get("torch"):  # which otherwise reads the variable when it is loaded
        torch.set_num_threads(n)


def keep_thread_limit() -> None:
    """Compute in at most as many threads as `COMPACT_BIOMED_THREADS` says, unless `OMP_NUM_THREADS` says how many."""
    if os.environ.get(_THREADS, "").isdecimal() and "OMP_NUM_THREADS" not in os.environ:
        use_threads(usable_cores())


def thread_limit(n: int) -> dict[str, str]:
    """Return the variables that let a process compute in at most `n` threads from its start."""
    return {_THREADS: str(n), "OMP_NUM_THREADS": str(n)}


@contextmanager
def threads_of_others(n: int) -> Iterator[None]:
    """Let processes that are started within the block compute in at most `n` threads."""
    limit = thread_limit(n)
    before = {name: os.environ.get(name) for name in limit}
    os.environ.update(limit)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def single_threaded() -> None:
    """Limit the torch of this thread to one core: the initializer of a pool that computes one input per core."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def let_idle_threads_sleep() -> None:
    """Let threads of OpenMP that wait for work soon sleep, not spin, unless the user's environment says how they wait.

    A spinning thread takes its core from whatever else runs there, a second training above all. The library reads this
    when torch loads it; later calls have no effect.
    """
    if not any(name in os.environ for name in _WAITING):
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT=str(_LOOKS))


def own_peak_memory() -> int:
    """Return the peak resident memory of this process in bytes.

    `getrusage` is only the fallback: on Linux, a process that was started by a larger one begins with the peak of
    that one.
    """
    try:
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def seconds_since_start() -> float:
    """Return how long ago this process started; where the system does not say, 0."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")  # seconds after the system's start (proc(5), field 22)
        return max(time.clock_gettime(time.CLOCK_BOOTTIME) - started, 0.0)
    except (OSError, ValueError, IndexError, AttributeError):
        return 0.0


# Parameters of mallopt (malloc.h). The functions below act on glibc; with other C libraries they do nothing.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8


def _function(name: str) -> Callable[..., int]:
    """Return the C library's function of that name, or one that does nothing."""
    return getattr(ctypes.CDLL(None), name, lambda *arguments: 0)


def share_one_heap() -> None:
    """Let threads that start from now on allocate from one heap.

    With a heap per thread, the others cannot reuse what a micro-batch has freed: the peak is a sixth higher, and there
    are more pages to clear.
    """
    _function("mallopt")(_M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """Keep freed memory for the next allocation, however large it is.

    A step on a batch of sentences takes 200 ms and frees 200 MB in pieces that the library would return to the system
    and fetch again each time, with a page fault per 4 KiB.
    """
    mallopt = _function("mallopt")
    mallopt(_M_MMAP_THRESHOLD, 1 << 30)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)


def give_back_free_memory() -> None:
    """Return free memory of the heap to the system.

    Batches of ever different shapes leave the heap full of holes: without this, predicting 7,000 sentences took a third
    more memory than predicting the first 1,000.
    """
    _function("malloc_trim")(0)
