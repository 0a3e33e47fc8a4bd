"""Records as they are read: what was run, from what, how, and with what result.

Confidence intervals and paired tests need counts per test example (true positives, say), which are kept beside the
records (`records.files`).
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.errors import UserError, no_file
from compact_biomed.records.files import whole_lines
from compact_biomed.records.shapes import check_record
from compact_biomed.settings import parse_json

RECORD_FILE = "record.json"  # in the folder of a training, or of a fine-tuned model: what it records
VERSION = 1  # of an evaluation's record
SCORES, SEARCH = "scores", "search"  # kinds of such records: scores on test; scores on dev by one learning rate
RERUN = "remove this line; the run is then done again"

# Parts of a record of scores that tables read.
_SCORE_PARTS = (
    *("run", "model.name", "model.weights_sha256", "task.name", "task.version", "task.fold", "task.folds"),
    *("task.metric", "task.data_sha256", "protocol.name", "protocol.level", "protocol.overrides"),
    *("split", "seed", "metrics"),
)


# ---- Read


@dataclass(frozen=True)
class Line:
    """A record together with its file and line number."""

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

    def check(self) -> None:
        """Raise a `UserError` if a part of the record has another type or is out of its range."""
        check_record(self.record, where=self.where, remedy=RERUN)

    def require(self, *names: str, remedy: str = RERUN) -> None:
        """Check the parts of a record; see `require_parts`."""
        require_parts(self.record, names, self.where, remedy)

    def per_example_counts(self, columns: Sequence[str]) -> np.ndarray | None:
        """Return the named counts of every test example, float [examples, columns]; None if the record has none.

        Raises:
            UserError: the file of counts is missing or broken, or lacks this run or a column.
        """
        if not self.record.get("per_example_counts"):
            return None
        with self._counts_named(", ".join(columns)) as (offset, version):
            names, rows = _table_of_counts(self._file_of_counts, *version, offset)
            counts = rows[:, [names.index(name) for name in columns]]
            if not np.isfinite(counts).all():
                raise ValueError("not a number")
            return counts

    def all_counts(self) -> list[dict[str, float]] | None:
        """Return all counts of every test example, as `Records.add` takes them; None if the record has none.

        Raises:
            UserError: the file of counts is missing or broken, or lacks this run.
        """
        if not self.record.get("per_example_counts"):
            return None
        with self._counts_named("its examples") as (offset, _):
            table = _line_at(self._file_of_counts, offset)
            return [dict(zip(table["columns"], row, strict=True)) for row in table["rows"]]

    @contextmanager
    def _counts_named(self, wanted: str) -> Iterator[tuple[int, tuple[int, int]]]:
        """Yield the byte offset of the counts, and time and size of their file; an error in the block names them."""
        where: object = self._file_of_counts
        try:
            state = self._file_of_counts.stat()
            version = state.st_mtime_ns, state.st_size
            number, offset = _index_of_counts(self._file_of_counts, *version)[self.record["run"]]
            where = f"{where}:{number}"
            yield offset, version
        except FileNotFoundError as error:
            remedy = f"copy it from where {self.file.name} comes from; both are one"
            raise UserError("no file of counts per example", where=where, remedy=remedy) from error
        except (OSError, ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            raise UserError(
                f"no counts of {wanted} for run {self.record.get('run')}: {type(error).__name__} {error}",
                where=where,
                remedy=f"remove {self.where}, which names them; the run is then done again",
            ) from error

    @property
    def _file_of_counts(self) -> Path:
        return self.file.parent / self.record["per_example_counts"]


def read_lines(files: Iterable[Path], *, missing_ok: bool = False, checked: bool = True) -> list[Line]:
    """Read all records of some JSON Lines files, except a torn last one.

    Args:
        missing_ok: a file that does not exist holds no records.
        checked: refuse a record with a part of another type or out of its range (`records.shapes`).

    Raises:
        UserError: a missing file, a line that is no JSON object, or a part of another type or out of its range.
    """
    lines = []
    for file in files:
        if not file.is_file() and not missing_ok:
            raise no_file(file, "name files of records (JSON lines)")
        for number, _, text in whole_lines(file) if file.is_file() else ():
            lines.append(_parsed(file, number, text))
            if checked:
                lines[-1].check()
    return lines


def _parsed(file: Path, number: int, text: bytes) -> Line:
    where, remedy = f"{file}:{number}", "correct or remove the line"
    try:
        record = parse_json(text.decode(), where=where, remedy=remedy)
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start} of the line", where=where, remedy=remedy) from error
    if not isinstance(record, dict):
        raise UserError("not a record: no JSON object", where=where, remedy=remedy)
    return Line(file, number, record)


def score_lines(lines: Iterable[Line]) -> list[Line]:
    """Select the test scores of evaluations, and check that tables can be made from them.

    Raises:
        UserError: a missing part, or two records of one run.
    """
    by_run: dict[str, Line] = {}
    for line in lines:
        if line.record.get("record") != SCORES:
            continue
        line.require(*_SCORE_PARTS)
        line.require(f"metrics.{line.record['task']['metric']}")
        if (twin := by_run.setdefault(line.record["run"], line)) is not line:
            where = f"{twin.where} and {line.where}"
            if twin.where == line.where:
                raise UserError("a file that is named twice", where=line.file, remedy="name it once")
            raise UserError("two records of one run", where=where, remedy="remove one of them")
    return list(by_run.values())


def require_parts(record: dict[str, Any], names: Iterable[str], where: object, remedy: str = RERUN) -> None:
    """Check that a record has the parts that its reader needs.

    Args:
        names: with dots for a part within a part, such as "task.name".

    Raises:
        UserError: parts are missing. If one is missing that should hold several, it is named instead of them.
    """
    missing: dict[str, None] = {}  # ordered, without repetition
    for name in names:
        part: Any = record
        path = ""
        for step in name.split("."):
            if isinstance(part, dict):
                path = f"{path}.{step}" if path else step
            if not isinstance(part, dict) or step not in part:
                missing[path] = None
                break
            part = part[step]
    if missing:
        raise UserError(f"a record without {', '.join(missing)}", where=where, remedy=remedy)


@lru_cache(maxsize=16)
def _index_of_counts(path: Path, modified_ns: int, size: int) -> dict[str, tuple[int, int]]:
    """Return run -> line number and byte offset of its counts, of several the last, in this version of the file."""
    index = {}
    for number, offset, line in whole_lines(path):
        if run := re.match(rb'\{"run": ?"([^"\\]+)"', line):
            index[run[1].decode()] = number, offset
    return index


@lru_cache(maxsize=256)
def _table_of_counts(path: Path, modified_ns: int, size: int, offset: int) -> tuple[list[str], np.ndarray]:
    """Return the columns and the rows [examples, columns] of the counts at an offset in this version of the file."""
    table = _line_at(path, offset)
    rows = np.array(table["rows"], float)
    rows.flags.writeable = False
    return table["columns"], rows


def _line_at(path: Path, offset: int) -> Any:
    with path.open("rb") as stream:
        stream.seek(offset)
        return json.loads(stream.readline())
