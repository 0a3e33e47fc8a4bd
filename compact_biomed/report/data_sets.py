"""The data sets behind the names of tasks: records are chosen by them, and two sets of one name share no table."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.errors import UsageError, UserError
from compact_biomed.records.lines import Line

_DIGITS = 12  # of a checksum, where one is shown


def checksum_of(record: Mapping[str, Any], split: str) -> str:
    """Return the checksum of the examples of a split in words: its first digits."""
    return f"sha256 {_checksum(record, split)[:_DIGITS]}"


def _checksum(record: Mapping[str, Any], split: str) -> str:
    return record["task"]["data_sha256"].get(split, "unknown")


def choose_tasks(lines: Sequence[Line], names: Sequence[str] | None) -> list[Line]:
    """Return the records of some tasks, in their order.

    Args:
        names: of tasks; NAME@SHA256 with the first digits of the checksum of the test examples is one of several data
            sets of this name. None: all.

    Raises:
        UserError: no record of one of them.
    """
    if not names:
        return list(lines)
    for name in names:
        if lines and not any(_is(line, name) for line in lines):
            known = ", ".join(sorted({line.task for line in lines}))
            raise UsageError(f"no task {name!r} in the records", where="--tasks", remedy=f"one of {known}")
    return [line for line in lines if any(_is(line, name) for name in names)]


def _is(line: Line, name: str) -> bool:
    task, _, digits = name.rpartition("@")
    return line.task == name or (
        bool(digits) and line.task == task and _checksum(line.record, line.record["split"]).startswith(digits)
    )


def plain_names(lines: Sequence[Line], names: Sequence[str] | None) -> list[str] | None:
    """Return the names of `choose_tasks` without checksums."""
    known = {line.task for line in lines}
    return names and [name if name in known else name.rpartition("@")[0] for name in names]


def require_one_set(lines: Sequence[Line], split: str, column: str) -> None:
    """Raise a `UserError` if records of one task, on one fold, are of different examples of a split.

    The message names both sets, and how to make a table of one of them.

    Args:
        column: title, for the message.
    """
    first = lines[0]
    for line in lines[1:]:
        sums = [_checksum(each.record, split) for each in (first, line)]
        if sums[0] != sums[1]:
            places = _places((first.record, line.record), split)
            sets = [
                f"{checksum_of(each.record, split)}{_described(each.record, split, place)}"
                for each, place in zip((first, line), places, strict=True)
            ]
            raise UserError(
                f"{column}, {split} examples would mix {' and '.join(sets)}",
                where=f"{first.where} and {line.where}",
                remedy=_remedy(first, split, own=any(places)),
            )


def _places(records: Sequence[Mapping[str, Any]], split: str) -> list[str]:
    """Return the files of a split, held out of train or not: their names, or the paths where the names are equal."""
    recorded = [record["task"].get("files", {}) for record in records]
    paths = [files.get(split) or files.get("train", "") for files in recorded]
    names = [Path(path).name for path in paths]
    return paths if names[0] == names[1] and paths[0] != paths[1] else names


def _described(record: Mapping[str, Any], split: str, place: str) -> str:
    number = record["task"].get("examples", {}).get(split)
    parts = [f"{number:,} examples" if number is not None else "", f"of {place}" if place else ""]
    described = " ".join(part for part in parts if part)
    return f" ({described})" if described else ""


def _remedy(line: Line, split: str, *, own: bool) -> str:
    again = "make one of them again on the files of the other"
    if own:
        again = "to show both, evaluate or score one of them again with --task-name NAME, in other --records"
    one = f"{line.task}@{_checksum(line.record, split)[:_DIGITS]}"
    if line.fold is None and split == line.record["split"]:
        return f"a table of one of them: --tasks {shlex.quote(one)}; {again}"
    return f"{again}, or name other files by --records"
