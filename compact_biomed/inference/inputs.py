"""Accept texts in any container, and return results in the same shape."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.inference.documents import Request, column_of, files_of, input_kind, is_text, of_text, requests
from compact_biomed.inference.tables import is_frame, is_series, joined, series_like

TAKEN = (
    'a text (str), a list of texts, a pandas Series, a DataFrame with a column "text", or a pathlib.Path of a file or '
    "of a folder of .txt files"
)


@dataclass(frozen=True)
class Given:
    """What is asked.

    Args:
        requests: one per text, in order.
        shaped: puts their results, each a list of rows (`Entity`, `Label`, `Answer`), into the caller's shape.
        is_single: whether it is one text, whose result stands alone.
    """

    requests: Iterable[Request]
    shaped: Callable[[Iterator[Any], type], Any]
    is_single: bool = False


def given(texts: object, **others: object) -> Given:
    """Return the requests in what a caller hands over.

    Args:
        texts: see `TAKEN`.
        others: `pair` or `question`: one for all texts (str), or one per text; None = there is none, or it is beside
            the text in a table or a file.

    Raises:
        UserError: it is nothing of these. The message names the argument, the item, and what is taken.
    """
    stated = {name: value for name, value in others.items() if value is not None}
    if isinstance(texts, Path):
        return _of_path(texts, stated)
    if is_frame(texts):
        columns = {name: _column(texts, name) for name in ("text", *others) if name not in stated}
        found = {name: list(texts[column]) for name, column in columns.items() if column is not None}
        return Given(_rows(found | stated), lambda results, row: joined(texts, list(results), columns["text"], row))
    arguments = {"text": texts, **stated}
    many = [value for value in arguments.values() if not isinstance(value, str)]
    if not many:
        for name, value in arguments.items():
            _check(value, name)
        return Given([of_text(texts, **stated)], _first, is_single=True)
    if is_series(many[0]):
        return Given(_rows(arguments), lambda results, _: series_like(many[0], results))
    return Given(_rows(arguments), lambda results, _: list(results))


def _first(results: Iterator[Any], _: type) -> Any:
    return next(results)


def _rows(arguments: Mapping[str, object]) -> list[Request]:
    """Return one request per row; a str is the same in each."""
    columns = {name: _texts(value, name) for name, value in arguments.items() if not isinstance(value, str)}
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) != 1:
        counted = ", ".join(f"{n} in {name!r}" for name, n in lengths.items())
        raise UserError(f"different numbers of texts: {counted}", remedy="one per text, or one str for all")
    (n,) = {*lengths.values()}
    for name, value in arguments.items():
        if isinstance(value, str):
            columns[name] = [value] * n
            _check(value, name)
    rows = zip(*columns.values(), strict=True)
    made = (dict(zip(columns, row, strict=True)) for row in rows)
    return [of_text(row.pop("text"), where=f"text {i}", **row) for i, row in enumerate(made)]


def _texts(value: object, name: str) -> list[str]:
    """Return the texts in a container."""
    is_ordered = not isinstance(value, Mapping | Set | bytes | bytearray | Path) and not is_frame(value)
    try:
        texts = list(value) if is_ordered else None  # type: ignore[call-overload]
    except TypeError:
        texts = None
    if texts is None:
        raise UserError(f"{_type(value)} is no text and no list of texts", where=name, remedy=f"give {TAKEN}")
    for i, text in enumerate(texts):
        _check(text, f"{name}[{i}]")
    return texts


def _check(text: object, where: str) -> None:
    if not isinstance(text, str):
        raise UserError(f"{_type(text)} is no text", where=where, remedy=f"give {TAKEN}")
    if not is_text(text):
        raise UserError("half a surrogate pair, which is no character", where=where, remedy="remove it")


def _type(value: object) -> str:
    is_missing = value is None or (isinstance(value, float) and value != value)  # NaN
    return f"a value of type {type(value).__name__}{' (missing)' if is_missing else ''}"


def _column(frame: Any, name: str) -> str | None:
    """Return the name of the column of an argument, None if there is none; texts must have one."""
    found = column_of(frame.columns, name)
    if found is None and name == "text":
        columns = ", ".join(map(str, frame.columns)) or "none"
        remedy = 'rename it: frame.rename(columns={"NAME": "text"})'
        raise UserError(f'no column "text"; there are {columns}', where="DataFrame", remedy=remedy)
    if list(frame.columns).count(found) > 1:
        raise UserError(f"two columns are called {found!r}", where="DataFrame", remedy="rename or drop one of them")
    return found


# ---- files


def _of_path(path: Path, stated: Mapping[str, object]) -> Given:
    """Return the requests of a text file, alone; of a folder or of a file of several documents, by their names."""
    for name, value in stated.items():
        if not isinstance(value, str):
            raise UserError(f"{_type(value)} beside texts in files", where=name, remedy="give one str for all texts")
        _check(value, name)
    files = files_of([str(path)])
    kinds = [input_kind(file) for file in files]
    asked = (
        replace(request, **stated) for file, kind in zip(files, kinds, strict=True) for request in requests(file, kind)
    )
    if kinds == ["text"] and not path.is_dir():
        return Given(asked, _first, is_single=True)
    names: dict[str, None] = {}

    def by_name(results: Iterator[Any], _: type) -> dict[str, Any]:
        found = list(results)  # after which all names are known
        return dict(zip(names, found, strict=True))

    return Given(_named(asked, names), by_name)


def _named(requests: Iterable[Request], names: dict[str, None]) -> Iterator[Request]:
    """Yield requests and note their names, in order."""
    for request in requests:
        if request.name in names:
            remedy = "give ids that differ, or use compact-biomed predict, which prints the lines too"
            raise UserError(f"a second document with the id {request.name!r}", where=request.where, remedy=remedy)
        names[request.name] = None
        yield request
