"""A task that a few labels do not teach, and a teacher that knows it."""

from pathlib import Path

import numpy as np

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.examples import WordsExample
from compact_biomed.compression.distillation.teacher import Teacher
from compact_biomed.evaluation.finetune import Assignment, fine_tune
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.evaluation.saved import save_model
from compact_biomed.machine import PerformanceSettings

FP32 = PerformanceSettings(precision="fp32", replicas=1)
LABELS = ["B", "O"]
TASK = tasks.TASKS["NCBI-disease"]


def sentences(n: int, *, seed: int) -> list[WordsExample]:
    """Make sentences of one-letter words; the first half of the alphabet are entities, each to be learned by itself."""
    generator = np.random.default_rng(seed)
    examples = []
    for i in range(n):
        words = tuple(generator.choice(list("abcdefghijklmnopqrstuvwxyz"), 5).tolist())
        examples.append(WordsExample(f"{seed}/{i}", words, tuple("B" if word < "n" else "O" for word in words)))
    return examples


def trained_teacher(
    folder: Path, checkpoint: Path, settings: FinetuneHyperparameters, examples: list[WordsExample]
) -> Teacher:
    """Train a teacher on examples, save it, and open it from its folder."""
    work = Assignment(str(checkpoint), TASK, LABELS, "standard", examples, examples[:4])
    outcome = fine_tune(work, settings, seed=1, speed=FP32)
    record = {
        "model": {"name": "t", "weights_sha256": ""},
        "task": {"name": TASK.name, "kind": "ner", "fold": None},
        "protocol": {"name": "standard", "level": "standard"},
        "settings": vars(settings),
        "seed": 1,
        "metrics": {},
    }
    save_model(folder, outcome, record)
    return Teacher(str(folder), FP32)
