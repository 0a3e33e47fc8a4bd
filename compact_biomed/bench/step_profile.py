"""Profile the training step of a recipe, ours and that of tuned transformers, as a record."""

from typing import Any

from compact_biomed.bench.profile import profile_step
from compact_biomed.bench.sides import StepBench, step_sides
from compact_biomed.console import say
from compact_biomed.provenance import origin


def measure_profile(bench: StepBench, rounds: int, *, peer: bool = False) -> dict[str, Any]:
    """Profile our training step, and that of tuned transformers; return the record.

    Args:
        rounds: steps of each that are profiled.
        peer: profile tuned transformers too.
    """
    sides = ("ours", "tuned") if peer else ("ours",)
    step = step_sides(bench, sides)
    machine = step.machine
    say(f"{bench.recipe}, preset {bench.preset}: {bench.documents} documents, {step.tokens:,} tokens; {machine.device}")
    profiles = {}
    for side in sides:
        say(f"Profiling {side} ...")
        profile = profile_step(step.steps[side], replicas=machine.replicas if side == "ours" else 1, rounds=rounds)
        profiles[side] = profile.as_json(step.tokens)
    return {
        "kind": "bench-profile",
        "recipe": bench.recipe,
        "preset": bench.preset,
        "profiles": profiles,
        "tuned": step.tuned.settings.as_json() if peer else None,
        "matmul_ceiling_gflops": round(machine.ceiling / 1e9, 1),
        "documents": bench.documents,
        "tokens": step.tokens,
        "precision": str(machine.dtype).removeprefix("torch."),
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "device": machine.device,
        "from": origin(),
    }
