"""Finding and opening the files of a set: any of several endings, plain or gzipped."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.corpus.streams import read_blocks, read_lines
from compact_biomed.errors import UserError


def find_file(folder: Path, names: Sequence[str], endings: Sequence[str]) -> Path | None:
    """The file NAME + ENDING (+ ".gz") in `folder`, None if there is none.

    Raises:
        UserError: several; which of them is meant is not ours to guess.
    """
    candidates = [folder / f"{name}{ending}{packed}" for name in names for ending in endings for packed in ("", ".gz")]
    found = [path for path in candidates if path.is_file()]
    if len(found) > 1:
        raise UserError(f"{found[0].name} and {found[1].name} stand side by side", where=folder, remedy="leave one")
    return found[0] if found else None


def need_file(folder: Path, names: Sequence[str], endings: Sequence[str]) -> Path:
    """`find_file`, or a `UserError` that names what was looked for."""
    path = find_file(folder, names, endings)
    if path is None:
        wanted = ", ".join(f"{name}{ending}" for name in names for ending in endings)
        raise UserError(f"none of {wanted} (or .gz)", where=folder, remedy="put the file there")
    return path


def read_table(path: Path, columns: Sequence[str], *, header: bool | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of a tab-separated file, quotes being ordinary characters.

    Args:
        columns: names of the columns.
        header: whether the first line holds these names; None: it is a header if it does.

    Raises:
        UserError: a line with another number of cells, a header that is expected and missing.
    """
    for number, line in read_lines(path):
        cells = line.split("\t")
        if number == 1 and header is not False and [cell.strip().lower() for cell in cells] == [*columns]:
            continue
        if number == 1 and header:
            raise UserError("no header", where=f"{path}, line 1", remedy=f"expected: {', '.join(columns)}")
        if not line.strip():
            continue
        if len(cells) != len(columns):
            where = f"{path}, line {number}"
            raise UserError(
                f"{len(cells)} columns, expected {len(columns)}",
                where=where,
                remedy=f"tab-separated {', '.join(columns)}",
            )
        yield number, cells


def read_json(path: Path) -> Any:
    """The JSON value of a file, plain or gzipped.

    Raises:
        UserError: not JSON, with the line; empty or damaged.
    """
    try:
        return json.loads(b"".join(read_blocks(path)))
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=f"{path}, byte {error.start}", remedy="convert the file to UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"{path}, line {error.lineno}, column {error.colno}"
        raise UserError(f"not JSON: {error.msg}", where=where, remedy="download the file again") from None
