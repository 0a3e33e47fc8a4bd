"""Files of records: one JSON object per line, appended as a whole under a lock on the file.

A killed process or a full disk may leave a torn line at the end: part of a record, without the newline. Readers leave
it out and warn; the next append cuts it off.

Counts per test example are in one file beside the records, `<records>.counts`, which a record names. It has one line
per run: `{"run": "...", "columns": ["tp", "fp", "fn"], "rows": [[1, 0, 0], ...]}`.
"""

import errno
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import FileLock, require_writable_at


def whole_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """Yield number (from 1), byte offset and content of each line, except a torn last one, of which it warns."""
    offset = 0
    with path.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            if line.endswith(b"\n") or not _is_torn(line):
                yield number, offset, line
            else:
                why = "a process was killed, or the disk was full"
                _warn(
                    f"warning: {path}:{number}: the last record is torn ({why}). It is left out, all others are read; "
                    "the next record that is written takes its place."
                )
            offset += len(line)


def _is_torn(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return True  # no proper part of a JSON object is JSON
    return False


_warn = cache(say)  # once per place: one command reads a file several times


@contextmanager
def exclusive_append(path: Path | str) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Lock a file of records, and yield a function that appends one record: flushed to disk, all of it or nothing.

    A torn record at the end is cut off first.

    Raises:
        UserError: the file ends in something that is no record.
        OSError: the record could not be written; the file is as before.
    """
    path = Path(path)
    with FileLock(path) as lock:
        yield lambda record: _append(lock.descriptor, path, json.dumps(record, ensure_ascii=False))


def require_appendable(path: Path) -> None:
    """Check before the work that its record can be appended to a file, with per-example counts beside it.

    Raises:
        UserError: the file, or that of the counts, ends in something that is no record.
        OSError: it cannot be written.
    """
    for file in (path, _counts_file(path)):
        require_writable_at(file)
        if file.exists():
            with file.open("rb") as stream:
                _end(stream.fileno(), file)


def append_record(path: Path | str, record: dict[str, Any]) -> None:
    """Append one record to a file, as `exclusive_append` does."""
    with exclusive_append(path) as append:
        append(record)


def _append(descriptor: int, path: Path, line: str) -> None:
    """Append a line to a file that is locked and open, all of it or nothing, and flush it to disk."""
    content = _mend_end(descriptor, path) + line.encode() + b"\n"
    size = os.fstat(descriptor).st_size
    if os.write(descriptor, content) < len(content):
        os.ftruncate(descriptor, size)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    os.fsync(descriptor)


def _mend_end(descriptor: int, path: Path) -> bytes:
    """Cut off a torn last line. Return the newline that the last line lacks if it is whole without it."""
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return b""
    start, torn = _end(descriptor, path)
    if not torn:
        return b"\n"
    os.ftruncate(descriptor, start)
    say(f"{path}: a torn record at the end is cut off")
    return b""


def _end(descriptor: int, path: Path) -> tuple[int, bool]:
    """Return where the last line begins, and whether it is a torn record.

    Raises:
        UserError: it has no end and is no record, torn or whole: this is another file.
    """
    size = os.fstat(descriptor).st_size
    if not size or os.pread(descriptor, 1, size - 1) == b"\n":
        return size, False
    before, newline, last = os.pread(descriptor, size, 0).rpartition(b"\n")
    torn = _is_torn(last)
    if not last.startswith(b"{") and last.strip(b"\0"):
        raise UserError("the last line is no record", where=path, remedy="name another file, or remove the line")
    return len(before + newline), torn


def _counts_file(records: Path) -> Path:
    """Return the file beside a file of records that holds their per-example counts."""
    return records.with_name(f"{records.name}.counts")


def append_counts(records: Path, run: str, columns: Sequence[str], rows: Sequence[Sequence[float]]) -> str:
    """Append the per-example counts of a run to the file beside its records; return the name of that file."""
    path = _counts_file(records)
    counts = {"run": run, "columns": columns, "rows": rows}
    with FileLock(path) as lock:
        _append(lock.descriptor, path, json.dumps(counts, separators=(",", ":")))
    return path.name
