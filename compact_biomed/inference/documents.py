"""Read the documents that a model is asked about: texts, folders, lines, JSON Lines, tables, BioC and PubTator."""

import gzip
import io
import json
import sys
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

from compact_biomed.benchmarks.readers.own_formats import ending
from compact_biomed.benchmarks.readers.rows import read_rows
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument
from compact_biomed.benchmarks.standoff.formats import FORMATS, detect
from compact_biomed.corpus.streams import kind_by_name, read_lines
from compact_biomed.errors import UsageError, UserError, no_file

ANNOTATED = ("bioc", "bioc-json", "pubtator")  # documents with passages
TABLES = ("csv", "tsv", "parquet")
KINDS = ("text", "lines", "jsonl", *TABLES, *ANNOTATED)  # what a file may hold
# What is asked -> names of its column in a table, or of its key in an object; the last ones are those of training data.
COLUMNS = {
    "text": ("text", "context", "text_a", "sentence1", "sentence"),
    "pair": ("pair", "text_b", "sentence2"),
    "question": ("question",),
}
_OBJECT = 'each line is {"id": ..., "text": ...}, with "question" or "pair" where the model takes them'
_TEXTS = ("*.txt", "*.txt.gz")  # what of a folder is read
_LONG = 1 << 20  # bytes of a file from which on a text is answered while it is read


@dataclass(frozen=True)
class Request:
    """A document, with what is asked about it.

    Args:
        name: its "id", or its number, from 1 on; several documents may have the same "id".
        read: returns at most so many characters of its text, "" at the end.
        pair: the second text of a pair, or None.
        question: to be answered from the text, or None.
        where: file and line, for messages.
        line: of its object in a JSON Lines file, from 1 on, or None.
        file: that it came from, if several files hold several documents each.
        is_long: whether its text should not be held in memory as a whole.
        document: that it is, of BioC or PubTator, with its annotations.
    """

    name: str
    read: Callable[..., str]
    pair: str | None = None
    question: str | None = None
    where: str = ""
    line: int | None = None
    file: str | None = None
    is_long: bool = False
    document: AnnotatedDocument | None = None

    @property
    def stem(self) -> str:
        """The name without .txt, if it is that of a file."""
        return self.name if self.line else self.name.removesuffix(".gz").removesuffix(".txt")

    @property
    def passages(self) -> list[tuple[int, int]]:
        """The characters (start, end) of each passage with a text."""
        return (
            [(each.start, each.end) for each in self.document.passages if each.end > each.start]
            if self.document
            else []
        )


def of_text(text: str, *, pair: str | None = None, question: str | None = None, where: str = "") -> Request:
    """Return the request of a text that is in memory."""
    return Request("", io.StringIO(text, newline="").read, pair, question, where)


def is_text(value: object) -> bool:
    """Return whether a value is a string of whole characters.

    JSON can spell half a surrogate pair, which no tokenizer accepts.
    """
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


# ---- files


def input_kind(path: str) -> str:
    """Return what a file holds, one of `KINDS`: by its name, and a .json by its content too."""
    name = path.lower().removesuffix(".gz")
    if (form := ending(name).removeprefix(".")) in TABLES:
        return form
    if name.endswith(".pubtator"):
        return "pubtator"
    if name.endswith(".json") and Path(path).is_file() and _is_bioc(path):
        return "bioc-json"
    kind = kind_by_name(path) or "text"
    return "bioc" if kind == "xml" else kind


def _is_bioc(path: str) -> bool:
    try:
        return detect(path) == "bioc-json"
    except UserError:  # another JSON, or none; its reader says what is wrong
        return False


def files_of(paths: Sequence[str]) -> list[str]:
    """Return the files to read: the paths, and in place of a folder its texts (.txt, .txt.gz), sorted by name.

    Raises:
        UserError: there is no such file, or no text in a folder.
    """
    files: list[str] = []
    for path in paths:
        if path != "-" and Path(path).is_dir():
            texts = sorted(str(text) for ending in _TEXTS for text in Path(path).glob(ending) if text.is_file())
            if not texts:
                raise UserError("no .txt file in this folder", where=path, remedy="name files, or a folder of texts")
            files += texts
        elif path != "-" and not Path(path).exists():
            raise no_file(path, 'check the path, or "-" for standard input')
        else:
            files.append(path)
    return files


def all_requests(files: Sequence[str], kind: str | None = None) -> Iterator[Request]:
    """Yield the documents of several files, file by file.

    A text is named by its file, with its folder if another file has the same name. Where several files hold several
    documents each, each document knows its file.

    Args:
        files: as `files_of` returns them.
        kind: of all files, one of `KINDS`; None = by their names.
    """
    names = Counter(Path(file).name for file in files)
    for file in files:
        holds = kind or input_kind(file)
        for request in requests(file, holds):
            if holds == "text":
                yield replace(request, name=file) if names[Path(file).name] > 1 else request
            else:
                yield replace(request, file=file) if len(files) > 1 else request


def requests(path: str, kind: str) -> Iterator[Request]:
    """Yield the documents of a file one by one. A text file is one document, which is not read as a whole.

    Args:
        path: a file in UTF-8, plain or gzipped, or "-" for standard input. A byte order mark is dropped.
        kind: one of `KINDS`; "lines": one document per line.

    Raises:
        UserError: no such file, not UTF-8, a damaged gzip file, a line that is no object with a "text", a table without
            such a column, no BioC, or no PubTator.
    """
    if kind == "text" and path != "-":
        file = _TextFile(path)
        yield Request(Path(path).name, file.read, where=path, is_long=Path(path).stat().st_size > _LONG)
        return
    if kind in (*ANNOTATED, *TABLES) and path == "-":
        raise UsageError(f"no {kind} from standard input", where="--input", remedy="name a file")
    if kind in TABLES:
        yield from _of_table(path, kind)
        return
    if kind in ANNOTATED:
        for number, document in enumerate(FORMATS[kind].read(Path(path), {}), 1):
            read = io.StringIO(document.text, newline="").read
            yield Request(document.id or str(number), read, where=document.where, document=document)
        return
    with _opened(path) as stream:
        if kind == "text":
            yield Request("1", lambda size=-1: _read(stream, path, size), where=path, is_long=True)
            return
        parse = _from_line if kind == "lines" else _from_json
        for number, line in enumerate(_lines(stream, path), 1):
            if line.strip():
                yield parse(line, number, f"{path}:{number}")


class _TextFile:
    """A file that is opened when it is first read and closed at its end, so that many can wait to be read."""

    def __init__(self, path: str):
        _require_file(path)
        self._path, self._rest = path, self._parts()
        self._size = -1

    def read(self, size: int = -1) -> str:
        """Return at most so many characters, all by default; "" at the end."""
        self._size = size
        return next(self._rest, "")

    def _parts(self) -> Iterator[str]:
        with _opened(self._path) as stream:
            while part := _read(stream, self._path, self._size):
                yield part


def _of_table(path: str, form: str) -> Iterator[Request]:
    """Yield one request per row, named by the column "id", or by its number."""
    _require_file(path)
    table = read_rows(path, "", form, {name for names in COLUMNS.values() for name in names})
    columns = {name: column for name in COLUMNS if (column := column_of(table.columns, name))}
    if "text" not in columns:
        remedy = "name the column of texts text; of pairs, text_a and text_b; or add --input text"
        raise UserError(f'no column "text" among {", ".join(table.columns)[:200]}', where=path, remedy=remedy)
    for number, (row, where) in enumerate(zip(table.rows, table.where, strict=True), 1):
        asked = {name: row.get(column) for name, column in columns.items()}
        if not all(is_text(value) for value in asked.values()):
            raise UserError("a cell without text", where=where, remedy=f"fill in {' and '.join(columns.values())}")
        name = number if row.get("id") in (None, "") else row["id"]
        yield replace(of_text(asked.pop("text"), **asked, where=where), name=str(name))


def column_of(columns: Iterable[str], name: str) -> str | None:
    """Return which of these columns or keys holds what `COLUMNS` names; None if there is none."""
    return next((column for column in COLUMNS[name] if column in columns), None)


def _from_line(line: str, number: int, where: str) -> Request:
    return Request(str(number), io.StringIO(line.rstrip("\r\n"), newline="").read, where=where)


def _from_json(line: str, number: int, where: str) -> Request:
    try:
        content = json.loads(line)
        asked: dict[str, Any] = {name: content.get(column_of(content.keys(), name)) for name in COLUMNS}
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError("no JSON object", where=where, remedy=_OBJECT) from error
    for name, value in asked.items():
        if not is_text(value) and (name == "text" or column_of(content, name)):
            raise UserError('no "text", or a value that is not text', where=where, remedy=_OBJECT)
    read = io.StringIO(asked["text"], newline="").read
    name = str(number if content.get("id") is None else content["id"])
    if not is_text(name):
        raise UserError('an "id" with half a surrogate pair', where=where, remedy="correct or remove it")
    return Request(name, read, asked["pair"], asked["question"], where, number)


def _read(stream: TextIO, path: str, size: int = -1) -> str:
    """Return `stream.read(size)`. The consumer of a request calls it, where `requests` could catch nothing."""
    with _decoding(path):
        return stream.read(size)


def _lines(stream: TextIO, path: str) -> Iterator[str]:
    with _decoding(path):
        yield from stream


@contextmanager
def _decoding(path: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise _not_utf8(path, error) from error
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"damaged gzip data: {error}", where=path, remedy="copy the file again") from error


def _not_utf8(path: str, error: UnicodeDecodeError) -> UserError:
    """Return the error about a file that is not UTF-8, with line and byte; pipes cannot be read again."""
    seen = UserError(f"not UTF-8 (0x{error.object[error.start]:02x})", where=path)
    if Path(path).is_file():  # a pipe is read once
        try:
            deque(read_lines(path), maxlen=0)
        except UserError as again:  # or of a line that is too long for that reader
            seen = again if again.what.startswith("not UTF-8") else seen
    return UserError(seen.what, where=seen.where, remedy="convert it: iconv -t utf-8")


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    """Open a text stream whose characters are those of the file, line ends included, without a byte order mark."""
    _require_file(path)
    raw = sys.stdin.buffer if path == "-" else open(path, "rb")
    if path != "-" and raw.peek(2)[:2] == b"\x1f\x8b":
        raw = gzip.GzipFile(fileobj=raw)
    stream = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
    try:
        yield stream
    finally:
        if path == "-":
            stream.detach()
        else:
            stream.close()


def _require_file(path: str) -> None:
    if path != "-" and (not Path(path).exists() or Path(path).is_dir()):
        raise no_file(path, 'check the path, or "-" for standard input')
