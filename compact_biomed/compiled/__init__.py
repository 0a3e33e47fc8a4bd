"""Loops over memory that are compiled on the user's machine (numba), for training in bfloat16 on CPUs.

What torch does in a dozen passes, each through the whole matrix, they do document by document or row by row, in cache.
Nothing here knows torch's autograd, and the modules beside this one know no torch at all: they compute on arrays. The
same mathematics in torch's operations stands where they are called, for other types and devices, and tests compare
the two.

Compiled once, they are kept in the cache folder, under a name that changes with the code here; numba itself would not
see that a function in another file has changed. numba keeps them as pickles; they are made on this machine and never
fetched.
"""

import importlib
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compact_biomed.console import say
from compact_biomed.files import cache_folder, sha256_json

# Tests and measurements switch the loops off with it.
OFF = "COMPACT_BIOMED_NO_COMPILED_LOOPS"

_importing = threading.Lock()  # numba's setting is one for all threads


def usable(*tensors: Tensor) -> bool:
    """Whether the loops compute on these tensors: all bfloat16 and on a CPU."""
    return all(x.dtype is torch.bfloat16 and x.is_cpu for x in tensors) and available() and OFF not in os.environ


@cache
def available() -> bool:
    """Whether compiled code can share its work among torch's threads; see `parallel`."""
    from compact_biomed.compiled import parallel

    return parallel.available()


@cache
def loops(name: str) -> ModuleType:
    """The module `name` of this package; compiled or taken from the cache when its functions are first called."""
    import numba

    with _importing:
        before, numba.config.CACHE_DIR = numba.config.CACHE_DIR, str(_folder())
        try:
            return importlib.import_module(f"compact_biomed.compiled.{name}")
        finally:
            numba.config.CACHE_DIR = before


@cache
def _folder() -> Path:
    """Where compiled code is kept; made when there is none yet."""
    sources = {path.name: path.read_text("utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))}
    folder = cache_folder() / "loops" / sha256_json(sources)[:16]
    if not folder.is_dir():
        say("  compiling the loops of the training for this machine, once: some 20 seconds")
        try:
            folder.mkdir(parents=True)
        except OSError:  # then for this process alone
            return Path(tempfile.mkdtemp(prefix="compact-biomed-loops-"))
    return folder


def call(module: str, function: str, *arguments) -> Any:
    """Call a loop on tensors and numbers, with as many threads as torch has.

    Args:
        arguments: as the loop takes them, but for the number of threads; a tensor of bfloat16 goes as its bits.
    """
    found = getattr(loops(module), function)
    return found(*(_array(x) if isinstance(x, Tensor) else x for x in arguments), torch.get_num_threads())


def _array(x: Tensor) -> np.ndarray:
    x = x.detach()
    return x.view(torch.int16).numpy().view(np.uint16) if x.dtype is torch.bfloat16 else x.numpy()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """The products within the loops are small: within the block, each is computed by the thread that wants it."""
    with _blas().limit(limits=1):
        yield


@cache
def _blas():
    # The library that the loops' products are computed by must have been loaded: it is looked for only now.
    import scipy.linalg.cython_blas  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController().select(user_api="blas")
