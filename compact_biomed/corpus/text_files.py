"""Documents from JSON lines and from plain text, one document a line, plain or gzipped."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compact_biomed.corpus.document import Document, normalize
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError


def read_jsonl(path: Path | str) -> Iterator[Document]:
    """Yield a document for every JSON object of the file, one object a line; blank lines are skipped.

    Fields: `title` and `abstract`, or `text`; optionally `pmid`, `version`, `year`.
    Any other field, `id` included, is ignored: numbers of other collections are not PMIDs.

    Raises:
        UserError: a line that is not a JSON object, or a field of the wrong type.
    """
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise UserError(
                f"not JSON: {getattr(error, 'msg', error)}",
                where=f"{path}, line {number}{column}",
                remedy="one JSON object a line is expected",
            ) from None
        yield document_of(record, f"{path}, line {number}")


def read_text(path: Path | str) -> Iterator[Document]:
    """Yield a document for every line that is not blank: its text is the line, it has no title and no PMID."""
    for _, line in read_lines(path):
        if text := normalize(line):
            yield Document(title="", abstract=text)


def document_of(record: Any, where: str) -> Document:
    """The document in a decoded JSON object; `where` is for the error."""
    if not isinstance(record, dict):
        raise UserError("not a JSON object", where=where, remedy='expected {"title": ..., "abstract": ...}')
    if not record.keys() & {"title", "abstract", "text"}:
        raise UserError(
            f"no field title, abstract or text among {sorted(map(str, record))[:8]}",
            where=where,
            remedy="rename the field that holds the text",
        )
    title, abstract = _string(record, "title", where), _string(record, "abstract", where)
    if "text" in record:
        if abstract:
            raise UserError("both text and abstract", where=where, remedy="keep one of them")
        abstract = _string(record, "text", where)
    pmid = _number(record, "pmid", where)
    version = _number(record, "version", where)
    return Document(
        title=title,
        abstract=abstract,
        pmid=pmid,
        version=0 if pmid is None else 1 if version is None else min(version, 2**31 - 1),
        year=_number(record, "year", where, most=9999),
    )


def _string(record: dict, field: str, where: str) -> str:
    value = record.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{field} is {type(value).__name__}, not a string", where=where, remedy="write it as a string")
    # Half of a surrogate pair ("\ud83d" alone) is legal JSON and no legal text.
    return normalize(value.encode("utf-8", "replace").decode("utf-8"))


def _number(record: dict, field: str, where: str, most: int = 2**63 - 1) -> int | None:
    value = record.get(field)
    if value is None or value == "":
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= most):
        raise UserError(f"{field} is {text[:20]!r}, not a whole number", where=where, remedy=f"correct or drop {field}")
    return int(text)
