"""Loops over memory that are compiled on the user's machine (numba), for training in bfloat16 on CPUs.

What torch does in a dozen passes, each through the whole matrix, they do document by document or row by row, in cache.
They compute on arrays and know nothing of autograd. The same mathematics in torch's operations stands where they are
called, for other types and devices, and tests hold both to float64.

Compiled once, they are kept in the cache folder (`kept`). numba keeps them as pickles; they are made on this machine
and never fetched.
"""

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compact_biomed.console import say
from compact_biomed.engine.compiled import kept

# Tests and measurements switch the loops off with it.
OFF = "COMPACT_BIOMED_NO_COMPILED_LOOPS"

_importing = threading.Lock()  # numba's setting is one for all threads


def usable(*tensors: Tensor) -> bool:
    """Whether the loops compute on these tensors: all bfloat16 and on a CPU."""
    return all(x.dtype is torch.bfloat16 and x.is_cpu for x in tensors) and available() and OFF not in os.environ


@cache
def available() -> bool:
    """Whether compiled code can share its work among torch's threads; see `parallel`."""
    try:
        import numba

        from compact_biomed.engine.compiled import parallel
    except ImportError as error:  # numba names the versions of numpy that it works with
        say(f"  without the compiled loops, training takes longer: {error}")
        return False
    if numba.config.DISABLE_JIT:  # for debugging: NUMBA_DISABLE_JIT
        return False
    return parallel.available()


def announce(*tensors: Tensor) -> None:
    """Say, before a progress bar is shown, that the first step on such tensors takes longer, if it does."""
    if tensors and usable(*tensors):
        kept.folder()


@cache
def loops(name: str) -> ModuleType:
    """The module `name` of this package; compiled or taken from the cache when its functions are first called."""
    import numba

    with _importing:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(kept.folder())
        try:
            return importlib.import_module(f"compact_biomed.engine.compiled.{name}")
        finally:
            numba.config.CACHE_DIR = before


def call(module: str, function: str, *arguments) -> Any:
    """Call a loop on tensors and numbers, with as many threads as torch has.

    Args:
        arguments: as the loop takes them, but for the number of threads; a tensor of bfloat16 goes as its bits.
    """
    arrays = (_array(x) if isinstance(x, Tensor) else x for x in arguments)
    return kept.call(getattr(loops(module), function), (*arrays, torch.get_num_threads()))


def _array(x: Tensor) -> np.ndarray:
    x = x.detach()
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype is torch.bfloat16 else x.numpy()


@contextmanager
def one_blas_thread(*tensors: Tensor) -> Iterator[None]:
    """Within the block, each product within the loops on such tensors is computed by the thread that wants it: they
    are small. Where the loops do not compute, nothing is changed."""
    with _blas().limit(limits=1) if usable(*tensors) else nullcontext():
        yield


@cache
def _blas():
    # The library that the loops' products are computed by must have been loaded: it is looked for only now.
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
