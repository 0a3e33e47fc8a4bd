"""Files of records, one JSON object a line, and what a killed process or a full disk leaves at their end.

A record is appended by one write. If that is cut short the file ends in a part of a line, without the end of the
line: a torn record. Readers leave it out and say so; the next append cuts it off.
"""

import json
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from compact_biomed.console import say
from compact_biomed.errors import UserError


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
