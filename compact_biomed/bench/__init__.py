"""Benchmarks of speed and size: each measures this project and the published or plain way side by side."""

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

from compact_biomed.machine import own_peak_memory

# The paper's main model first, then the students, whose steps are the longest of the published schedule.
RECIPES = (
    *("biomobilebert_cl", "distilbiobert", "compactbiobert", "tinybiobert"),
    *("biodistilbert_cl", "biotinybert_cl", "biominilm_cl"),
)
VARIANTS = ("torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8")

T = TypeVar("T")


def timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what `work` returns, and its seconds."""
    start = time.perf_counter()
    done = work()
    return done, time.perf_counter() - start


def in_new_process(work: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `work(*arguments)` returns in a new process."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def peak_memory(work: Callable[..., Any], *arguments: Any) -> int:
    """Return the peak resident memory in bytes of a new process that calls `work(*arguments)`."""
    return in_new_process(_peak_memory_after, work, arguments)


def _peak_memory_after(work: Callable[..., Any], arguments: tuple) -> int:
    work(*arguments)
    return own_peak_memory()
