"""Records: what was run, from what, how, and what came out. One JSON object a line.

A record's `run` is a hash of all that decides the result: whoever asks for the same again
finds the record. The numbers of each test example (`units`), from which intervals and
paired tests are made, lie beside: `<records>.units/<run>.json`.
"""

import errno
import fcntl
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from compact_biomed import __version__
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, require_writable, sha256_json


def append_record(path: Path | str, record: dict[str, Any]) -> None:
    """Append one JSON line to a record file, as `alone_with_records` does."""
    with alone_with_records(path) as append:
        append(record)


@contextmanager
def alone_with_records(path: Path | str) -> Iterator[Callable[[dict[str, Any]], None]]:
    """Yield what appends one JSON line to a record file, flushed to disk; all of it or nothing.

    No other process appends within the block (`flock`). What a killed process left of a last line is cut off first.

    Raises:
        UserError: the file ends in something that is no record.
        OSError: it could not be written; the file is as before.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)

    def append(record: dict[str, Any]) -> None:
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8")
        line = mend_end(descriptor, path) + line
        before = os.fstat(descriptor).st_size
        written = os.write(descriptor, line)
        if written < len(line):
            os.ftruncate(descriptor, before)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield append
    finally:
        os.close(descriptor)


# ----------------------------------------------------------------------------------------------------
# Files of records, one JSON object a line, and what a killed process or a full disk leaves at their end.
#
# A record is appended by one write. If that is cut short the file ends in a part of a line, without the end of the
# line: a torn record. Readers leave it out and say so; the next append cuts it off.


def record_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and content of each line, from 1; a torn last one is left out, with a warning.

    Lines are not looked into, but for a last one without its end.
    """
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n") or not _torn(line):
                yield number, line
            else:
                _warn(f"{path}:{number}: the last record is torn (a process was killed, or the disk was full) and left "
                      "out; all others are read, and the next record that is written takes its place")  # fmt: skip


def missing_parts(record: dict[str, Any], names: Iterable[str]) -> list[str]:
    """Which of some parts a record lacks; a part that holds several of them is named once, if it is missing itself.

    Args:
        names: with dots for what stands within a part.
    """
    missing: dict[str, None] = {}  # in order, each once
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
    return list(missing)


def mend_end(descriptor: int, path: Path) -> bytes:
    """Make a file ready for a record to be appended: a torn last one is cut off.

    Args:
        descriptor: of the file, open for reading and writing.

    Returns:
        What has to be written before the record: the end of a last line that lacks no more than that, or nothing.

    Raises:
        UserError: the last line is no part of a record: this may be another kind of file.
    """
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return b""
    before, newline, last = os.pread(descriptor, size, 0).rpartition(b"\n")
    if not _torn(last):
        return b"\n"
    if not last.startswith(b"{") and last.strip(b"\0"):
        raise UserError("the last line is no record", where=path, remedy="name another file, or remove the line")
    os.ftruncate(descriptor, len(before + newline))
    say(f"{path}: a torn record at the end is cut off")
    return b""


def _torn(line: bytes) -> bool:
    # No part of a JSON object is JSON.
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


@cache  # one command reads a file several times
def _warn(text: str) -> None:
    say(f"warning: {text}")


VERSION = 1  # of the form of a record
SCORES, SEARCH = "scores", "search"  # what a record holds: of test, or of dev while choosing


def run_key(science: dict[str, Any]) -> str:
    """The name of a run: 16 hex digits."""
    return sha256_json(science)[:16]


class Records:
    """A file of records.

    Args:
        path: need not exist yet.

    Raises:
        UserError: a line that is no record.
    """

    def __init__(self, path: Path | str):
        self.path, self._read = Path(path), None
        self._runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what another process may have written meanwhile."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._read:
            self._runs = {(record["record"], record["run"]): record for record in read(self.path)}
            self._read = size

    def require_writable(self) -> None:
        """Find out before the work whether it can be recorded.

        Raises:
            OSError: it can't.
        """
        require_writable(self.path.parent)
        if self.path.exists():
            self.path.open("a").close()

    def find(self, what: str, run: str) -> dict[str, Any] | None:
        """The record of a run, or None."""
        return self._runs.get((what, run))

    def scores(self) -> list[dict[str, Any]]:
        """The records of test scores, in the order of the file."""
        return [record for (what, _), record in self._runs.items() if what == SCORES]

    def require(self, record: dict[str, Any], *needed: str) -> None:
        """Find out whether a record of this file has what its reader needs.

        Args:
            needed: names, with dots for those within others.

        Raises:
            UserError: one is missing.
        """
        if missing := missing_parts(record, needed):
            raise UserError(
                f"the record of run {record['run']} is damaged: no {', '.join(missing)}", where=self.path,
                remedy="remove its line; the run is then done again",
            )  # fmt: skip

    def add(self, record: dict[str, Any], units: Sequence[dict[str, float]] | None = None) -> dict[str, Any]:
        """Write a record; its units first, so that no record is without them.

        If another process has recorded this run meanwhile, its record stays, and is returned.

        Args:
            record: with `record` (`SCORES` or `SEARCH`) and `run`.
            units: of `Scores`; written as {"columns": [...], "rows": [[...], ...]}.
        """
        with alone_with_records(self.path) as append:
            self.refresh()
            if known := self.find(record["record"], record["run"]):
                return known
            record = {"record": record["record"], "version": VERSION, **record}
            if units is not None:
                place = self.units_path(record["run"])
                columns = list(units[0]) if units else []
                rows = [[row[column] for column in columns] for row in units]
                with atomic_file(place) as temporary:
                    temporary.write_text(json.dumps({"columns": columns, "rows": rows}, separators=(",", ":")))
                record["units"] = f"{place.parent.name}/{place.name}"
            append(record)
        self._runs[record["record"], record["run"]] = record
        return record

    def units_path(self, run: str) -> Path:
        """Where a run's units lie."""
        return self.path.with_name(f"{self.path.name}.units") / f"{run}.json"


def read(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a file, one after the other, but for a torn last one; none if it does not exist.

    Raises:
        UserError: a line that is no record, by its number.
    """
    path = Path(path)
    if not path.exists():
        return
    for number, line in record_lines(path):
        try:
            record = json.loads(line)
            if not _is_record(record):
                raise ValueError
        except ValueError as error:
            raise UserError(
                "this line is no record of an evaluation",
                where=f"{path}:{number}",
                remedy="remove the line, or name another file with --records",
            ) from error
        yield record


def _is_record(line: Any) -> bool:
    """Whether it is one of this version, with a name; who reads more of it looks further."""
    return (
        isinstance(line, dict)
        and isinstance(line.get("record"), str)
        and isinstance(line.get("run"), str)
        and line.get("version") == VERSION
    )


# ----------------------------------------------------------------------------------------------------
# Runs that are being done: processes that share a file of records share the work as well.


T, R = TypeVar("T"), TypeVar("R")
PAUSE = 1.0  # seconds between looks at what another process is at


class Claims:
    """Which runs for a file of records some process is at. A process that ends, however it does, claims nothing more.

    Args:
        records: the file; need not exist yet. An empty file `.<records>.claims` comes to lie beside it.
    """

    def __init__(self, records: Path):
        records = records.resolve()
        self._path = records.with_name(f".{records.name}.claims")
        self._descriptor: int | None = None
        self._told = False

    @contextmanager
    def claim(self, run: str) -> Iterator[bool]:
        """Whether no other process is at this run (16 hex digits); within the block it is ours.

        Where no lock can be had, as on some shared disks, it is always ours, and that is said.
        """
        # A byte of the file for each run. The system frees it with the process, and it takes no space.
        place = int(run, 16) >> 2
        try:
            file = self._open()
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except OSError as error:
            other = error.errno in (errno.EAGAIN, errno.EACCES) and self._descriptor is not None
            if not other and not self._told:
                say(f"{self._path} cannot be locked ({error.strerror}): another process would do the same runs again")
                self._told = True
            yield not other
            return
        try:
            yield True
        finally:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)

    def _open(self) -> int:
        # Opened once: to close one descriptor of a file frees all of the process' locks on it.
        if self._descriptor is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
        return self._descriptor


def in_turns(items: Sequence[T], busy: list[T], tell: Callable[[list[T]], None]) -> Iterator[tuple[T, list[T]]]:
    """Yield each item, and all that are left with it; those that the body puts into `busy` come again.

    Args:
        busy: empty at first; what another process is at. If that is all that is left, there is a pause.
        tell: says so before the first pause.
    """
    told = False
    while items:
        for number, item in enumerate(items):
            yield item, [*busy, *items[number:]]
        if len(busy) == len(items):
            if not told:
                tell(busy)
                told = True
            time.sleep(PAUSE)
        items = busy.copy()
        busy.clear()


def shared(items: Sequence[T], do: Callable[[T], R | None]) -> dict[T, R]:
    """do(item) of each; where it gives None, because another process is at the item, it is asked again later."""
    found: dict[T, R] = {}
    busy: list[T] = []

    def tell(left: list[T]) -> None:
        say(f"  another process is at {', '.join(map(str, left))}: waiting")

    for item, _ in in_turns(items, busy, tell):
        result = do(item)
        if result is None:
            busy.append(item)
        else:
            found[item] = result
    return found


# ----------------------------------------------------------------------------------------------------
# Records as tables read them: lines of JSON with the place where each stands.


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


# ----------------------------------------------------------------------------------------------------
# Where a result comes from: which code, which libraries, which command, when.


_LIBRARIES = ("torch", "transformers", "accelerate", "datasets", "tokenizers", "numpy", "numba")


def origin() -> dict[str, Any]:
    """The part `from` of a record: revision, clean, versions, command, date."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return {**code_revision(), "versions": versions(), "command": command_line(), "date": now}


def code_revision() -> dict[str, Any]:
    """The commit that the package runs from, and whether it was changed since; None outside a repository."""
    here = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=20)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # Installed into somebody else's repository, the package is no part of it.
    if not git("ls-files", "--", str(here / "__init__.py")):
        return {"revision": None, "clean": None}
    return {"revision": git("rev-parse", "HEAD"), "clean": git("status", "--porcelain", "--", str(here)) == ""}


def versions() -> dict[str, str]:
    """Versions of what computed a result."""
    own = {"compact-biomed": __version__, "python": platform.python_version()}
    return own | {name: version(name) for name in _LIBRARIES}


def command_line() -> str:
    """The command that was given, for repeating it; without the folders of this machine."""
    program = Path(sys.argv[0])
    if program.name == "__main__.py":
        start = ["python", "-m", program.parent.name]
    elif program.suffix == ".py":
        shown = os.path.relpath(program)
        start = ["python", program.name if shown.startswith("..") else shown]
    else:
        start = [program.name]
    return shlex.join([*start, *sys.argv[1:]])
