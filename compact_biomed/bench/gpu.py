"""Measure all recipes on a GPU within a few minutes: do they compute what the CPU does, and how fast?

The most valuable comes first, and each result is kept as soon as it is there: recipe by recipe, the checks and the
speed of the modes that need no compiler; then the published way, which takes seconds; then compiled layers. At the end
of the time, what has not been measured is named.
"""

import gc
import signal
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from compact_biomed.bench import RECIPES
from compact_biomed.bench.gpu_steps import CHECKED, TOLERANCES, GpuRecipe
from compact_biomed.bench.profile import profile_step
from compact_biomed.console import duration, say
from compact_biomed.engine.plan import device_name, matmul_ceiling
from compact_biomed.errors import UsageError
from compact_biomed.machine import own_peak_memory, seconds_since_start
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.records.provenance import origin

_PHASES = (("trainer", "tuned"), ("plain",), ("compiled",))
_RESERVE = 10.0  # seconds of the budget that are kept for the end
# Peak rates of dense bf16 products in TFLOP/s, from the vendor's data sheets; the first name that fits counts.
_PEAKS = {
    "H100 PCIe": 756,
    "H100 NVL": 835,
    "H100": 989,
    "H200": 989,
    "B200": 2250,
    "A100": 312,
    "L40S": 362,
    "L4": 121,
    "RTX 4090": 165,
}


@dataclass(frozen=True)
class GpuBench:
    """What is measured.

    Args:
        device: "cuda" or "cpu" (to test the benchmark).
        scale: of the models: "paper" or "smoke".
        documents: of a batch; the paper's are 192.
        minutes: of the whole command, from the start of the process.
        recipes: in this order.
        seconds: that each timing takes, about.
    """

    device: str = "cuda"
    scale: str = "paper"
    documents: int = 192
    minutes: float = 8.0
    recipes: tuple[str, ...] = RECIPES
    seconds: float = 2.0


class OutOfTime(BaseException):
    """Raised at the end of the budget, past everything that handles errors."""


def measure_gpu(bench: GpuBench, keep: Callable[[dict[str, Any]], None]) -> list[dict[str, Any]]:
    """Measure each recipe in each mode; return the records.

    Args:
        keep: is called with each record as soon as it is there.

    Raises:
        UsageError: there is no such device.
    """
    if bench.device == "cuda" and not torch.cuda.is_available():
        raise UsageError("no GPU here", where="bench gpu", remedy="--device cpu tests the command with small models")
    quiet_transformers()
    records: list[dict[str, Any]] = []
    planned = [(recipe, mode) for modes in _PHASES for recipe in bench.recipes for mode in modes]
    dtype = torch.bfloat16 if bench.device == "cpu" or torch.cuda.is_bf16_supported() else torch.float32
    size = 8192 if bench.device == "cuda" else 256
    ceiling = matmul_ceiling(dtype, bench.device, size=size)
    say(f"{_device(bench)}: {str(dtype).removeprefix('torch.')} products at {ceiling / 1e12:,.2f} TFLOP/s")
    common = _common(bench, dtype, ceiling)
    try:
        with _alarm(bench.minutes * 60 - _RESERVE - seconds_since_start()):
            recipes: dict[str, GpuRecipe] = {}
            for name, mode in planned:
                record = _measured(bench, recipes, name, mode, dtype, common)
                records.append(record)
                keep(record)
                say(f"  {_summary(record)}")
    except OutOfTime:
        done = {(record["recipe"], record["mode"]) for record in records}
        left = ", ".join(f"{recipe} {mode}" for recipe, mode in planned if (recipe, mode) not in done)
        say(f"The time is over ({bench.minutes:g} minutes). Not measured: {left}.")
    return records


def _measured(
    bench: GpuBench, recipes: dict[str, GpuRecipe], name: str, mode: str, dtype: torch.dtype, common: dict[str, Any]
) -> dict[str, Any]:
    """Return the record of one recipe in one mode; an error is part of it, so that the others are still measured."""
    start = time.perf_counter()
    record = {"kind": "bench-gpu", "recipe": name, "mode": mode, **common, "checks": {}, "error": None}
    record |= dict.fromkeys(("tokens_per_s", "mfu", "peak_memory_mb", "paper_hours"))
    try:
        if name not in recipes:
            recipes[name] = GpuRecipe(name, scale=bench.scale, documents=bench.documents, device=bench.device)
        recipe = recipes[name]
        try:
            _add_mode(record, bench, recipe, dtype, common)
        except Exception as error:
            if mode in ("trainer", "plain") or not recipe.packs:
                raise
            recipe.packs = False  # flash attention on unpadded documents may be missing here: pad them, with SDPA
            record["unpadded_error"] = _in_a_line(error)
            _add_mode(record, bench, recipe, dtype, common)
    except Exception as error:  # out of memory, a compiler that fails: the next recipe may do better
        record["error"] = _in_a_line(error)
    if bench.device == "cuda":  # whose memory the next mode needs
        gc.collect()
        torch.cuda.empty_cache()
    if mode == "compiled":
        torch._dynamo.reset()
    return record | {"measured_in_s": round(time.perf_counter() - start, 1), "from": origin()}


def _in_a_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _add_mode(
    record: dict[str, Any], bench: GpuBench, recipe: GpuRecipe, dtype: torch.dtype, common: dict[str, Any]
) -> None:
    """Check a record's mode against the CPU, in fp32 and in the type that is timed, and time it; add the results."""
    mode = record["mode"]
    if mode in CHECKED:
        types = dict.fromkeys((torch.float32, dtype))
        record["checks"] = {str(each).removeprefix("torch."): recipe.check(mode, each) for each in types}
    step = recipe.step(mode, torch.float32 if mode == "plain" else dtype)
    record |= _timing(bench, recipe, step)
    record |= _rates(recipe, record, common)
    if mode == "tuned":
        try:
            profile = profile_step(lambda: step(recipe.batch), on_gpu=bench.device == "cuda")
            record["profile"] = profile.as_json(recipe.tokens)
        except Exception as error:  # the timing counts without it
            record["profile_error"] = _in_a_line(error)


def _timing(bench: GpuBench, recipe: GpuRecipe, step: Callable[[Any], float]) -> dict[str, Any]:
    """Return how long steps take, the first of them included, their first loss, and the peak memory."""
    on_gpu = bench.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()

    def take() -> tuple[float, float]:
        start = time.perf_counter()
        loss = step(recipe.batch)
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - start, loss

    first, loss = take()
    take()
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < bench.seconds:
        seconds.append(take()[0])
    memory = torch.cuda.max_memory_allocated() if on_gpu else own_peak_memory()
    return {
        "settings": step.settings.as_json() if hasattr(step, "settings") else None,
        "first_step_seconds": round(first, 3),
        "first_loss": round(loss, 5),
        "step_seconds": round(statistics.median(seconds), 5),
        "steps": len(seconds),
        "peak_memory_mb": round(memory / 1e6, 1),
    }


def _rates(recipe: GpuRecipe, record: dict[str, Any], common: dict[str, Any]) -> dict[str, Any]:
    """Return tokens per second, the share of the peak rate, and how long the published schedule would take."""
    rate = recipe.tokens / record["step_seconds"]
    flops = rate * recipe.flops_per_token()
    schedule = recipe.recipe.at("paper")
    tokens = schedule["max_steps"] * schedule["batch_size"] * recipe.tokens / recipe.documents
    peak = common["peak_tflops"]
    return {
        "tokens": recipe.tokens,
        "tokens_per_s": round(rate, 1),
        "tflops": round(flops / 1e12, 4),
        "mfu": round(flops / 1e12 / peak, 4) if peak else None,
        "share_of_matmul_ceiling": round(flops / 1e12 / common["matmul_ceiling_tflops"], 4),
        "paper_steps": schedule["max_steps"],
        "paper_hours": round(tokens / rate / 3600, 2) if recipe.scale == "paper" else None,
    }


def _common(bench: GpuBench, dtype: torch.dtype, ceiling: float) -> dict[str, Any]:
    device = _device(bench)
    peak = next((rate for name, rate in _PEAKS.items() if name in device), None)
    return {
        "scale": bench.scale,
        "device": device,
        "precision": str(dtype).removeprefix("torch."),
        "documents": bench.documents,
        "matmul_ceiling_tflops": round(ceiling / 1e12, 3),
        "peak_tflops": peak if bench.device == "cuda" else None,
        "tolerances": {str(t).removeprefix("torch."): list(most) for t, most in TOLERANCES.items()},
    }


def _device(bench: GpuBench) -> str:
    return torch.cuda.get_device_name() if bench.device == "cuda" else device_name()


def _summary(record: dict[str, Any]) -> str:
    name = f"{record['recipe']} {record['mode']}"
    took = f"(in {duration(record['measured_in_s'])})"
    if record["error"]:
        return f"{name}: failed: {record['error']} {took}"
    hours = f", paper in {record['paper_hours']:,.1f} h" if record["paper_hours"] else ""
    failed = [kind for kind, check in record["checks"].items() if not check["passed"]]
    checks = f"; DIFFERS FROM THE CPU in {', '.join(failed)}" if failed else "; equals the CPU" * bool(record["checks"])
    line = f"{name}: {record['tokens_per_s']:,.0f} tokens/s{hours}{checks} {took}"
    if shares := record.get("profile", {}).get("shares"):
        line += "\n    " + ", ".join(f"{kind} {share:.0%}" for kind, share in shares.items())
    return line


def all_passed(records: Sequence[dict[str, Any]]) -> bool:
    """Return whether every mode ran, and every check was within its tolerance."""
    checks = (check["passed"] for record in records for check in record["checks"].values())
    return all(checks) and not any(record["error"] for record in records)


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise `OutOfTime` in the block after so many seconds; at once if there are none."""

    def ring(*_: Any) -> None:
        raise OutOfTime

    if seconds <= 0:
        raise OutOfTime
    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
