"""Loops that are compiled on the user's machine (numba), for training in float32 and bfloat16 on CPUs.

Work that takes torch a dozen passes, each through the whole matrix, they do document by document or row by row, in
cache. They compute on arrays, without autograd. Each caller also has the same mathematics in torch's operations, for
other types and devices; tests compare both with float64.

Compiled code is kept in the cache folder (`cache`). numba stores it as pickles, which are made on this machine and
never downloaded.
"""

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache as memoized
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compact_biomed.console import say
from compact_biomed.engine.compiled import cache

# Tests and measurements switch the loops off with this environment variable.
OFF = "COMPACT_BIOMED_NO_COMPILED_LOOPS"

_import_lock = threading.Lock()  # all threads share numba's setting


def usable(*tensors: Tensor) -> bool:
    """Return whether the loops compute on these tensors: all are bfloat16, or all float32, and on a CPU."""
    types = {x.dtype for x in tensors}
    return (
        len(types) == 1
        and types <= {torch.bfloat16, torch.float32}
        and all(x.is_cpu for x in tensors)
        and available()
        and OFF not in os.environ
    )


@memoized
def available() -> bool:
    """Return whether compiled code can share its work among torch's threads; see `parallel`."""
    try:
        import numba

        from compact_biomed.engine.compiled import parallel
    except ImportError as error:  # numba names the versions of numpy that it works with
        say(f"  training is slower without the compiled loops: {error}")
        return False
    if numba.config.DISABLE_JIT:  # for debugging: NUMBA_DISABLE_JIT
        return False
    return parallel.available()


def announce(*tensors: Tensor) -> None:
    """Print, before a progress bar appears, that the first step compiles and takes longer, if it does."""
    if tensors and usable(*tensors):
        cache.folder()


@memoized
def loops(name: str) -> ModuleType:
    """Return the module `name` of this package, whose functions are compiled, or read from the cache, when called."""
    import numba

    with _import_lock:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(cache.folder())
        try:
            return importlib.import_module(f"compact_biomed.engine.compiled.{name}")
        finally:
            numba.config.CACHE_DIR = before


def call(module: str, function: str, *arguments) -> Any:
    """Call a loop on tensors and numbers, with as many threads as torch has.

    Args:
        arguments: as the loop takes them, without the number of threads; a tensor of bfloat16 is passed as its bits.
    """
    arrays = (_array(x) if isinstance(x, Tensor) else x for x in arguments)
    return cache.call(getattr(loops(module), function), (*arrays, torch.get_num_threads()))


def _array(x: Tensor) -> np.ndarray:
    x = x.detach()
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype is torch.bfloat16 else x.numpy()


@contextmanager
def one_blas_thread(*tensors: Tensor) -> Iterator[None]:
    """Compute each product in the loops on such tensors in the calling thread, within the block: they are small.

    If the loops do not compute on these tensors, nothing changes.
    """
    with _blas().limit(limits=1) if usable(*tensors) else nullcontext():
        yield


@memoized
def _blas():
    # threadpoolctl finds loaded libraries only, so the one that computes the loops' products is loaded first.
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
