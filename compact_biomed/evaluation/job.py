"""One run: its specification, the key by which it is found again, and the parts of its record."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from compact_biomed.benchmarks import examples
from compact_biomed.benchmarks.examples import Example, Splits
from compact_biomed.benchmarks.recorded import files_fields
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.evaluation.features import pieces_of
from compact_biomed.evaluation.finetune import Assignment, Method, Outcome
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import (
    NO_OVERRIDES,
    Overrides,
    Protocol,
)
from compact_biomed.models import checkpoints
from compact_biomed.training.run_folder import training_of


@dataclass(frozen=True)
class Job:
    """The specification of one run.

    Args:
        model: its name in records and tables.
        start: the checkpoint: a folder, a hub name or a registry name.
        fold: from 1 on; None for fixed splits.
    """

    model: str
    start: str
    task: Task
    fold: int | None
    seed: int
    protocol: str
    overrides: Overrides = NO_OVERRIDES

    def __str__(self) -> str:
        fold = f", fold {self.fold}" if self.fold is not None else ""
        return f"{self.model} on {self.task.name}{fold}, seed {self.seed}"


def key_content(
    job: Job, model_sha256: dict[str, str], data_sha256: dict[str, str], protocol: Protocol, method: Method
) -> dict[str, Any]:
    """Return all that decides the result of a job but its seed. Another content would orphan every existing record."""
    return {
        **model_sha256,
        "task": [job.task.name, job.task.version, job.fold],
        "data": data_sha256,
        "protocol": protocol.hashed(),
        "max_train_examples": job.overrides.max_train_examples,
        **method.hyperparameters,
    }


def pieces_fields(task: Task, folder: Path) -> dict[str, Any]:
    """Return what the key says about pieces: nothing where they are those of the first records.

    Until version 2, byte-level vocabularies read words without the blank before them, and answers kept it.
    """
    file = folder / "tokenizer.json"
    content = file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
    if not any(kind in content for kind in ('"ByteLevel"', '"Metaspace"')):
        return {}
    if task.kind == "ner" and pieces_of(checkpoints.load_tokenizer(str(folder))).blank:
        return {"pieces": 2}
    return {"pieces": 2} if task.kind == "qa" else {}


def model_fields(job: Job, folder: Path, sums: dict[str, str], outcome: Outcome) -> dict[str, Any]:
    """Return `model` of a record: its name, start, size and checksums."""
    trained = training_of(folder, sums["weights_sha256"])
    return {
        "name": job.model,
        "start": os.path.relpath(job.start) if os.path.isdir(job.start) else job.start,
        "architecture": outcome.model.config.model_type,
        "encoder_parameters": _encoder_parameters(outcome.model.base_model),
        "random_weights": outcome.random_weights,
        **sums,
        **({"training": trained} if trained else {}),
    }


def _encoder_parameters(encoder: nn.Module) -> int:
    # Without the pooler, which belongs to the head: models of tokens have none.
    return sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("pooler."))


def task_fields(job: Job, splits: Splits, data_sha256: dict[str, str]) -> dict[str, Any]:
    """Return `task` of a record: what was learned, and the checksums of its examples."""
    return {
        "name": job.task.name,
        "kind": job.task.kind,
        "version": job.task.version,
        "fold": job.fold,
        "folds": job.task.folds,
        "metric": job.task.metric,
        "examples": splits.counts(),
        "repairs": splits.repairs,
        "data_sha256": data_sha256,
        **files_fields(job.task),
    }


def intermediate_fields(before: Sequence[Example]) -> dict[str, Any]:
    """Return what the task of a record says of examples that were trained on before its own."""
    return {"intermediate": {"examples": len(before), "sha256": examples.sha256(before)}} if before else {}


def protocol_fields(protocol: Protocol, overrides: Overrides) -> dict[str, Any]:
    """Return `protocol` of a record: its name, source, changes and search."""
    return {
        "name": protocol.name,
        "level": protocol.level,
        "source": protocol.source,
        "overrides": overrides.changed(),
        **protocol.search(),
    }


def analysis_fields(work: Assignment, outcome: Outcome) -> dict[str, Any]:
    """Return `analysis` of the predictions, and `thresholds` if there are predictions of dev to choose them on."""
    kind = KINDS[work.task.kind]
    analysis = kind.analyze(work.scored, outcome.predictions, work.labels)
    fields = {"analysis": analysis} if analysis else {}
    candidates = kind.candidates(work.unseen, outcome.of_unseen, work.labels) if work.unseen else None
    if candidates is not None:
        chosen, rare = candidates.best_thresholds()
        fields["thresholds"] = chosen.fields() | {"examples": len(work.unseen), "rare": list(rare)}
    return fields


def performance_fields(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """Return `how` of a record: machine, time and speed.

    Args:
        seconds: of the whole run, the search included unless its trials were recorded before.
    """
    machine, fitted = outcome.machine, outcome.fitted
    return {
        "device": machine.device,
        "precision": machine.precision,
        "kernels": "fast" if machine.fast else "transformers",
        "replicas": machine.replicas,
        "seconds": round(seconds, 1),
        "training_seconds": round(fitted.seconds, 1),
        "steps": fitted.steps,
        "tokens": fitted.tokens,
        "tokens_per_second": round(fitted.tokens / max(fitted.seconds, 1e-9), 1),
        "training_loss": fitted.loss,
    }
