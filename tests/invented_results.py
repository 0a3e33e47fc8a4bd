"""Write an invented folder of results with all the records that the manuscript needs.

`python tests/invented_results.py FOLDER` writes one of the size of a reproduction, to look at its pages.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import FROM_COUNTS

ORIGIN = {"revision": "0123456789abcdef" * 2 + "01234567", "clean": True, "versions": {"torch": "9.9"}}
ORIGIN |= {"command": "python recipes/some.py", "date": "2026-01-02T10:00:00+00:00"}
# name -> parameters of the encoder, share of the entities that it finds
FEW = {
    "BioMiniLM": (22_713_216, 0.80),
    "MiniLM": (22_713_216, 0.78),
    "DistilBioBERT": (17_391_360, 0.79),
    "DistilBioBERT-mlm": (17_391_360, 0.74),
    "BioTinyBERT": (5_362_164, 0.55),
}
ALL = FEW | {
    "BioMobileBERT": (7_154_176, 0.60),
    "BioDistilBERT": (17_243_520, 0.76),
    "CompactBioBERT": (17_391_360, 0.785),
    "TinyBioBERT": (5_362_164, 0.56),
    "BioDistilBERT-start": (17_243_520, 0.74),
    "BioMobileBERT-start": (7_154_176, 0.41),
    "BioTinyBERT-start": (5_362_164, 0.50),
    "CompactBioBERT-mlm": (17_391_360, 0.77),
    "TinyBioBERT-mlm": (5_362_164, 0.57),
    "BioDistilBERT-random": (17_243_520, 0.40),
    "BioMobileBERT-random": (7_154_176, 0.30),
    "BioTinyBERT-random": (5_362_164, 0.38),
    "DistilBioBERT-random": (17_391_360, 0.41),
}
TASKS = ("NCBI-disease", "BC5CDR-disease", "BC5CDR-chem", "GAD")
_KINDS = {"GAD": ("relation", "f1", 1, 10), "BioASQ-7b": ("qa", "mrr", None, 0)}  # kind, metric, fold, folds


def invented_results(
    folder: Path, models: dict[str, tuple[int, float]] = FEW, tasks: Sequence[str] = TASKS[:1], examples: int = 30
) -> list[Path]:
    """Write results of these models: trainings, three seeds of each task, an ablation, task distillation (of the
    sketch's models, and from all labels), int8, measurements of speed."""
    for part in ("reproduction", "ablations", "speed", "compression", "tasks"):
        (folder / part).mkdir(parents=True)
    scores = [
        score(folder / "reproduction", name, *about, task, seed, examples)
        for name, about in models.items()
        for task in tasks
        for seed in (1, 2, 3)
    ]
    few = [(name, about) for name, about in models.items() if name in ("BioMiniLM", "DistilBioBERT", "MiniLM")]
    if len(tasks) > 1:
        scores += [score(folder / "reproduction", name, *about, "BioASQ-7b", 1, examples // 3) for name, about in few]
    files = {
        "reproduction/pretraining.jsonl": [
            training(name, *about) for name, about in models.items() if name != "MiniLM"
        ],
        "reproduction/evaluation.jsonl": scores,
        "ablations/students_vs_mlm.jsonl": [run for seed in (1, 2) for run in ablation(seed)],
        "compression/task_distillation.jsonl": [
            score(folder / "compression", name, 17_391_360, hit, "NCBI-disease", seed, examples)
            for name, hit in (("BioMiniLM", 0.8), ("DistilBioBERT", 0.6), ("DistilBioBERT distilled", 0.75))
            for seed in (1, 2)
        ],
        "compression/int8.jsonl": [
            score(folder / "compression", name, 17_391_360, hit, "NCBI-disease", 1, examples)
            for name, hit in (("DistilBioBERT fp32", 0.75), ("DistilBioBERT ONNX int8", 0.75))
        ],
        "tasks/evaluation.jsonl": [task_score(folder, "BioDistilBERT-start", 0.7, examples)],
        "tasks/compression.jsonl": [
            task_score(folder, name, hit, examples)
            for name, hit in (
                ("BioMiniLM-start", 0.9),
                ("BioDistilBERT-start-distilled", 0.86),
                ("BioDistilBERT-start-distilled ONNX int8", 0.85),
            )
        ],
        "tasks/inference.jsonl": [
            timing("BioMiniLM-start", "torch-fp32", 80, 4e3),
            timing("BioDistilBERT-start", "onnx-int8", 16, 2e4),
        ],
        "speed/step.jsonl": [step("distilbiobert", 6.0), step("biomobilebert_cl", 6.5)],
        "speed/finetune.jsonl": [FINETUNE],
    }
    return [write(folder / name, *records) for name, records in files.items()]


def training(model: str, parameters: int, hit: float) -> dict:
    """Return the record of a training; a start without further training has no step."""
    tokens = 0 if model.endswith("-start") else 617_000
    measured = {"loss": 10 - 8 * hit, "accuracy": hit / 3, "masked_tokens": 20_933}
    after = measured | ({"kl_to_teacher": 0.2} if model.startswith(("Distil", "Compact", "Tiny")) else {})
    against = {"documents": 11, "n_words": 13, "shortest_text": 8}
    corpus = {"fingerprint": "f", "documents": {"citations": 50_788, "without_abstract": 17_510}}
    corpus |= {"tokenizer": {"size": 30_522}}
    corpus |= {"train": {"documents": 32_626, "tokens": 7_300_000}, "heldout": {"documents": 635}}
    corpus |= {"decontamination": against | {"benchmarks": {"GAD": {}, "NCBI-disease": {}}}}
    science = {"recipe": "r", "max_steps": 350 if tokens else 0, "batch_size": 8, "max_length": 256}
    science |= {"warmup_steps": 35.0, "learning_rate": 1e-3 if parameters < 1e7 else 5e-4, "mask_probability": 0.15}
    made = {
        "record": "pretraining",
        "model": model,
        "hyperparameters": science,
        "corpus": corpus,
        "parameters": parameters,
    }
    made |= {"tokens": tokens, "seconds": 900.0, "speed": {"device": "a processor, 2 cores"}, "from": ORIGIN}
    heldout = {"unigram": measured | {"loss": 7.28}, "before": measured | {"loss": 9.0}, "after": after}
    return made | {"heldout": heldout, "weights_sha256": model * 3}  # as in `score_records.record`


def score(folder: Path, model: str, parameters: int, hit: float, task: str, seed: int, examples: int) -> dict:
    """Return a record of scores and write its counts."""
    kind, metric, fold, folds = _KINDS.get(task, ("ner", "f1", None, 0))
    rng = np.random.default_rng([seed, *map(ord, model + task)])
    hit = min(hit + 0.01 * rng.standard_normal() - 0.02 * (sum(map(ord, task)) % 3), 1)
    metrics, counts = {}, {}
    for each in (metric, *(["piece_f1"] if kind == "ner" else [])):
        columns, of_sums = FROM_COUNTS[each]
        rows = _counts(rng, len(columns), hit, examples)
        counts |= dict(zip(columns, rows.T, strict=True))
        metrics[each] = float(of_sums(rows.sum(0)))
    sizes = {"train": 5_400, "dev": examples, "test": examples}
    overrides = {"learning_rate": 3e-4, "epochs": 3, "max_train_examples": 1000}
    made = record(model, task, seed, fold=fold, folds=folds, metric=metric, metrics=metrics, overrides=overrides)
    shape = next((each for each in ("mobilebert", "distilbert") if f"bio{each}" in model.lower()), "bert")
    made["model"] |= {"architecture": shape, "encoder_parameters": parameters}
    made["model"]["start"] = "registry:all-minilm-l6-v2" if model == "MiniLM" else f"runs/{model}"
    made["task"] |= {"kind": kind, "examples": sizes}
    made["settings"] = {"learning_rate": 3e-4, "epochs": 3, "batch_size": 16}
    made |= {"how": {"device": "a processor, 1 cores", "seconds": 300.0}, "from": ORIGIN}
    return with_counts(folder, made, list(counts), np.stack(list(counts.values()), 1))


def task_score(folder: Path, model: str, hit: float, examples: int) -> dict:
    """Return a record of scores of task distillation and write its counts."""
    made = score(folder / "tasks", model, 17_241_216, hit, "NCBI-disease", 1, examples)
    made["how"]["steps"] = 100
    if "distilled" in model:
        taught = {"teacher": "BioMiniLM-start-NCBI-disease-seed1", "teacher_sha256": "0" * 64, "temperature": 2.0}
        made["protocol"]["distillation"] = taught | {"soft_weight": 1.0, "unlabelled": 5_000}
    return made


def timing(model: str, variant: str, mib: int, speed: float) -> dict:
    """Return a record of `bench inference`."""
    made = {"kind": "bench-inference", "model": model, "variant": variant, "device": "a processor, 2 cores"}
    made |= {"latency_ms": 20.0, "latency_ms_p95": 21.0, "tokens_per_s": speed, "best_batch": 4, "length": 128}
    sizes = {"parameters": 17_242_371, "flops": 1e9, "disk_bytes": mib * 2**20, "peak_memory_mb": 200.0}
    return made | sizes | {"threads": 2}


def ablation(seed: int) -> list[dict]:
    """Return the records of both variants with one seed."""
    science = {"preset": "quick", "max_steps": 200}
    made = {"record": "ablation", "ablation": "students_vs_mlm", "question": "Does a teacher help?", "recipe": "r"}
    made |= {"reference": "distilled", "seed": seed, "tokens": 354_156, "corpus": "f", "hyperparameters": science}
    losses = {"distilled": 5.05 + 0.01 * seed, "mlm alone": 5.16 + 0.012 * seed}
    return [
        made | {"variant": name, "run": f"{name}{seed}", "heldout": {"after": {"loss": loss, "accuracy": 0.22}}}
        for name, loss in losses.items()
    ]


def step(recipe: str, ratio: float) -> dict:
    """Return a record of `bench step`."""
    made = {"kind": "bench-step", "recipe": recipe, "preset": "paper", "ratio": ratio, "peak_memory_ratio": 0.25}
    made |= {"tokens_per_s_published": 100.0, "tokens_per_s": 100 * ratio, "device": "a processor, 2 cores"}
    return made | {"loss_difference": 2e-5, "loss_difference_fp32": 3e-8}


FINETUNE = {
    "kind": "bench-finetune",
    "ratio": 2.9,
    "ratio_of_answers": 3.27,
    "turns": [{}] * 5,
    "score_difference": 0.72,
    "score_difference_interval": [-3.9, 5.3],
}


def _counts(rng: np.random.Generator, columns: int, hit: float, examples: int) -> np.ndarray:
    """Return the correct ones and then the other counts of the metric: [examples, columns]."""
    if columns == 3:  # true positives, false positives, false negatives
        found = rng.binomial(2, hit, examples)
        return np.stack([found, rng.binomial(1, 0.2, examples), 2 - found], 1)
    right = rng.binomial(1, hit, examples)
    return np.stack([right, *[np.ones(examples, int)] * (columns - 1)], 1)


if __name__ == "__main__":
    for path in invented_results(Path(sys.argv[1]), ALL, TASKS, 200):
        print(path)
