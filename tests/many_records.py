"""Invented records in the form that evaluation writes, for whole tables: models of all sizes, tasks of all kinds.

`python tests/many_records.py FOLDER` writes FOLDER/r.jsonl, for a look at the page made from it.
"""

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import FROM_COUNTS

# name -> architecture, encoder parameters, probability of a correct prediction
MODELS = {
    "BioMiniLM": ("bert", 22_713_216, 0.80),
    "BioDistilBERT": ("distilbert", 66_362_880, 0.845),
    "BioMobileBERT": ("mobilebert", 24_581_888, 0.825),
    "BioTinyBERT": ("bert", 14_350_248, 0.73),
    "CompactBioBERT": ("bert", 65_783_040, 0.84),
    "DistilBioBERT": ("bert", 65_783_040, 0.85),
    "TinyBioBERT": ("bert", 13_874_136, 0.75),
}
TASKS = {
    "NCBI-disease": ("ner", "f1"),
    "BC5CDR-chem": ("ner", "f1"),
    "BC2GM": ("ner", "f1"),
    "GAD": ("relation", "f1"),
    "BioASQ-7b": ("qa", "mrr"),
    "MEDLINE-sections": ("classification", "accuracy"),
}


def many_records(
    folder: Path,
    *,
    models: Sequence[str] = tuple(MODELS),
    tasks: Sequence[str] = tuple(TASKS),
    seeds: Sequence[int] = (1, 2, 3),
    examples: int = 300,
) -> Path:
    """Write records with per-example counts of every model on every task; GAD has two folds."""
    lines = [
        _record(folder, model, task, seed, fold, examples)
        for model in models
        for task in tasks
        for seed in seeds
        for fold in ((1, 2) if task == "GAD" else (None,))
    ]
    return write(folder / "r.jsonl", *lines)


def _record(folder: Path, model: str, task: str, seed: int, fold: int | None, examples: int) -> dict:
    (architecture, parameters, hit), (kind, metric) = MODELS[model], TASKS[task]
    rng = np.random.default_rng([seed, fold or 0, *map(ord, model + task)])
    hit = hit + 0.01 * rng.standard_normal() - 0.02 * (sum(map(ord, task)) % 5)
    metrics, table = {}, {}
    for each in (metric, *(["piece_f1"] if kind == "ner" else [])):
        columns, score = FROM_COUNTS[each]
        counts = _counts(rng, len(columns), hit, examples)
        table |= dict(zip(columns, counts.T, strict=True))
        metrics[each] = float(score(counts.sum(0)))
    name = f"{model}-{task}-{seed}-{fold}"
    result = record(model, task, seed, fold=fold, folds=2 if fold else 0, metric=metric, metrics=metrics)
    result["run"] = hashlib.sha256(name.encode()).hexdigest()[:16]
    result["model"] |= {"architecture": architecture, "encoder_parameters": parameters, "start": f"runs/{model}"}
    result["task"]["kind"] = kind
    result["settings"] = {"learning_rate": 1e-4, "epochs": 4, "batch_size": 16}
    result["how"] = {"device": "a processor, 2 cores", "seconds": 100.0 + seed}
    result["from"] = {
        "revision": "0123456789abcdef" * 2 + "01234567",
        "clean": True,
        "command": f"compact-biomed evaluate --model runs/{model} --task {task} --seeds 1,2,3",
        "date": f"2026-11-2{seed}T10:00:00+00:00",
    }
    return with_counts(folder, result, list(table), np.stack(list(table.values()), 1))


def _counts(rng: np.random.Generator, columns: int, hit: float, examples: int) -> np.ndarray:
    """Return random counts, the correct ones first, then what else the metric needs: [examples, columns]."""
    if columns == 3:  # true positives, false positives, false negatives
        hits = rng.binomial(2, hit, examples)
        return np.stack([hits, rng.binomial(1, 0.2, examples), 2 - hits], 1)
    correct = rng.binomial(1, hit, examples)
    return np.stack([correct, *[np.ones(examples, int)] * (columns - 1)], 1)


if __name__ == "__main__":
    print(many_records(Path(sys.argv[1])))
