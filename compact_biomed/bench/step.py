"""Time this project's training step beside the published one.

Both sides start from the same weights and train on the same real documents under the same masks. They are timed in
turns, so that a busy spell of the machine hits both. Peak memory is measured in one process per side.
"""

import statistics
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from compact_biomed.bench import peak_memory
from compact_biomed.bench.published import (
    DISTILLATION_RECIPES,
    PublishedDistillationStep,
    PublishedStep,
    device_batches,
)
from compact_biomed.console import say
from compact_biomed.engine.microbatch import Replicas, split
from compact_biomed.engine.plan import plan
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.models.locate import REGISTRY_MINILM
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.records import origin
from compact_biomed.training import build, cost
from compact_biomed.training.build import build_objective
from compact_biomed.training.data import Collator, Documents
from compact_biomed.training.hyperparameters import Hyperparameters
from compact_biomed.training.recipe import MINI, SMOKE_SETTINGS, load_recipe
from compact_biomed.training.resolve import resolve

SIDES = ("published", "ours")


@dataclass(frozen=True)
class StepBench:
    """The step that is timed.

    Args:
        recipe: name of a recipe of continual pretraining or distillation.
        preset: scale of the model.
        documents: size of the batch.
        fidelity: of a distillation's loss on this project's side, "corrected" or "published".
        micro_batch_tokens: padded tokens per micro-batch; 0 = chosen for the machine.
        replicas: micro-batches side by side; 0 = one per core.
    """

    recipe: str
    preset: str = "paper"
    documents: int = 48
    fidelity: str = "corrected"
    micro_batch_tokens: int = 0
    replicas: int = 0

    @property
    def model(self) -> str:
        """The recipe's model in `models.architectures`."""
        return self.recipe.removesuffix("_cl")


def measure_step(bench: StepBench, rounds: int) -> dict[str, Any]:
    """Measure the memory of both sides and time them in turns; return the record.

    Args:
        rounds: steps of each side that are timed.
    """
    say("Measuring peak memory, one process per side ...")
    memory = {side: peak_memory(_two_steps, bench, side) for side in SIDES}
    pair = step_pair(bench)
    machine = pair.machine
    precision = str(machine.dtype).removeprefix("torch.")
    say(
        f"{bench.recipe}, preset {bench.preset}: {bench.documents} documents, {pair.tokens:,} tokens; "
        f"{machine.device}, {precision} matmul ceiling {machine.ceiling / 1e9:.0f} GFLOP/s"
    )
    difference = pair.differences()
    say("Warming up, one step per side ...")
    steps = {"published": pair.step_published, "ours": pair.step_ours}
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    for number in range(1, rounds + 1):
        for side, step in steps.items():
            start = time.perf_counter()
            step()
            seconds[side].append(time.perf_counter() - start)
        published, ours = seconds["published"][-1], seconds["ours"][-1]
        rates = f"published {pair.tokens / published:,.0f} tokens/s, ours {pair.tokens / ours:,.0f} tokens/s"
        say(f"  round {number} of {rounds}: {rates}, ratio {published / ours:.2f}")
    ratios = [published / ours for published, ours in zip(seconds["published"], seconds["ours"], strict=True)]
    rate = {side: pair.tokens / statistics.median(times) for side, times in seconds.items()}
    length = pair.tokens / bench.documents
    per_token = cost.objective_flops_per_token(pair.objective, length=length, masked=pair.masked / pair.tokens)
    return {
        "kind": "bench-step",
        "recipe": bench.recipe,
        "preset": bench.preset,
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
        "documents": bench.documents,
        "tokens": pair.tokens,
        "precision": precision,
        "replicas": machine.replicas,
        "micro_batch_tokens": machine.micro_batch_tokens,
        "device": machine.device,
        "from": origin(),
    }


def _two_steps(bench: StepBench, side: str) -> None:
    """Build one side and take two steps: the second has the optimizer's state in memory from its start."""
    pair = step_pair(bench, (side,))
    for _ in range(2):
        pair.step_ours() if side == "ours" else pair.step_published()


def step_pair(bench: StepBench, sides: tuple[str, ...] = SIDES) -> "StepPair":
    """Build the two sides of a step, or one of them."""
    return (DistillationStepPair if bench.recipe in DISTILLATION_RECIPES else StepPair)(bench, sides)


class StepPair:
    """Both ways to take a step of continual pretraining, on the same weights and the same real batch.

    Args:
        sides: those to build, of `SIDES`.
    """

    def __init__(self, bench: StepBench, sides: tuple[str, ...] = SIDES):
        quiet_transformers()
        self.bench = bench
        self.batch, self.vocabulary = real_batch(bench.preset, bench.documents)
        self.tokens = int(self.batch["attention_mask"].sum())
        self.masked = int(self.batch["labels"].ne(IGNORED).sum())
        speed = PerformanceSettings(micro_batch_tokens=bench.micro_batch_tokens, replicas=bench.replicas)
        self.machine = plan(speed, self.config(bench.model))
        if "published" in sides:
            self.published = self.build_published()
            self.device_batches = device_batches(self.batch)
        if "ours" in sides:
            self.objective = self.build_ours(self.machine.dtype)
            self.replicas = Replicas(self.objective, self.machine.replicas)
            trained = self.objective.parameters()
            self.optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.01, fused=True)

    def config(self, model: str) -> transformers.PretrainedConfig:
        """Return the configuration of a model of the family at the preset's scale."""
        return ARCHITECTURES[model][SCALE_OF_PRESET[self.bench.preset]].config(self.vocabulary)

    def random_model(self, model: str, attention: str) -> nn.Module:
        """Build a masked-LM with the same random weights on every call.

        Args:
            attention: transformers' name of an implementation, "eager" or "sdpa".
        """
        torch.manual_seed(0)
        return transformers.AutoModelForMaskedLM.from_config(self.config(model), attn_implementation=attention)

    def build_published(self) -> PublishedStep:
        return PublishedStep(self.random_model(self.bench.model, "eager"))

    def build_ours(self, dtype: torch.dtype) -> nn.Module:
        return MaskedLM(self.random_model(self.bench.model, "sdpa"), dtype=dtype, fast=self.machine.fast)

    def step_ours(self) -> float:
        """Take one optimizer step as `training.trainer` does and return the mean loss."""
        self.objective.train()
        parts, scale = self._parts(self.objective, self.batch)
        result = self.replicas.backward(parts, scale=scale, stream=(0,))
        torch.nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return result.loss_sum * scale

    def step_published(self) -> float:
        """Take one optimizer step in the published way and return the mean loss."""
        return self.published(self.device_batches)

    def differences(self) -> dict[str, float]:
        """Return the relative differences between both sides on the start weights, without dropout.

        Returns:
            "loss": of the loss in fp32. "run": of the loss in the precision that this machine trains in.
        """
        self.published.model.eval()
        with torch.no_grad():
            expected = self.published.loss(self.device_batches)
            differences = {}
            for name, dtype in (("loss", torch.float32), ("run", self.machine.dtype)):
                objective = self.build_ours(dtype).eval()
                parts, scale = self._parts(objective, self.batch)
                loss = sum(float(objective(*part).loss_sum) for part in parts) * scale
                differences[name] = abs(loss - expected) / abs(expected)
        return differences

    def _parts(self, objective: nn.Module, batch: dict[str, Tensor]) -> tuple[list, float]:
        """Split a batch into micro-batches and return them with the factor that makes their loss sum a mean."""
        machine = self.machine
        parts = split(
            **batch, tokens=machine.micro_batch_tokens, replicas=machine.replicas, keep_width=objective.keep_padding
        )
        return objective.with_divisor(parts, objective.counts(batch))


class DistillationStepPair(StepPair):
    """Both ways to take a step of distillation from a BioBERT with random weights.

    Throughput is measured at the fidelity of the bench. The differences always compare with the published formula, on
    the first device batch.
    """

    def build_published(self) -> PublishedStep:
        student, teacher = self._models("eager")
        torch.manual_seed(1)
        widths = student.config.hidden_size, teacher.config.hidden_size
        projection = nn.Linear(*widths) if self.bench.recipe == "tinybiobert" else None
        return PublishedDistillationStep(self.bench.recipe, student, teacher, projection)

    def build_ours(self, dtype: torch.dtype, fidelity: str | None = None) -> nn.Module:
        changes = {"fidelity": fidelity or self.bench.fidelity}
        hyperparameters = resolve(load_recipe(self.bench.recipe), self.bench.preset, changes=changes).hyperparameters
        torch.manual_seed(1)
        return build_objective(hyperparameters, *self._models("sdpa"), replace(self.machine, dtype=dtype))

    def _models(self, attention: str) -> tuple[nn.Module, nn.Module]:
        """Build student and teacher; both are perturbed.

        A newly made BERT has nearly uniform attention maps, and the teacher's states would nearly equal the student's.
        """
        teacher, student = self.random_model("biobert", attention), self.random_model(self.bench.recipe, attention)
        torch.manual_seed(2)
        for model in (teacher, student):
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.data.add_(torch.randn_like(parameter), alpha=0.02)
        return student, teacher

    def differences(self) -> dict[str, float]:
        """Return the differences of `StepPair` and "gradient": of all gradients in fp32, relative to their norm."""
        batch, published = self.device_batches[0], self.published.model
        published.eval()
        expected = self.published.loss([batch], backward=True)
        parameters = {f"model.{n}": p for n, p in published["student"].named_parameters()}
        if self.published.projection is not None:
            projection = self.published.projection
            parameters |= {f"projections.states.{n}": p for n, p in projection.named_parameters()}
        differences = {}
        for name, dtype in (("loss", torch.float32), ("run", self.machine.dtype)):
            objective = self.build_ours(dtype, fidelity="published").eval()
            if self.published.projection is not None:
                objective.projections["states"].load_state_dict(projection.state_dict())
            parts, scale = self._parts(objective, batch)
            loss = Replicas(objective, 1).backward(parts, scale=scale, stream=(0,)).loss_sum * scale
            differences[name] = abs(loss - expected) / abs(expected)
            if name == "loss":
                differences["gradient"] = _gradient_difference(objective, parameters)
        self.published.optimizer.zero_grad()
        return differences


def _gradient_difference(objective: nn.Module, published: dict[str, Tensor]) -> float:
    error = norm = 0.0
    for name, parameter in objective.named_parameters():
        expected = published[name].grad
        if expected is None:
            assert parameter.grad is None or not parameter.grad.any(), name
            continue
        error += float((parameter.grad - expected).square().sum())
        norm += float(expected.square().sum())
    return (error / norm) ** 0.5


def real_batch(preset: str, n: int) -> tuple[dict[str, Tensor], int]:
    """Return a masked batch of `n` real documents (generated ones for smoke), unsorted, and the vocabulary's size."""
    settings = SMOKE_SETTINGS if preset == "smoke" else {**MINI, "start": REGISTRY_MINILM, "tokenizer": REGISTRY_MINILM}
    names = {"sources", "start", "tokenizer", "max_length", "heldout_fraction"} & settings.keys()
    hyperparameters = Hyperparameters(
        recipe="bench", preset=preset, model="", **{name: settings[name] for name in names}
    )
    tokenizer = build.load_tokenizer(hyperparameters)
    corpus = build.load_corpus(hyperparameters, tokenizer)
    rows = np.random.default_rng(0).choice(len(corpus.train), n, replace=False)
    documents = Documents(corpus.train).__getitems__([(0, int(row)) for row in rows])
    masking = build.masking_of(hyperparameters, tokenizer, seed=0)
    return Collator(masking, tokenizer.pad_token_id, hyperparameters.max_length)(documents), len(tokenizer)
