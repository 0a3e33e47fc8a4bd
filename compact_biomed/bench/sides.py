"""The three ways to take a training step: as published, by tuned transformers, and ours.

All start from the same weights and train on the same real documents under the same masks.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import transformers
from torch import Tensor, nn

from compact_biomed.bench.ours import OurStep
from compact_biomed.bench.published import (
    DISTILLATION_RECIPES,
    PublishedDistillationStep,
    PublishedStep,
    device_batches,
)
from compact_biomed.bench.tuned import TunedStep
from compact_biomed.bench.workload import perturb, random_masked_lm, real_batch, relative_difference
from compact_biomed.engine.plan import plan
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models.architectures import ARCHITECTURES, SCALE_OF_PRESET
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.mlm import MaskedLM
from compact_biomed.training.build import build_objective
from compact_biomed.training.recipe import load_recipe
from compact_biomed.training.resolve import resolve

SIDES = ("published", "tuned", "ours")
_PEER_DOCUMENTS = 16


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
        peer_documents: documents per micro-batch of tuned transformers; 0 = the fastest of `tuned.DOCUMENTS`.
    """

    recipe: str
    preset: str = "paper"
    documents: int = 48
    fidelity: str = "corrected"
    micro_batch_tokens: int = 0
    replicas: int = 0
    peer_documents: int = 0

    @property
    def model(self) -> str:
        """The recipe's model in `models.architectures`."""
        return self.recipe.removesuffix("_cl")


def step_sides(bench: StepBench, sides: tuple[str, ...] = SIDES) -> "StepSides":
    """Build the sides of a step, or some of them."""
    return (DistillationStepSides if bench.recipe in DISTILLATION_RECIPES else StepSides)(bench, sides)


class StepSides:
    """The ways to take a step of continual pretraining, on the same weights and the same real batch.

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
        self.steps: dict[str, Callable[[], float]] = {}
        if "published" in sides:
            self.published = self.build_published()
            self.device_batches = device_batches(self.batch)
            self.steps["published"] = lambda: self.published(self.device_batches)
        if "tuned" in sides:
            self.tuned = self.build_tuned(self.machine.dtype)
            self.steps["tuned"] = lambda: self.tuned(self.batch)
        if "ours" in sides:
            self.ours = self._step(self.build_ours(self.machine.dtype), self.machine.replicas)
            self.steps["ours"] = lambda: self.ours(self.batch)

    def config(self, model: str) -> transformers.PretrainedConfig:
        """Return the configuration of a model of the family at the preset's scale."""
        return ARCHITECTURES[model][SCALE_OF_PRESET[self.bench.preset]].config(self.vocabulary)

    def random_model(self, model: str, attention: str) -> nn.Module:
        """Build a masked-LM of the family at the preset's scale, as `random_masked_lm` does."""
        return random_masked_lm(self.config(model), attention)

    def build_published(self) -> PublishedStep:
        return PublishedStep(self.random_model(self.bench.model, "eager"))

    def build_tuned(self, dtype: torch.dtype) -> TunedStep:
        documents = self.bench.peer_documents or _PEER_DOCUMENTS
        return TunedStep(self.random_model(self.bench.model, "sdpa"), dtype=dtype, documents=documents)

    def build_ours(self, dtype: torch.dtype) -> nn.Module:
        return MaskedLM(self.random_model(self.bench.model, "sdpa"), dtype=dtype, fast=self.machine.fast)

    def differences(self) -> dict[str, float]:
        """Return the relative differences of the losses on the start weights, without dropout.

        Returns:
            "loss": ours and the published one in fp32. "run": ours in the precision that this machine trains in, and
            the published one. "tuned", "tuned_run": the loss of tuned transformers and ours, both in fp32, and both
            in that precision.
        """
        self.published.model.eval()
        with torch.no_grad():
            expected = self.published.loss(self.device_batches)
            ours = {name: self._loss_ours(self.build_ours(dtype)) for name, dtype in self._precisions()}
        return {name: _relative(loss, expected) for name, loss in ours.items()} | self._tuned_differences(ours)

    def _precisions(self) -> tuple[tuple[str, torch.dtype], ...]:
        return ("loss", torch.float32), ("run", self.machine.dtype)

    def _step(self, objective: nn.Module, replicas: int = 1) -> OurStep:
        return OurStep(objective, tokens=self.machine.micro_batch_tokens, replicas=replicas)

    def _loss_ours(self, objective: nn.Module) -> float:
        """Return our mean loss on the batch, without dropout."""
        return self._step(objective.eval()).loss(self.batch)

    def _tuned_differences(self, ours: dict[str, float]) -> dict[str, float]:
        """Return the relative differences between tuned transformers and ours; `ours` by name of `_precisions`."""
        differences = {}
        for name, dtype in self._precisions():
            step = self.build_tuned(dtype)
            step.trained.eval()
            loss = step.loss(self.batch)
            differences["tuned" if name == "loss" else "tuned_run"] = _relative(loss, ours[name])
        return differences


class DistillationStepSides(StepSides):
    """The ways to take a step of distillation from a BioBERT with random weights.

    Our throughput is measured at the fidelity of the bench; tuned transformers computes the corrected loss. The
    differences from the published formula are those of the first device batch.
    """

    def build_published(self) -> PublishedStep:
        student, teacher = self._models("eager")
        torch.manual_seed(1)
        widths = student.config.hidden_size, teacher.config.hidden_size
        projection = nn.Linear(*widths) if self.bench.recipe == "tinybiobert" else None
        return PublishedDistillationStep(self.bench.recipe, student, teacher, projection)

    def build_tuned(self, dtype: torch.dtype) -> TunedStep:
        objective = self.build_ours(torch.float32, fidelity="corrected")  # its terms, and projections of equal weights
        documents = self.bench.peer_documents or _PEER_DOCUMENTS
        options = {"dtype": dtype, "documents": documents, "learning_rate": 5e-4}
        return TunedStep(*self._models("sdpa"), objective.terms, objective.projections, **options)

    def build_ours(self, dtype: torch.dtype, fidelity: str | None = None) -> nn.Module:
        changes = {"fidelity": fidelity or self.bench.fidelity}
        hyperparameters = resolve(load_recipe(self.bench.recipe), self.bench.preset, changes=changes).hyperparameters
        torch.manual_seed(1)
        return build_objective(hyperparameters, *self._models("sdpa"), replace(self.machine, dtype=dtype))

    def _models(self, attention: str) -> tuple[nn.Module, nn.Module]:
        """Build student and teacher; both are perturbed."""
        teacher, student = self.random_model("biobert", attention), self.random_model(self.bench.recipe, attention)
        perturb(teacher, student)
        return student, teacher

    def differences(self) -> dict[str, float]:
        """Return the differences of `StepSides` and "gradient": of all gradients in fp32, relative to their norm."""
        batch, published = self.device_batches[0], self.published.model
        published.eval()
        expected = self.published.loss([batch], backward=True)
        parameters = {f"model.{n}": p for n, p in published["student"].named_parameters()}
        if self.published.projection is not None:
            projection = self.published.projection
            parameters |= {f"projections.states.{n}": p for n, p in projection.named_parameters()}
        differences = {}
        for name, dtype in self._precisions():
            objective = self.build_ours(dtype, fidelity="published").eval()
            if self.published.projection is not None:
                objective.projections["states"].load_state_dict(projection.state_dict())
            loss = self._step(objective).loss(batch, backward=True)
            differences[name] = _relative(loss, expected)
            if name == "loss":
                differences["gradient"] = gradient_difference(objective, parameters)
        self.published.optimizer.zero_grad()
        ours = {n: self._loss_ours(self.build_ours(dtype, fidelity="corrected")) for n, dtype in self._precisions()}
        return differences | self._tuned_differences(ours)


def _relative(value: float, expected: float) -> float:
    return abs(value - expected) / abs(expected)


def gradient_difference(objective: nn.Module, expected: dict[str, Tensor]) -> float:
    """Return the norm of the difference of all gradients, relative to the norm of the expected ones.

    Args:
        expected: the parameters with the expected gradients, by their names in the objective.
    """
    gradients = {name: parameter.grad for name, parameter in objective.named_parameters()}
    return relative_difference(gradients, {name: expected[name].grad for name in gradients})
