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

_RECIPES = {
    "biomobilebert_cl": "biomobilebert",
    "biodistilbert_cl": "biodistilbert",
    "biotinybert_cl": "biotinybert",
    "biominilm_cl": "biominilm",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags of `bench step`."""
    from compact_biomed.training.recipe import PRESETS

    add = parser.add_argument
    add("--recipe", choices=tuple(_RECIPES), default="biomobilebert_cl")
    add("--preset", choices=PRESETS, default="paper", help="scale of the model (default: paper)")
    add("--documents", type=int, default=48, metavar="N", help="documents of the batch (default 48 = 2 devices of 24)")
    add("--rounds", type=int, default=5, metavar="N", help="pairs that are timed (default 5)")
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


class Pair:
    """Both ways to take a step, on the same weights and the same batch."""

    def __init__(self, options: argparse.Namespace, which: tuple[str, ...] = ("ours", "published")):
        import torch
        import transformers

        from compact_biomed.bench.published import PublishedStep, device_batches
        from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
        from compact_biomed.objectives.mlm import MaskedLM
        from compact_biomed.training.machine import plan
        from compact_biomed.training.microbatch import Replicas
        from compact_biomed.training.settings import Speed

        transformers.utils.logging.set_verbosity_error()
        batch, vocabulary = real_batch(options.preset, options.documents)
        self.tokens = int(batch["attention_mask"].sum())
        self.masked = int(batch["labels"].ne(-100).sum())
        config = ARCHITECTURES[_RECIPES[options.recipe]][SCALE_OF_PRESET[options.preset]].config(vocabulary)

        def fresh(attention: str):
            torch.manual_seed(0)
            return transformers.AutoModelForMaskedLM.from_config(config, attn_implementation=attention)

        speed = Speed(micro_batch_tokens=options.micro_batch_tokens, replicas=options.replicas)
        self.machine = plan(speed, config)
        self.batch = batch
        if "published" in which:
            self.published = PublishedStep(fresh("eager"))
            self.device_batches = device_batches(batch)
        if "ours" in which:
            model = fresh("sdpa")
            self.objective = MaskedLM(model, dtype=self.machine.dtype, fast=self.machine.fast)
            self.replicas = Replicas(self.objective, self.machine.replicas)
            self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    def step_ours(self) -> float:
        """One optimizer step, as `training.trainer` takes it; returns the mean loss."""
        import torch

        from compact_biomed.training.microbatch import split

        self.objective.train()
        parts = split(**self.batch, tokens=self.machine.micro_batch_tokens, replicas=self.machine.replicas)
        result = self.replicas.backward(parts, scale=1 / self.masked, stream=(0,))
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return result.loss_sum / self.masked

    def step_published(self) -> float:
        return self.published(self.device_batches)

    def loss_difference(self) -> dict[str, float]:
        """Relative difference of the losses of the start weights, dropout off: ours in fp32 and as it runs."""
        import torch

        from compact_biomed.objectives.mlm import MaskedLM
        from compact_biomed.training.microbatch import split

        self.published.model.eval()
        differences = {}
        with torch.no_grad():
            theirs = self.published.losses(self.device_batches)
            for name, dtype in (("fp32", torch.float32), ("run", self.machine.dtype)):
                objective = MaskedLM(self.objective.model, dtype=dtype, fast=self.machine.fast).eval()
                parts = split(**self.batch, tokens=self.machine.micro_batch_tokens)
                ours = sum(float(objective(*part).loss_sum) for part in parts) / self.masked
                differences[name] = abs(ours - theirs) / theirs
        return differences


def real_batch(preset: str, n: int):
    """A masked batch of real documents (invented ones for smoke), as they come, and the vocabulary's size."""
    import numpy as np

    from compact_biomed.models.start import REGISTRY_MINILM
    from compact_biomed.training import build
    from compact_biomed.training.data import Collator, Documents
    from compact_biomed.training.recipe import MINI, SMOKE_SETTINGS
    from compact_biomed.training.settings import Science

    known = SMOKE_SETTINGS if preset == "smoke" else {**MINI, "start": REGISTRY_MINILM, "tokenizer": REGISTRY_MINILM}
    fields = ("sources", "start", "tokenizer", "max_length", "heldout_fraction")
    science = Science(recipe="bench", preset=preset, model="", **{k: known[k] for k in fields if k in known})
    tokenizer = build.load_tokenizer(science)
    corpus = build.load_corpus(science, tokenizer)
    rows = np.random.default_rng(0).choice(len(corpus.train), n, replace=False)
    documents = Documents(corpus.train).__getitems__([(0, int(row)) for row in rows])
    collate = Collator(build.masking_of(science, tokenizer, seed=0), tokenizer.pad_token_id, science.max_length)
    return collate(documents), len(tokenizer)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways in turns and measure their memory; the result is one JSON object."""
    from compact_biomed.training import cost, story

    say("peak memory, a process for each ...")
    memory = {name: _peak_memory_of(options, name) for name in ("published", "ours")}
    pair = Pair(options)
    machine = pair.machine
    precision = str(machine.dtype).removeprefix("torch.")
    say(f"{options.recipe}, preset {options.preset}: {options.documents} real documents, {pair.tokens:,} tokens, "
        f"{machine.device}, {precision} ceiling {machine.ceiling / 1e9:.0f} GFLOP/s")  # fmt: skip
    difference = pair.loss_difference()
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
    per_token = cost.flops_per_token(pair.objective.model, length=length, masked=pair.masked / pair.tokens)
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
        "loss_difference": difference["run"],
        "loss_difference_fp32": difference["fp32"],
        "documents": options.documents,
        "tokens": pair.tokens,
        "precision": precision,
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "device": machine.device,
        "versions": story.versions(),
        "command": story.command_line(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _peak_memory_of(options: argparse.Namespace, name: str) -> int:
    command = [sys.executable, "-m", "compact_biomed", "bench", "step", "--memory-of", name]
    for flag in ("recipe", "preset", "documents", "micro_batch_tokens", "replicas"):
        command += [f"--{flag.replace('_', '-')}", str(getattr(options, flag))]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


def _peak_memory_here(options: argparse.Namespace) -> int:
    from compact_biomed.bench.memory import own_peak_memory

    pair = Pair(options, which=(options.memory_of,))
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
