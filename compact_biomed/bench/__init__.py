"""Benchmarks of speed and size: each measures this project and the published or plain way side by side."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from compact_biomed.machine import own_peak_memory

VARIANTS = ("torch-fp32", "torch-bf16", "onnx-fp32", "onnx-int8")


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
