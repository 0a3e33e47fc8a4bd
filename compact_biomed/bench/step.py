"""`compact-biomed bench step`: the project's training step beside the published one.

Same weights, same real documents, same masks; in turns, so that a busy spell of the machine
hits both. Memory is measured in a process for each.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from compact_biomed.console import say, size
from compact_biomed.flags import at_least_one

_RECIPES = (
    *("biomobilebert_cl", "biodistilbert_cl", "biotinybert_cl", "biominilm_cl"),
    *("distilbiobert", "compactbiobert", "tinybiobert"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench step`."""
    from compact_biomed.training.recipe import PRESETS

    add = parser.add_argument
    add("--recipe", choices=_RECIPES, default="biomobilebert_cl")
    add("--preset", choices=PRESETS, default="paper", help="scale of the model (default: paper)")
    add(
        "--documents",
        type=at_least_one,
        default=48,
        metavar="N",
        help="of the batch (default 48 = 2 devices of 24)",
    )
    add("--fidelity", choices=("corrected", "published"), default="corrected", help="of a distillation's own step")
    add("--rounds", type=at_least_one, default=5, metavar="N", help="pairs that are timed (default 5)")
    add("--micro-batch-tokens", type=int, default=0, metavar="N", help="padded tokens a micro-batch (default: chosen)")
    add("--replicas", type=int, default=0, metavar="N", help="micro-batches side by side (default: one for each core)")
    add("--json", action="store_true", help="print one JSON object on stdout")
    add("--records", type=Path, metavar="FILE", help="append the result to this JSON Lines file")
    add("--memory-of", choices=("ours", "published"), help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Measure, print, record."""
    if options.memory_of:
        print(_peak_memory_here(options))
        return 0
    result = compare(options)
    if options.records:
        from compact_biomed.files import append_record

        append_record(options.records, result)
    _tell(result)
    if options.json:
        import json

        print(json.dumps(result))
    return 0


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways in turns and measure their memory; the result is one JSON object."""
    from compact_biomed.bench.pair import pair_for
    from compact_biomed.origin import origin
    from compact_biomed.training import cost

    say("peak memory, a process for each ...")
    memory = {name: _peak_memory_of(options, name) for name in ("published", "ours")}
    pair = pair_for(options)
    machine = pair.machine
    precision = str(machine.dtype).removeprefix("torch.")
    say(f"{options.recipe}, preset {options.preset}: {options.documents} real documents, {pair.tokens:,} tokens, "
        f"{machine.device}, {precision} ceiling {machine.ceiling / 1e9:.0f} GFLOP/s")  # fmt: skip
    difference = pair.differences()
    say("one step of each to warm up ...")
    pair.step_published(), pair.step_ours()
    seconds: dict[str, list[float]] = {"published": [], "ours": []}
    for number in range(options.rounds):
        for name, step in (("published", pair.step_published), ("ours", pair.step_ours)):
            start = time.perf_counter()
            step()
            seconds[name].append(time.perf_counter() - start)
        theirs, ours = seconds["published"][-1], seconds["ours"][-1]
        say(f"  pair {number + 1}: published {pair.tokens / theirs:,.0f} tokens/s, ours {pair.tokens / ours:,.0f}, "
            f"ratio {theirs / ours:.2f}")  # fmt: skip
    ratios = [a / b for a, b in zip(seconds["published"], seconds["ours"], strict=True)]
    rate = {name: pair.tokens / statistics.median(times) for name, times in seconds.items()}
    length = pair.tokens / options.documents
    per_token = cost.objective_flops_per_token(pair.objective, length=length, masked=pair.masked / pair.tokens)
    return {
        "kind": "bench-step",
        "recipe": options.recipe,
        "preset": options.preset,
        "ratio": round(statistics.median(ratios), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "tokens_per_s": round(rate["ours"], 1),
        "tokens_per_s_published": round(rate["published"], 1),
        "share_of_matmul_ceiling": round(rate["ours"] * per_token / machine.ceiling, 3),
        "matmul_ceiling_gflops": round(machine.ceiling / 1e9, 1),
        "peak_memory_mb": round(memory["ours"] / 1e6, 1),
        "peak_memory_mb_published": round(memory["published"] / 1e6, 1),
        "peak_memory_ratio": round(memory["ours"] / memory["published"], 3),
        "loss_difference": difference.pop("run"),
        **{f"{name}_difference_fp32": value for name, value in difference.items()},
        "documents": options.documents,
        "tokens": pair.tokens,
        "precision": precision,
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "device": machine.device,
        "from": origin(),
    }


def _peak_memory_of(options: argparse.Namespace, name: str) -> int:
    command = [sys.executable, "-m", "compact_biomed", "bench", "step", "--memory-of", name]
    for flag in ("recipe", "preset", "documents", "fidelity", "micro_batch_tokens", "replicas"):
        command += [f"--{flag.replace('_', '-')}", str(getattr(options, flag))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _peak_memory_here(options: argparse.Namespace) -> int:
    from compact_biomed.bench.memory import own_peak_memory
    from compact_biomed.bench.pair import pair_for

    pair = pair_for(options, which=(options.memory_of,))
    step = pair.step_ours if options.memory_of == "ours" else pair.step_published
    step(), step()
    return own_peak_memory()


def _tell(result: dict[str, Any]) -> None:
    say(f"\n{'':<12}{'tokens/s':>10}{'peak memory':>14}")
    for name, suffix in (("published", "_published"), ("ours", "")):
        memory = size(result[f"peak_memory_mb{suffix}"] * 1e6)
        say(f"{name:<12}{result[f'tokens_per_s{suffix}']:>10,.0f}{memory:>14}")
    say(f"ratio {result['ratio']:.2f} (median of {len(result['ratios'])} pairs), "
        f"memory {result['peak_memory_ratio']:.2f}, {result['share_of_matmul_ceiling']:.0%} of the matmul ceiling; "
        f"losses differ by {result['loss_difference_fp32']:.1e} in fp32, {result['loss_difference']:.1e} in "
        f"{result['precision']}")  # fmt: skip
