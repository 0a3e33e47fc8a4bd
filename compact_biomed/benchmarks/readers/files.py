"""Find and read the files of a data set: any of several names and endings, plain or gzipped."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.corpus.streams import read_blocks, read_lines
from compact_biomed.errors import UserError
from compact_biomed.settings import parse_json


def find_file(folder: Path, names: Sequence[str], endings: Sequence[str]) -> Path | None:
    """Return the file NAME + ENDING (+ ".gz") in `folder`, or None.

    Raises:
        UserError: several such files.
    """
    candidates = [folder / f"{name}{ending}{packed}" for name in names for ending in endings for packed in ("", ".gz")]
    paths = [path for path in candidates if path.is_file()]
    if len(paths) > 1:
        raise UserError(f"both {paths[0].name} and {paths[1].name} exist", where=folder, remedy="remove one of them")
    return paths[0] if paths else None


def need_file(folder: Path, names: Sequence[str], endings: Sequence[str]) -> Path:
    """Return `find_file`; raise a `UserError` that lists the accepted names if there is no such file."""
    path = find_file(folder, names, endings)
    if path is None:
        accepted = ", ".join(f"{name}{ending}" for name in names for ending in endings)
        raise UserError(f"none of {accepted} (or .gz)", where=folder, remedy="put the file there")
    return path


def read_table(path: Path, columns: Sequence[str], *, header: bool | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells) of a tab-separated file. Quotes are ordinary characters.

    Args:
        columns: names of the columns.
        header: whether the first line contains these names; None: check.

    Raises:
        UserError: a line with another number of cells, or a missing header.
    """
    for number, line in read_lines(path):
        cells = line.split("\t")
        if number == 1 and header is not False and [cell.strip().lower() for cell in cells] == [*columns]:
            continue
        if number == 1 and header:
            raise UserError(
                "no header", where=f"{path}:1", remedy=f"add a line with the tab-separated names {', '.join(columns)}"
            )
        if not line.strip():
            continue
        if len(cells) != len(columns):
            raise UserError(
                f"{len(cells)} columns, expected {len(columns)}",
                where=f"{path}:{number}",
                remedy=f"separate {', '.join(columns)} by tabs",
            )
        yield number, cells


def read_json(path: Path, remedy: str = "download the file again") -> Any:
    """Return the JSON value of a file, plain or gzipped.

    Raises:
        UserError: not JSON (with the line), empty, or damaged.
    """
    try:
        text = b"".join(read_blocks(path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=f"{path}, byte {error.start}", remedy="convert the file to UTF-8") from None
    return parse_json(text, where=path, remedy=remedy)
