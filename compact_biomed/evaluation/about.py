"""The parts of a record: what was run, from what, and how."""

import os
from typing import TYPE_CHECKING, Any

from compact_biomed.evaluation.examples import Splits
from compact_biomed.evaluation.finetune import Outcome
from compact_biomed.evaluation.protocols import Overrides, Protocol
from compact_biomed.evaluation.tasks import Task

if TYPE_CHECKING:
    from torch import nn


def model(name: str, start: str, sums: dict[str, str], outcome: Outcome) -> dict[str, Any]:
    """Which checkpoint; of weights that it lacked, the names."""
    return {
        "name": name,
        "start": os.path.relpath(start) if os.path.isdir(start) else start,
        "architecture": outcome.model.config.model_type,
        "encoder_parameters": _encoder_parameters(outcome.model.base_model),
        "random_weights": outcome.random,
        **sums,
    }


def _encoder_parameters(encoder: "nn.Module") -> int:
    """Without the pooler, which belongs to the head: tasks on tokens have none."""
    return sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("pooler."))


def task(asked: Task, fold: int | None, splits: Splits, sums: dict[str, str]) -> dict[str, Any]:
    """Which benchmark, and which examples were read of it."""
    return {
        "name": asked.name,
        "kind": asked.kind,
        "version": asked.version,
        "fold": fold,
        "folds": asked.folds,
        "metric": asked.metric,
        "examples": splits.counts(),
        "repairs": splits.repairs,
        "data_sha256": sums,
    }


def protocol(applied: Protocol, overrides: Overrides) -> dict[str, Any]:
    """By which rules, and what the user changed in them."""
    return {
        "name": applied.name,
        "level": applied.level,
        "source": applied.source,
        "overrides": overrides.given(),
        "learning_rates": list(applied.learning_rates),
        "choose_epochs": applied.choose_epochs,
        "train_on_dev": applied.train_on_dev,
    }


def speed(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """On what machine, how fast. `seconds` of all, the search included if it was made now."""
    machine, fitted = outcome.machine, outcome.fitted
    return {
        "device": machine.device,
        "precision": str(machine.dtype).removeprefix("torch."),
        "kernels": "fast" if machine.fast else "transformers",
        "replicas": machine.replicas,
        "seconds": round(seconds, 1),
        "training_seconds": round(fitted.seconds, 1),
        "steps": fitted.steps,
        "tokens": fitted.tokens,
        "tokens_per_second": round(fitted.tokens / max(fitted.seconds, 1e-9), 1),
        "training_loss": fitted.loss,
    }
