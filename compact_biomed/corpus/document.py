"""What one document is, which number names it, and on which side of the split it falls."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError

_NO_BRACKETS = str.maketrans("", "", "[]")


@dataclass(frozen=True)
class Document:
    """One citation, or one text that is not from PubMed.

    Args:
        title: article title as printed, white space normalized; "" for plain text.
        abstract: abstract with its section labels, or the whole of a plain text; "" if there is none.
        pmid: PubMed identifier, None for text from elsewhere.
        version: PMID version (journals that revise publish 1, 2, ...); 0 without a PMID.
        year: year of publication, None where the source does not say.
    """

    title: str
    abstract: str
    pmid: int | None = None
    version: int = 0
    year: int | None = None

    @property
    def text(self) -> str:
        """What a model reads."""
        return document_text(self.title, self.abstract)

    @cached_property
    def key(self) -> int:
        """Unsigned 64-bit name: all versions of a citation share it, and so do equal texts without PMID."""
        return document_key(self.pmid, self.text)


@dataclass(frozen=True)
class Deletion:
    """An update file's order to forget one version of a citation."""

    pmid: int
    version: int = 1

    @property
    def key(self) -> int:
        return document_key(self.pmid, "")


def document_text(title: str, abstract: str) -> str:
    """Title without square brackets, one space, abstract: the text of arXiv 2209.03182.

    MEDLINE prints the translated title of an article that is not in English in brackets.
    """
    title = normalize(title.translate(_NO_BRACKETS))
    return f"{title} {abstract}" if title and abstract else title or abstract


def document_key(pmid: int | None, text: str) -> int:
    """First 8 bytes (big-endian) of sha256("pmid:<pmid>"), or of sha256("text:<text>") without a PMID.

    A hash rather than the number itself, because PMIDs follow time: a range of them
    would hold out a decade, not a sample.
    """
    name = f"text:{text}" if pmid is None else f"pmid:{pmid}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def is_heldout(key: int, fraction: float) -> bool:
    """Whether a document is held out: the same answer on every machine and in every corpus.

    Raising the fraction only adds documents to the held-out side.
    """
    return key < _threshold(fraction)


def heldout_mask(keys: np.ndarray, fraction: float) -> np.ndarray:
    """`is_heldout` for a uint64 array (n,): a boolean array (n,)."""
    return keys < np.uint64(_threshold(fraction))


def normalize(text: str) -> str:
    """Every run of Unicode white space becomes one space; none at the ends."""
    return " ".join(text.split())


def _threshold(fraction: float) -> int:
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out fraction must be at least 0 and below 1, not {fraction}")
    return int(fraction * 2**64)


# ----------------------------------------------------------------------------------------------------
# Documents from JSON lines and from plain text, one document a line, plain or gzipped.


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
