"""Time or profile this project's training step beside the published one and that of tuned transformers, as a record.

The sides are timed in turns, so that a busy spell of the machine hits all of them. Peak memory is measured in one
process per side.
"""

import statistics
import time
from dataclasses import replace
from typing import Any

from compact_biomed.bench import in_new_process, peak_memory
from compact_biomed.bench.profile import profile_step
from compact_biomed.bench.sides import SIDES, StepBench, StepSides, step_sides
from compact_biomed.bench.tuned import DOCUMENTS
from compact_biomed.console import say
from compact_biomed.models.flops import objective_flops_per_token
from compact_biomed.records.provenance import origin

_SUFFIX = {"ours": "", "published": "_published", "tuned": "_tuned"}  # of the record's keys


def measure_step(bench: StepBench, rounds: int, sides: tuple[str, ...] = SIDES) -> dict[str, Any]:
    """Measure the memory of all sides and time them in turns; return the record.

    Args:
        rounds: steps of each side that are timed.
        sides: those to time. A record for tables has all; without the published one, the losses are not compared.
    """
    if "tuned" in sides and not bench.peer_documents:
        bench = replace(bench, peer_documents=_fastest_documents(bench))
    say("Measuring peak memory, one process per side ...")
    memory = {side: peak_memory(_two_steps, bench, side) for side in sides}
    step = step_sides(bench, sides)
    ceiling = step.machine.ceiling
    _say_what(bench, step)
    difference = step.differences() if set(sides) == set(SIDES) else {}
    seconds = _timed_in_turns(step, rounds)
    rate = {side: step.tokens / statistics.median(times) for side, times in seconds.items()}
    length = step.tokens / bench.documents
    per_token = objective_flops_per_token(step.ours.objective, length=length, masked=step.masked / step.tokens)
    record: dict[str, Any] = {"kind": "bench-step", "recipe": bench.recipe, "preset": bench.preset}
    if "tuned" in sides:
        record |= _ratios("ratio_to_tuned", seconds["tuned"], seconds["ours"])
    if "published" in sides:
        record |= _ratios("ratio", seconds["published"], seconds["ours"])
    record |= {f"tokens_per_s{_SUFFIX[side]}": round(rate[side], 1) for side in sides}
    record["share_of_matmul_ceiling"] = round(rate["ours"] * per_token / ceiling, 3)
    record |= {f"peak_memory_mb{_SUFFIX[side]}": round(memory[side] / 1e6, 1) for side in sides}
    for side, key in (("published", "peak_memory_ratio"), ("tuned", "peak_memory_ratio_to_tuned")):
        if side in sides:
            record[key] = round(memory["ours"] / memory[side], 3)
    if difference:
        record["loss_difference"] = difference.pop("run")
        record["loss_difference_tuned"] = difference.pop("tuned_run")
        record["loss_difference_tuned_fp32"] = difference.pop("tuned")
        record |= {f"{name}_difference_fp32": value for name, value in difference.items()}
    if "tuned" in sides:
        record["tuned"] = step.tuned.settings.as_json()
    return record | _circumstances(bench, step)


def measure_profile(bench: StepBench, rounds: int, *, peer: bool = False) -> dict[str, Any]:
    """Profile our training step, and that of tuned transformers; return the record.

    Args:
        rounds: steps of each that are profiled.
        peer: profile tuned transformers too.
    """
    sides = ("ours", "tuned") if peer else ("ours",)
    step = step_sides(bench, sides)
    _say_what(bench, step)
    profiles = {}
    for side in sides:
        say(f"Profiling {side} ...")
        profile = profile_step(step.steps[side], replicas=step.machine.replicas if side == "ours" else 1, rounds=rounds)
        profiles[side] = profile.as_json(step.tokens)
    return {
        "kind": "bench-profile",
        "recipe": bench.recipe,
        "preset": bench.preset,
        "profiles": profiles,
        "tuned": step.tuned.settings.as_json() if peer else None,
    } | _circumstances(bench, step)


def _say_what(bench: StepBench, step: StepSides) -> None:
    machine = step.machine
    say(
        f"{bench.recipe}, preset {bench.preset}: {bench.documents} documents, {step.tokens:,} tokens; "
        f"{machine.device}, {machine.precision} matmul ceiling {machine.ceiling / 1e9:.0f} GFLOP/s"
    )


def _circumstances(bench: StepBench, step: StepSides) -> dict[str, Any]:
    """Return the part of a record that says on what, where and by which code it was measured."""
    machine = step.machine
    return {
        "matmul_ceiling_gflops": round(machine.ceiling / 1e9, 1),
        "documents": bench.documents,
        "tokens": step.tokens,
        "precision": machine.precision,
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "device": machine.device,
        "from": origin(),
    }


def _timed_in_turns(step: StepSides, rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side's steps, after one step per side to warm up."""
    say("Warming up, one step per side ...")
    for take in step.steps.values():
        take()
    seconds: dict[str, list[float]] = {side: [] for side in step.steps}
    for number in range(1, rounds + 1):
        for side, take in step.steps.items():
            start = time.perf_counter()
            take()
            seconds[side].append(time.perf_counter() - start)
        rates = ", ".join(f"{side} {step.tokens / times[-1]:,.0f} tokens/s" for side, times in seconds.items())
        ours = seconds["ours"][-1]
        ratios = (f"{times[-1] / ours:.2f} to {side}" for side, times in seconds.items() if side != "ours")
        say(f"  round {number} of {rounds}: {rates}; ratio {', '.join(ratios)}")
    return seconds


def _ratios(name: str, theirs: list[float], ours: list[float]) -> dict[str, Any]:
    """Return the median of the rounds' ratios under a name, and the ratios themselves."""
    ratios = [a / b for a, b in zip(theirs, ours, strict=True)]
    return {name: round(statistics.median(ratios), 3), name.replace("ratio", "ratios"): [round(r, 3) for r in ratios]}


def _two_steps(bench: StepBench, side: str) -> None:
    """Build one side and take two steps: the second has the optimizer's state in memory from its start."""
    take = step_sides(bench, (side,)).steps[side]
    for _ in range(2):
        take()


def _fastest_documents(bench: StepBench) -> int:
    """Return how many documents per micro-batch are fastest for tuned transformers."""
    if bench.documents <= min(DOCUMENTS):
        return bench.documents
    say("Choosing the micro-batch of tuned transformers ...")
    documents, rates = in_new_process(_time_documents, bench)
    say("  " + ", ".join(f"{n} documents {rate:,.0f} tokens/s" for n, rate in rates.items()))
    return documents


def _time_documents(bench: StepBench) -> tuple[int, dict[int, float]]:
    """Return the fastest size of a micro-batch, and the tokens per second with each; two timed steps per size."""
    step = step_sides(bench, ("tuned",))
    rates = {}
    step.steps["tuned"]()
    for documents in (n for n in DOCUMENTS if n <= bench.documents):
        step.tuned.documents, seconds = documents, []
        for _ in range(2):
            start = time.perf_counter()
            step.steps["tuned"]()
            seconds.append(time.perf_counter() - start)
        rates[documents] = step.tokens / min(seconds)
    return max(rates, key=rates.get), rates
