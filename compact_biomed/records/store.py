"""Find what is recorded, and add to it. The `run` of a record is a hash of everything that decides the result."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.files import sha256_json
from compact_biomed.records.files import append_counts, exclusive_append, require_appendable
from compact_biomed.records.lines import VERSION, Line, read_lines


def append_new(path: Path, record: Mapping[str, Any]) -> None:
    """Append a record, unless one of its `run` is in the file already."""
    with exclusive_append(path) as append:
        if record["run"] not in {line.record.get("run") for line in read_lines([path], missing_ok=True)}:
            append(record)


def run_key(hyperparameters: dict[str, Any]) -> str:
    """Return the name of a run, 16 hex digits, from everything that decides its result."""
    return sha256_json(hyperparameters)[:16]


class Records:
    """A file of an evaluation's records, searched by run.

    Args:
        path: need not exist yet.

    Raises:
        UserError: a line that is no such record, or one of another version.

    Attributes:
        lines: all of the file, except a torn last one.
    """

    def __init__(self, path: Path | str):
        self.path, self._size = Path(path), -1
        self.lines: list[Line] = []
        self.refresh()

    def refresh(self) -> None:
        """Read what another process may have written meanwhile."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size == self._size:
            return
        self.lines, self._size = read_lines([self.path], missing_ok=True, checked=False), size
        for line in self.lines:
            kind, run = line.record.get("record"), line.record.get("run")
            if not isinstance(kind, str) or not isinstance(run, str) or line.record.get("version") != VERSION:
                remedy = "remove the line, or name another file with --records"
                raise UserError("not a record of an evaluation", where=line.where, remedy=remedy)
        self._runs = {(line.record["record"], line.record["run"]): line for line in self.lines}

    def require_writable(self) -> None:
        """Check before the work that its result can be recorded; see `require_appendable`."""
        require_appendable(self.path)

    def find(self, kind: str, run: str) -> Line | None:
        """Return the record of a run, or None. `kind` is `SCORES` or `SEARCH`."""
        return self._runs.get((kind, run))

    def add(self, record: dict[str, Any], per_example: Sequence[dict[str, float]] | None = None) -> dict[str, Any]:
        """Append a record, after its per-example counts, so that no record lacks them.

        If another process has recorded this run meanwhile, that record is returned and nothing is written.

        Args:
            record: with `record` (`SCORES` or `SEARCH`) and `run`.
            per_example: counts of each test example, all with the same names.
        """
        with exclusive_append(self.path) as append:
            self.refresh()
            if known := self.find(record["record"], record["run"]):
                return known.record
            record = {"record": record["record"], "version": VERSION, **record}
            if per_example is not None:
                columns = list(per_example[0]) if per_example else []
                rows = [[counts[name] for name in columns] for counts in per_example]
                record["per_example_counts"] = append_counts(self.path, record["run"], columns, rows)
            append(record)
        self.refresh()
        return record
