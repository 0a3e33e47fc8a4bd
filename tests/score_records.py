"""Records of scores as evaluation writes them, with what a test wants in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.records import append_counts


def record(model: str = "small", task: str = "NCBI-disease", seed: int = 1, f1: float = 80.0, **changes: Any) -> dict:
    """A record of scores; `changes` go into the field of that name, or the one that holds it."""
    made = {
        "record": "scores",
        "version": 1,
        "run": f"{model}-{task}-{seed}-{changes.get('fold')}-{changes.get('split')}",
        "model": {"name": model, "weights_sha256": model * 3},
        "task": {
            "name": task,
            "version": 1,
            "fold": None,
            "folds": 0,
            "metric": "f1",
            "data_sha256": {"test": "00", "dev": "11"},
        },
        "protocol": {"name": "standard", "level": "standard", "overrides": {}},
        "split": "test",
        "seed": seed,
        "metrics": {"f1": f1, "precision": 1.0},
    }  # fmt: skip
    for key, value in changes.items():
        holder = next((made[part] for part in ("task", "model", "protocol") if key in made[part]), made)
        holder[key] = value
    return made


def write(path: Path, *records: dict) -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path


def with_counts(folder: Path, made: dict, columns: Sequence[str], rows: np.ndarray) -> dict:
    """A record of `folder`/r.jsonl whose per-example counts, [examples, columns], are written beside that file."""
    return made | {"per_example_counts": append_counts(folder / "r.jsonl", made["run"], list(columns), rows.tolist())}
