"""Records of scores in the form that evaluation writes, with chosen values."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.records.files import append_counts


def record(model: str = "small", task: str = "NCBI-disease", seed: int = 1, f1: float = 80.0, **changes: Any) -> dict:
    """Return a record of scores; `changes` replace the fields of their names, nested ones included."""
    result = {
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
    }
    for key, value in changes.items():
        part = next((result[part] for part in ("task", "model", "protocol") if key in result[part]), result)
        part[key] = value
    return result


def write(path: Path, *records: dict) -> Path:
    """Write a file of records; return its path."""
    path.write_text("".join(json.dumps(each) + "\n" for each in records), encoding="utf-8")
    return path


def with_counts(folder: Path, line: dict, columns: Sequence[str], rows: np.ndarray) -> dict:
    """Write the counts [examples, columns] of a record of `folder`/r.jsonl; return the record that names them."""
    return line | {"per_example_counts": append_counts(folder / "r.jsonl", line["run"], list(columns), rows.tolist())}
