"""Task distillation: from a fine-tuned teacher, labeled examples and unlabeled text to a small model for that task."""

import re
from pathlib import Path

from compact_biomed.errors import UsageError

REST = "task"  # a value of --unlabeled: the examples of the task that --max-train-examples leaves out
TEMPERATURE = 2.0
LAYER_MAP = "spaced"
TRANSFERS = ("hidden", "attention", "relations", "none")
RELATION_HEADS = 48  # as many as fit both models, but no more: MiniLMv2's number for a teacher of width 768
RELATION_LAYER = "last"
RECORDS = "runs/task_distillation.jsonl"


def layers_of(student: str | int | Path) -> int | None:
    """Return how many layers of the teacher a student has, or None if a checkpoint is named.

    Raises:
        UsageError: a number that is not above 0.
    """
    if not re.fullmatch(r"-?\d+", str(student)):
        return None
    if (layers := int(student)) < 1:
        raise UsageError(f"{layers} layers", where="--student", remedy="give at least 1, or name a checkpoint")
    return layers
