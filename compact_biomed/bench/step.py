"""`compact-biomed bench step`: the project's training step beside the published one.

Same weights, same real documents, same masks; in turns, so that a busy spell of the machine
hits both. Memory is measured in a process for each.
"""

import argparse
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from compact_biomed.bench.published import DISTILLED, PublishedDistillationStep, PublishedStep, device_batches
from compact_biomed.console import say
from compact_biomed.engine.microbatch import Replicas, split
from compact_biomed.engine.plan import ComputePlan, plan
from compact_biomed.machine import Speed
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.models.checkpoints import REGISTRY_MINILM, quiet_transformers
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.records import origin
from compact_biomed.training import build, cost
from compact_biomed.training.build import build_objective
from compact_biomed.training.data import Collator, Documents
from compact_biomed.training.hyperparameters import Hyperparameters
from compact_biomed.training.recipe import MINI, SMOKE_SETTINGS, load_recipe
from compact_biomed.training.resolve import resolve

# ----------------------------------------------------------------------------------------------------
# Both ways to take a training step, on the same weights and the same real batch.


BOTH = ("ours", "published")


def pair_for(options: argparse.Namespace, which: tuple[str, ...] = BOTH) -> "Pair":
    """The pair of a recipe; see `bench.step.add_arguments`."""
    return (DistillationPair if options.recipe in DISTILLED else Pair)(options, which)


class Pair:
    """Continual masked-LM pretraining.

    Args:
        options: of `bench step`.
        which: what is built.
    """

    def __init__(self, options: argparse.Namespace, which: tuple[str, ...] = BOTH):
        quiet_transformers()
        self.options = options
        self.batch, self.vocabulary = real_batch(options.preset, options.documents)
        self.tokens = int(self.batch["attention_mask"].sum())
        self.masked = int(self.batch["labels"].ne(-100).sum())
        speed = Speed(micro_batch_tokens=options.micro_batch_tokens, replicas=options.replicas)
        self.machine = plan(speed, self.config(options.recipe.removesuffix("_cl")))
        if "published" in which:
            self.published = self.build_published()
            self.device_batches = device_batches(self.batch)
        if "ours" in which:
            self.objective = self.build_ours(self.machine.dtype)
            self.replicas = Replicas(self.objective, self.machine.replicas)
            trained = self.objective.parameters()
            self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)

    def config(self, model: str):
        """The configuration of a model of the family at the preset's scale."""
        return ARCHITECTURES[model][SCALE_OF_PRESET[self.options.preset]].config(self.vocabulary)

    def fresh(self, model: str, attention: str) -> nn.Module:
        """A masked-LM with the same random weights each time."""
        torch.manual_seed(0)
        return transformers.AutoModelForMaskedLM.from_config(self.config(model), attn_implementation=attention)

    def build_published(self) -> PublishedStep:
        return PublishedStep(self.fresh(self.options.recipe.removesuffix("_cl"), "eager"))

    def build_ours(self, dtype: torch.dtype) -> nn.Module:
        model = self.fresh(self.options.recipe.removesuffix("_cl"), "sdpa")
        return MaskedLM(model, dtype=dtype, fast=self.machine.fast)

    def _parts(self, objective: nn.Module, batch: dict[str, Tensor]) -> tuple[list, float]:
        machine = self.machine
        parts = split(
            **batch, tokens=machine.micro_batch_tokens, replicas=machine.replicas, keep_width=objective.keep_padding
        )
        return objective.shared(parts, objective.counts(batch))

    def step_ours(self) -> float:
        """One optimizer step, as `training.trainer` takes it; returns the mean loss."""
        self.objective.train()
        parts, scale = self._parts(self.objective, self.batch)
        result = self.replicas.backward(parts, scale=scale, stream=(0,))
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return result.loss_sum * scale

    def step_published(self) -> float:
        """One optimizer step of the published way; returns the mean loss."""
        return self.published(self.device_batches)

    def differences(self) -> dict[str, float]:
        """Relative differences on the start weights, dropout off.

        Returns:
            "loss" in fp32, and "run": the loss in the precision that this machine runs in.
        """
        self.published.model.eval()
        with torch.no_grad():
            theirs = self.published.losses(self.device_batches)
            differences = {}
            for name, dtype in (("loss", torch.float32), ("run", self.machine.dtype)):
                objective = self.build_ours(dtype).eval()
                parts, scale = self._parts(objective, self.batch)
                ours = sum(float(objective(*part).loss_sum) for part in parts) * scale
                differences[name] = abs(ours - theirs) / abs(theirs)
        return differences


class DistillationPair(Pair):
    """Distillation from a BioBERT of random weights. Speed is measured at the fidelity that is
    asked for; the differences always against the published formula, on the first device batch.
    """

    def build_published(self) -> PublishedStep:
        student, teacher = self._models("eager")
        torch.manual_seed(1)
        widths = student.config.hidden_size, teacher.config.hidden_size
        projection = nn.Linear(*widths) if self.options.recipe == "tinybiobert" else None
        return PublishedDistillationStep(self.options.recipe, student, teacher, projection)

    def _models(self, attention: str) -> tuple[nn.Module, nn.Module]:
        teacher, student = self.fresh("biobert", attention), self.fresh(self.options.recipe, attention)
        torch.manual_seed(2)  # a fresh BERT's maps are all but uniform, and its states all but those of the student
        for model in (teacher, student):
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
        return student, teacher

    def build_ours(self, dtype: torch.dtype, fidelity: str | None = None) -> nn.Module:
        recipe = load_recipe(self.options.recipe)
        changes = {"fidelity": fidelity or self.options.fidelity}
        hyperparameters = resolve(recipe, self.options.preset, changes=changes).hyperparameters
        machine = ComputePlan(**{**self.machine.__dict__, "dtype": dtype})
        torch.manual_seed(1)
        return build_objective(hyperparameters, *self._models("sdpa"), machine)

    def differences(self) -> dict[str, float]:
        """As of `Pair`, and "gradient": of all gradients together, in fp32, relative to their norm."""
        batch = self.device_batches[0]
        self.published.wrapper.eval()
        theirs = self.published.losses([batch], backward=True)
        names = {f"model.{n}": p for n, p in self.published.wrapper["student"].named_parameters()}
        if "projection" in self.published.wrapper:
            names |= {f"projections.states.{n}": p for n, p in self.published.wrapper["projection"].named_parameters()}
        differences = {}
        for name, dtype in (("loss", torch.float32), ("run", self.machine.dtype)):
            objective = self.build_ours(dtype, fidelity="published").eval()
            if "projection" in self.published.wrapper:
                objective.projections["states"].load_state_dict(self.published.wrapper["projection"].state_dict())
            parts, scale = self._parts(objective, batch)
            ours = Replicas(objective, 1).backward(parts, scale=scale, stream=(0,)).loss_sum * scale
            differences[name] = abs(ours - theirs) / abs(theirs)
            if name == "loss":
                differences["gradient"] = _gradient_difference(objective, names)
        self.published.optimizer.zero_grad()
        return differences


def _gradient_difference(objective: nn.Module, published: dict[str, Tensor]) -> float:
    error = norm = 0.0
    for name, parameter in objective.named_parameters():
        theirs = published[name].grad
        if theirs is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        error += float((parameter.grad - theirs).square().sum())
        norm += float(theirs.square().sum())
    return (error / norm) ** 0.5


def real_batch(preset: str, n: int):
    """A masked batch of real documents (invented ones for smoke), as they come, and the vocabulary's size."""
    known = SMOKE_SETTINGS if preset == "smoke" else {**MINI, "start": REGISTRY_MINILM, "tokenizer": REGISTRY_MINILM}
    fields = ("sources", "start", "tokenizer", "max_length", "heldout_fraction")
    science = Hyperparameters(recipe="bench", preset=preset, model="", **{k: known[k] for k in fields if k in known})
    tokenizer = build.load_tokenizer(science)
    corpus = build.load_corpus(science, tokenizer)
    rows = np.random.default_rng(0).choice(len(corpus.train), n, replace=False)
    documents = Documents(corpus.train).__getitems__([(0, int(row)) for row in rows])
    collate = Collator(build.masking_of(science, tokenizer, seed=0), tokenizer.pad_token_id, science.max_length)
    return collate(documents), len(tokenizer)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Time both ways in turns and measure their memory; the result is one JSON object."""

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
