"""A document: its text, the key that identifies it, its side of the split, and readers for JSON lines and text."""

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
    """A citation, or a text that is not from PubMed.

    Args:
        title: article title as printed, white space normalized; "" for plain text.
        abstract: abstract with its section labels, or the whole of a plain text; "" if there is none.
        pmid: PubMed identifier, None for text from elsewhere.
        version: PMID version (journals that revise publish 1, 2, ...); 0 without a PMID.
        year: year of publication, None if the source does not say.
    """

    title: str
    abstract: str
    pmid: int | None = None
    version: int = 0
    year: int | None = None

    @property
    def text(self) -> str:
        """The text that a model reads."""
        return document_text(self.title, self.abstract)

    @cached_property
    def key(self) -> int:
        """Unsigned 64-bit identifier, shared by all versions of a citation and by equal texts without PMID."""
        return document_key(self.pmid, self.text)


@dataclass(frozen=True)
class Deletion:
    """An update file's instruction to delete one version of a citation."""

    pmid: int
    version: int = 1

    @property
    def key(self) -> int:
        """The key of the citation."""
        return document_key(self.pmid, "")


def document_text(title: str, abstract: str) -> str:
    """Join the title without square brackets and the abstract by a space: the text of arXiv 2209.03182.

    MEDLINE prints the translated title of an article that is not in English in brackets.
    """
    title = normalize(title.translate(_NO_BRACKETS))
    return f"{title} {abstract}" if title and abstract else title or abstract


def document_key(pmid: int | None, text: str) -> int:
    """Return the first 8 bytes (big-endian) of sha256("pmid:<pmid>"), or of sha256("text:<text>") without a PMID.

    The key is a hash rather than the PMID itself because PMIDs grow with time: holding out a range of
    them would hold out a decade, not a sample.
    """
    name = f"text:{text}" if pmid is None else f"pmid:{pmid}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def is_heldout(key: int, fraction: float) -> bool:
    """Return whether a document is held out: the same answer on every machine and in every corpus.

    Raising the fraction only adds documents to the held-out side.
    """
    return key < _threshold(fraction)


def heldout_mask(keys: np.ndarray, fraction: float) -> np.ndarray:
    """Apply `is_heldout` to a uint64 array (n,); return a boolean array (n,)."""
    return keys < np.uint64(_threshold(fraction))


def _threshold(fraction: float) -> int:
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out fraction must be at least 0 and below 1, not {fraction}")
    return int(fraction * 2**64)


def normalize(text: str) -> str:
    """Replace every run of Unicode white space by one space, and strip both ends."""
    return " ".join(text.split())


def read_jsonl(path: Path | str) -> Iterator[Document]:
    """Yield a document for every line of the file, plain or gzipped: a JSON object each, blank lines skipped.

    Fields: `title` and `abstract`, or `text`; optionally `pmid`, `version`, `year`. All other fields are
    ignored, `id` included: identifiers of other collections are not PMIDs.

    Raises:
        UserError: a line that is not a JSON object, or a field of the wrong type.
    """
    for number, line in read_lines(path, cr_ends=False):
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            column = f":{error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise UserError(
                f"not JSON: {getattr(error, 'msg', error)}",
                where=f"{path}:{number}{column}",
                remedy="write one JSON object per line",
            ) from None
        yield parse_document(fields, f"{path}:{number}")


def read_text(path: Path | str) -> Iterator[Document]:
    """Yield a document, without title and PMID, for every line of the file that is not blank."""
    for _, line in read_lines(path, cr_ends=False):
        if text := normalize(line):
            yield Document(title="", abstract=text)


def parse_document(fields: Any, where: str) -> Document:
    """Return the document in a decoded JSON object; `where` names its place in errors."""
    if not isinstance(fields, dict):
        raise UserError("not a JSON object", where=where, remedy='write {"title": ..., "abstract": ...}')
    if not fields.keys() & {"title", "abstract", "text"}:
        raise UserError(
            f"no field title, abstract or text among {sorted(map(str, fields))[:8]}",
            where=where,
            remedy="rename the field that holds the text",
        )
    title, abstract = _string(fields, "title", where), _string(fields, "abstract", where)
    if "text" in fields:
        if abstract:
            raise UserError("both text and abstract", where=where, remedy="keep one of them")
        abstract = _string(fields, "text", where)
    pmid = _number(fields, "pmid", where)
    version = _number(fields, "version", where)
    return Document(
        title=title,
        abstract=abstract,
        pmid=pmid,
        version=0 if pmid is None else 1 if version is None else min(version, 2**31 - 1),
        year=_number(fields, "year", where, largest=9999),
    )


def _string(fields: dict, name: str, where: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise UserError(f"{name} is {type(value).__name__}, not a string", where=where, remedy="write it as a string")
    # Half of a surrogate pair ("\ud83d" alone) is legal in JSON and not in text.
    return normalize(value.encode("utf-8", "replace").decode("utf-8"))


def _number(fields: dict, name: str, where: str, largest: int = 2**63 - 1) -> int | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    text = str(value).strip()
    if isinstance(value, bool) or not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= largest):
        raise UserError(
            f"{name} is {text[:20]!r}, not a whole number up to {largest}",
            where=where,
            remedy=f"correct or remove {name}",
        )
    return int(text)
