"""The training step of each recipe on a GPU, in four modes, and whether it computes what the CPU computes.

plain     as the published scripts: fp32, eager attention, every position through the vocabulary head, 24 documents
          per batch
trainer   as this project's Trainer computes on a GPU: transformers' modules, bf16 autocast, SDPA, masked rows only
tuned     unpadded documents and flash attention where no attention maps are compared; else SDPA, and eager attention
          in the compared layers; bf16 autocast, masked rows only
compiled  tuned, with the layers through torch.compile
"""

import copy
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from compact_biomed.bench.ours import OurStep
from compact_biomed.bench.packed import PackedStep
from compact_biomed.bench.published import PublishedDistillationStep, PublishedStep, device_batches
from compact_biomed.bench.tuned import MASKED_LM, TunedStep
from compact_biomed.bench.workload import perturb, random_batch, random_masked_lm, relative_difference
from compact_biomed.models.architectures import ARCHITECTURES
from compact_biomed.models.flops import flops_per_token
from compact_biomed.objectives import IGNORED, evaluate
from compact_biomed.objectives.distillation import Distillation
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.objectives.terms import expand_between
from compact_biomed.training.recipe import DistillationRecipe, load_recipe

CHECKED = ("trainer", "tuned")
TOLERANCES = {torch.float32: (1e-5, 1e-4), torch.bfloat16: (1e-2, 1e-1)}
"""Largest relative difference from the CPU in fp32, by the type of the computation: of the loss, of all gradients."""
_CASED, _UNCASED = 28_996, 30_522  # vocabularies of BioBERT and of the uncased start weights
_TOKENS = 16_384  # per micro-batch, as `engine.plan` chooses on a GPU
_CHECK = {"documents": 4, "longest": 64}


class GpuRecipe:
    """A recipe's models with random weights, its loss, and a batch at the paper's shapes.

    Args:
        name: of the recipe.
        scale: of the models (`models.architectures`); "smoke" has a small vocabulary and short documents, too.
        documents: of the batch.
        device: "cuda" or "cpu".
    """

    def __init__(self, name: str, *, scale: str = "paper", documents: int = 192, device: str = "cuda"):
        self.name, self.device, self.scale = name, torch.device(device), scale
        self.recipe = load_recipe(name)
        self.distils = isinstance(self.recipe, DistillationRecipe)
        self.vocabulary = 997 if scale == "smoke" else _CASED if self.distils else _UNCASED
        self.longest = 48 if scale == "smoke" else 256
        self.student = self._model(self.recipe.model)
        self.teacher = self._model("biobert") if self.distils else None
        self.terms = MASKED_LM
        if self.distils:
            perturb(self.teacher, self.student)
            configs = self.student.config, self.teacher.config
            self.terms = expand_between(self.recipe.terms, *configs, layers=self.recipe.layer_map)
        torch.manual_seed(1)
        self.projections = evaluate.build_projections(self.terms)
        self.batch = self._on_device(random_batch(documents, self.vocabulary, longest=self.longest))
        self.tokens = int(self.batch["attention_mask"].sum())
        self.documents = documents
        self.packs = not any(term.feature == "attention" for term in self.terms)  # fused attention returns no maps

    def _model(self, model: str) -> nn.Module:
        config = ARCHITECTURES[model][self.scale].config(self.vocabulary)
        return random_masked_lm(config, "sdpa")

    def _on_device(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.device) for name, tensor in batch.items()}

    def flops_per_token(self) -> float:
        """Count training FLOPs per token: the student's, and a third of the teacher's (its forward pass)."""
        masked = int(self.batch["labels"].ne(IGNORED).sum()) / self.tokens
        options = {"length": self.tokens / self.documents, "masked": masked}
        teacher = flops_per_token(self.teacher, **options) / 3 if self.distils else 0.0
        return flops_per_token(self.student, **options) + teacher

    def step(self, mode: str, dtype: torch.dtype, *, device: torch.device | None = None):
        """Build the step of one mode, on copies of the models.

        Returns:
            A function of a batch that takes a step and returns the loss; all but that of plain also have
            `loss(batch, backward=True)`, which leaves the gradients, and `trained`, the module that has them.
        """
        device = device or self.device
        student, teacher = (
            copy.deepcopy(m).to(device) if m is not None else None for m in (self.student, self.teacher)
        )
        projections = copy.deepcopy(self.projections).to(device)
        if mode == "plain":
            return self._plain(student, teacher, projections)
        if mode in ("trainer", "reference"):
            objective = self._objective(student, teacher, dtype, fast=mode == "reference")
            for name, projection in projections.items():
                objective.projections[name].load_state_dict(projection.state_dict())
            return OurStep(objective.to(device), tokens=_TOKENS)
        arguments = (student, teacher, self.terms, projections)
        if self.packs:
            step = PackedStep(*arguments, dtype=dtype, tokens=_TOKENS)
        else:
            # Compiled code is made for one shape: all documents as wide as the batch.
            width = self.longest if mode == "compiled" else 1
            step = TunedStep(*arguments, dtype=dtype, documents=max(_TOKENS // self.longest, 1), multiple=width)
        if mode == "compiled":
            compile_layers(step, "inductor" if device.type == "cuda" else "eager")
        return step

    def _objective(self, student: nn.Module, teacher: nn.Module | None, dtype: torch.dtype, *, fast: bool) -> nn.Module:
        if teacher is None:
            return MaskedLM(student, dtype=dtype, fast=fast)
        return Distillation(student, teacher, self.terms, dtype=dtype, fast=fast)

    def _plain(self, student: nn.Module, teacher: nn.Module | None, projections: nn.ModuleDict):
        for model in filter(None, (student, teacher)):
            model.config._attn_implementation = "eager"
        if teacher is None:
            step = PublishedStep(student)
        else:
            step = PublishedDistillationStep(self.name, student, teacher, next(iter(projections.values()), None))
        return lambda batch: step(device_batches(batch))

    def check(self, mode: str, dtype: torch.dtype) -> dict[str, Any]:
        """Compare loss and gradients of a mode, without dropout, with the reference."""
        loss, gradients = self._gradients(self.step(mode, dtype), self.device)
        expected, expected_gradients = self.reference
        differences = abs(loss - expected) / abs(expected), relative_difference(gradients, expected_gradients)
        within = all(d <= most for d, most in zip(differences, TOLERANCES[dtype], strict=True))
        return {"loss_difference": differences[0], "gradient_difference": differences[1], "passed": within}

    @cached_property
    def reference(self) -> tuple[float, dict[str, Tensor]]:
        """Loss and gradients of this project's engine on the CPU in fp32, on a small batch without dropout."""
        cpu = torch.device("cpu")
        return self._gradients(self.step("reference", torch.float32, device=cpu), cpu)

    def _gradients(self, step: Any, device: torch.device) -> tuple[float, dict[str, Tensor]]:
        batch = random_batch(_CHECK["documents"], self.vocabulary, longest=min(_CHECK["longest"], self.longest))
        step.trained.eval()
        loss = step.loss({name: tensor.to(device) for name, tensor in batch.items()}, backward=True)
        parameters = step.trained.named_parameters()
        return loss, {name: None if p.grad is None else p.grad.detach().float().cpu() for name, p in parameters}


def compile_layers(step: TunedStep, backend: str) -> None:
    """Let torch.compile compile the layers of both models, or, of layers that return maps, what follows attention.

    Functions are compiled, not modules: transformers collects states and maps in hooks, which stay outside.
    """
    for model in filter(None, (step.student, step.teacher)):
        blocks = next(module for module in model.base_model.modules() if isinstance(module, nn.ModuleList))
        for number, block in enumerate(blocks):
            parts = [block]
            if number in step.compared[id(model)]:
                parts = [block.attention.output, block.intermediate, block.output]
            for part in parts:
                part.forward = torch.compile(part.forward, backend=backend, dynamic=False)
