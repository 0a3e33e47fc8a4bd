"""Records as tables read them: lines of JSON with the place where each stands."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.record_lines import missing_parts, record_lines

# What tables read of a record of scores (evaluation/runs.py).
_NEEDED = (
    "run",
    *(f"model.{name}" for name in ("name", "weights_sha256")),
    *(f"task.{name}" for name in ("name", "version", "fold", "folds", "metric", "data_sha256")),
    *(f"protocol.{name}" for name in ("name", "level", "overrides")),
    "split",
    "seed",
    "metrics",
)


@dataclass(frozen=True)
class Line:
    """A record and where it stands."""

    file: Path
    number: int
    record: dict[str, Any]

    @property
    def where(self) -> str:
        """file:line"""
        return f"{self.file}:{self.number}"

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.record["model"]["name"]

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.record["task"]["name"]

    @property
    def fold(self) -> int | None:
        """Number of the fold, None where a task has fixed splits."""
        return self.record["task"]["fold"]

    def units(self, columns: tuple[str, ...]) -> np.ndarray | None:
        """The named counts of every test example, float [examples, columns]; None if none were kept.

        Raises:
            UserError: the file of the units is missing, broken or has other columns.
        """
        if not self.record.get("units"):
            return None
        path = self.file.parent / self.record["units"]
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            places = [table["columns"].index(name) for name in columns]
            return np.array(table["rows"], float)[:, places]
        except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
            raise UserError(
                f"no table of {', '.join(columns)}: {type(error).__name__} {error}",
                where=path,
                remedy=f"the units of {self.where}: remove that line, and run it again",
            ) from error


def read_lines(files: Iterable[Path]) -> list[Line]:
    """All records of some JSON Lines files, but for a torn last one.

    Raises:
        UserError: a missing file, or a line that is no JSON object.
    """
    lines = []
    for file in files:
        if not file.is_file():
            raise UserError("no such file", where=file, remedy="name files of records (JSON lines)")
        lines += [Line(file, number, _object(text, f"{file}:{number}")) for number, text in record_lines(file)]
    return lines


def score_lines(lines: Iterable[Line]) -> list[Line]:
    """Those that hold the scores of an evaluation, checked.

    Raises:
        UserError: a field that is missing, or two records of one run.
    """
    seen: dict[str, Line] = {}
    for line in lines:
        if line.record.get("record") != "scores":
            continue
        if missing := _missing(line.record):
            raise UserError(f"a record without {', '.join(missing)}", where=line.where, remedy="run it again")
        if twin := seen.get(line.record["run"]):
            raise UserError(
                "two records of one run", where=f"{twin.where} and {line.where}", remedy="remove one of them"
            )
        seen[line.record["run"]] = line
    return list(seen.values())


def encoder_parameters(lines: Iterable[Line]) -> dict[str, int]:
    """Parameters of each model's encoder, where they were recorded: the fewest.

    Records of tasks on whole texts counted the pooler once, which other tasks do without.
    """
    found: dict[str, int] = {}
    for line in lines:
        if size := line.record["model"].get("encoder_parameters"):
            found[line.model] = min(size, found.get(line.model, size))
    return found


def _missing(record: dict[str, Any]) -> list[str]:
    missing = missing_parts(record, _NEEDED)
    if not missing and record["task"]["metric"] not in record["metrics"]:
        missing.append(f"metrics.{record['task']['metric']}")
    return missing


def _object(text: bytes, where: str) -> dict[str, Any]:
    try:
        record = json.loads(text)
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=where, remedy="correct or remove the line") from None
    if not isinstance(record, dict):
        raise UserError("not a record", where=where, remedy="a record is a JSON object")
    return record
