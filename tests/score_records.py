"""Records of scores as evaluation writes them, with what a test wants in them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


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


def units_file(folder: Path, name: str, columns: Sequence[str], rows: np.ndarray) -> str:
    """Write the counts of each example for the records of `folder`/r.jsonl; its name in a record."""
    path = folder / "r.jsonl.units" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"columns": list(columns), "rows": rows.tolist()}))
    return str(path.relative_to(folder))
