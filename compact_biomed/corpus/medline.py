"""Read documents from MEDLINE/PubMed XML in one pass and constant memory.

Baseline and update files are accepted, plain or gzipped, with either kind of record: `PubmedArticle`
(since 2005) or a bare `MedlineCitation` below the root (before).
"""

import html.entities
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from compact_biomed.corpus.document import Deletion, Document, normalize
from compact_biomed.corpus.safe_xml import place, read_records
from compact_biomed.errors import UserError

# Root element -> the records below it that are read. Others, such as books, are skipped.
RECORDS = {
    "PubmedArticleSet": ("PubmedArticle", "DeleteCitation"),
    "MedlineCitationSet": ("MedlineCitation", "DeleteCitation"),
}
_YEAR = re.compile(r"\d{4}")
# What MEDLINE prints as the title of an article whose title has not been translated.
NO_TITLE = re.compile(r"\[?not available\]?\.?", re.IGNORECASE)
# Publishers escape references and markup once more than they should; what they meant is in the text then.
_REFERENCE = re.compile(r"&(?:#\d+|#[xX][0-9a-fA-F]+|[a-zA-Z][a-zA-Z0-9]*);")
_ATTRIBUTES = r"""(?:\s+[\w:.-]+\s*=\s*(?:"[^"]*"|'[^']*'))*\s*/?>"""
_INLINE = re.compile(
    r"</?(?:\w+:)?(?:i|b|u|em|strong|sub|sup|inf|small|tt|span|font|italic|bold|underline|(?<=:)p)" + _ATTRIBUTES
)
_BLOCK = re.compile(r"</?(?:p|br|div|ul|ol|li|h[1-6]|title|sec)" + _ATTRIBUTES)
_DOWNLOAD_AGAIN = "download the file again; this is not valid PubMed XML"


class Section(NamedTuple):
    """A part of an abstract: its label as printed, NLM's category for it ("" if none), and its text on one line."""

    label: str
    category: str
    text: str


class IndexTerms(NamedTuple):
    """What NLM's indexers say about a citation, and its abstract ("" if none).

    `headings` are terms of MeSH with their subheadings, `chemicals` the names of its substances.
    """

    pmid: int
    abstract: str
    headings: list[tuple[str, frozenset[str]]]
    chemicals: list[str]


def read_medline(path: Path | str) -> Iterator[Document | Deletion]:
    """Yield every citation and every deletion of one file, in file order.

    Citations without title or abstract are included: the caller decides what to keep. Records of books
    (`PubmedBookArticle`) are skipped.

    Raises:
        UserError: a damaged or truncated file, XML that is not well formed or not PubMed's, an entity or
            DTD declared in the file, or a citation without PMID.
    """
    for record in read_records(path, RECORDS, "PubMed XML"):
        if record.tag == "DeleteCitation":
            for element in record.iterchildren("PMID"):
                yield Deletion(*_pmid(path, element))
        else:
            yield _document(path, record)


def read_sections(path: Path | str) -> Iterator[tuple[int, list[Section]]]:
    """Yield (PMID, sections) of every citation that has an abstract, in file order.

    Raises:
        UserError: as in `read_medline`.
    """
    for record in read_records(path, RECORDS, "PubMed XML"):
        if record.tag == "DeleteCitation":
            continue
        pmid, _, article = _identify(path, record)
        if sections := _sections(article):
            yield pmid, sections


def read_index_terms(path: Path | str) -> Iterator[IndexTerms]:
    """Yield the index terms of every citation that has any, in file order.

    Raises:
        UserError: as in `read_medline`.
    """
    for record in read_records(path, RECORDS, "PubMed XML"):
        if record.tag == "DeleteCitation":
            continue
        citation = record if record.tag == "MedlineCitation" else _child(record, "MedlineCitation")
        headings = [
            (name, frozenset(_texts(heading, "QualifierName")))
            for heading in _children(_child(citation, "MeshHeadingList"), "MeshHeading")
            for name in _texts(heading, "DescriptorName")
        ]
        chemicals = [
            name
            for chemical in _children(_child(citation, "ChemicalList"), "Chemical")
            for name in _texts(chemical, "NameOfSubstance")
        ]
        if headings or chemicals:
            pmid, _, article = _identify(path, record)
            yield IndexTerms(pmid, _abstract(article), headings, chemicals)


def _document(path: Path | str, record: etree._Element) -> Document:
    pmid, version, article = _identify(path, record)
    return Document(
        title=_title(article),
        abstract=_abstract(article),
        pmid=pmid,
        version=version,
        year=_year(article),
    )


def _identify(path: Path | str, record: etree._Element) -> tuple[int, int, etree._Element | None]:
    """Return the PMID of a citation, its version, and its article."""
    citation = record if record.tag == "MedlineCitation" else _child(record, "MedlineCitation")
    identifier = _child(citation, "PMID")
    if identifier is None:
        raise UserError("a citation without PMID", where=place(path, record), remedy=_DOWNLOAD_AGAIN)
    return *_pmid(path, identifier), _child(citation, "Article")


def _child(element: etree._Element | None, tag: str) -> etree._Element | None:
    """Return the first child with that tag; several times as fast as `find`, which parses a path."""
    return None if element is None else next(element.iterchildren(tag), None)


def _children(element: etree._Element | None, tag: str) -> Iterator[etree._Element]:
    return iter(()) if element is None else element.iterchildren(tag)


def _texts(element: etree._Element, tag: str) -> list[str]:
    """Return the texts of the children with that tag that have any."""
    return [text for child in element.iterchildren(tag) if (text := _plain_text(child))]


def _pmid(path: Path | str, element: etree._Element) -> tuple[int, int]:
    number, version = (element.text or "").strip(), element.get("Version", "1").strip()
    if not (_is_number(number) and len(number) < 19 and _is_number(version) and len(version) < 1000):
        raise UserError(
            f"not a PMID: {number[:20]!r}, version {version[:20]!r}",
            where=place(path, element),
            remedy="correct or remove the record",
        )
    return int(number), min(int(version), 2**31 - 1)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _title(article: etree._Element | None) -> str:
    """Return the title; of an article whose title is not available in English, the one in its own language."""
    title = _plain_text(_child(article, "ArticleTitle"))
    return _plain_text(_child(article, "VernacularTitle")) if NO_TITLE.fullmatch(title) else title


def _abstract(article: etree._Element | None) -> str:
    """Join all sections, each after its label: "METHODS: ... RESULTS: ..."."""
    sections = _sections(article)
    return " ".join(f"{section.label}: {section.text}" if section.label else section.text for section in sections)


def _sections(article: etree._Element | None) -> list[Section]:
    """Return the sections that have any text.

    Only `AbstractText` counts. `CopyrightInformation` is a sibling of it; `OtherAbstract`, a
    plain-language or translated version, is elsewhere in the citation.
    """
    abstract = _child(article, "Abstract")
    if abstract is None:
        return []
    return [
        Section(unescaped(element.get("Label", "")).rstrip(" :"), element.get("NlmCategory", ""), text)
        for element in abstract.iterchildren("AbstractText")
        if (text := _plain_text(element))
    ]


def _plain_text(element: etree._Element | None) -> str:
    """Return the text of an element on one line, without its markup (italics, indices, MathML)."""
    if element is None:
        return ""
    return unescaped((element.text or "") if len(element) == 0 else "".join(element.itertext()))


def unescaped(text: str) -> str:
    """Return a text on one line, without references and markup that were escaped once too often."""
    if "&" in text:
        for _ in range(3):  # so often at most
            text = _REFERENCE.sub(_character, text)
    if "<" in text:
        text = _INLINE.sub("", _BLOCK.sub(" ", text))
    return normalize(text)


def _character(reference: re.Match) -> str:
    """Return the character that a reference stands for; the reference itself if its name is unknown."""
    name = reference.group()
    return html.unescape(name) if name.startswith("&#") else html.entities.html5.get(name[1:], name)


def _year(article: etree._Element | None) -> int | None:
    """Return the year of the issue; of a free-form date ("1976 Jan-Feb", "Winter 1998"), its first four digits."""
    date = _child(_child(_child(article, "Journal"), "JournalIssue"), "PubDate")
    for tag in ("Year", "MedlineDate"):
        element = _child(date, tag)
        if element is not None and (year := _YEAR.search(element.text or "")):
            return int(year.group())
    return None
