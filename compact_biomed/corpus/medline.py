"""MEDLINE/PubMed XML to documents: one pass, constant memory, nothing loaded but the file itself.

Reads baseline and update files, plain or gzipped, with either record: `PubmedArticle`
(since 2005) or a bare `MedlineCitation` below the root (before).
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from compact_biomed.corpus.document import Deletion, Document, normalize
from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError

# Root element -> the records below it; what is not named here (books, say) is passed over.
RECORDS = {
    "PubmedArticleSet": ("PubmedArticle", "DeleteCitation"),
    "MedlineCitationSet": ("MedlineCitation", "DeleteCitation"),
}
_YEAR = re.compile(r"\d{4}")
# Entities stay unresolved, no DTD is loaded and no connection made; libxml2's own limits on depth,
# name length and amplification stay in force (huge_tree=False).
_SAFE = {
    "resolve_entities": False,
    "load_dtd": False,
    "dtd_validation": False,
    "no_network": True,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


class Section(NamedTuple):
    """A part of an abstract: its label as printed, NLM's category of it ("" for none), its text in one line."""

    label: str
    category: str
    text: str


def read_medline(path: Path | str) -> Iterator[Document | Deletion]:
    """Yield every citation and every deletion of one file, in file order.

    A citation without title or abstract is yielded too: what to keep is for the
    caller to say. Records of books (`PubmedBookArticle`) are passed over.

    Raises:
        UserError: a damaged or cut-off file, XML that is not well formed or not
            PubMed's, an entity or DTD of its own, a citation without PMID.
    """
    for record in _read_records(path):
        if record.tag == "DeleteCitation":
            for element in record.iterchildren("PMID"):
                yield Deletion(*_pmid(path, element))
        else:
            yield _document(path, record)


def read_sections(path: Path | str) -> Iterator[tuple[int, list[Section]]]:
    """Yield (PMID, sections) of every citation with an abstract, in file order.

    Raises:
        UserError: as `read_medline`.
    """
    for record in _read_records(path):
        if record.tag == "DeleteCitation":
            continue
        pmid, _, article = _identified(path, record)
        if sections := _sections(path, article):
            yield pmid, sections


def _read_records(path: Path | str) -> Iterator[etree._Element]:
    """Yield each record's element; it is whole until the next one is asked for, and empty afterwards."""
    blocks = read_blocks(path)
    root, first = _check_prolog(path, blocks)
    parser = etree.XMLPullParser(events=("end",), tag=RECORDS[root], **_SAFE)
    try:
        parser.feed(first)
        yield from _records(path, parser)
        for block in blocks:
            parser.feed(block)
            yield from _records(path, parser)
        parser.close()
    except etree.XMLSyntaxError as error:
        raise _syntax_error(path, error) from None
    yield from _records(path, parser)


def _check_prolog(path: Path | str, blocks: Iterator[bytes]) -> tuple[str, bytes]:
    """Read up to the root element with a parser of its own; return its tag and the bytes read.

    Refuses what is not PubMed XML before a tree of it is built, and every DTD that
    declares something: the first step of each known attack on an XML reader.
    """
    probe = etree.XMLPullParser(events=("start",), **_SAFE)
    read = b""
    try:
        for block in blocks:
            read += block
            probe.feed(block)
            root = next((element for _, element in probe.read_events()), None)
            if root is not None:
                break
            if len(read) > 1 << 20:
                raise UserError("no XML element in the first MiB", where=path, remedy="is this PubMed XML?")
        else:
            probe.close()
            raise UserError("no XML element", where=path, remedy="is this PubMed XML?")
    except etree.XMLSyntaxError as error:
        raise _syntax_error(path, error) from None
    _check_doctype(path, root.getroottree().docinfo)
    if root.tag not in RECORDS:
        expected = "> or <".join(RECORDS)
        raise UserError(f"the root element is <{root.tag}>", where=path, remedy=f"PubMed XML begins with <{expected}>")
    return root.tag, read


def _check_doctype(path: Path | str, docinfo) -> None:
    dtd = docinfo.internalDTD
    if dtd is None:
        return
    address = docinfo.system_url or ""
    if any(True for _ in dtd.iterentities()) or any(True for _ in dtd.iterelements()):
        raise UserError(
            "refused: the file declares entities or a DTD of its own (they can read files or fill the memory)",
            where=path,
            remedy="NLM's files have none; remove what stands between [ and ] of <!DOCTYPE",
        )
    # The line that NLM prints names its DTD on the web. It is never loaded; any other kind of
    # address has no business here.
    if address and not (address.endswith(".dtd") and re.match(r"https?://|[\w.-]+$", address)):
        raise UserError(
            f"refused: <!DOCTYPE points to {address!r}",
            where=path,
            remedy="only the line with NLM's .dtd is accepted; remove it or restore it",
        )


def _records(path: Path | str, parser: etree.XMLPullParser) -> Iterator[etree._Element]:
    """Yield the records that the last block completed, then forget them: memory stays constant."""
    root = None
    for _, record in parser.read_events():
        root = record.getparent()
        if root is None or root.getparent() is not None:
            raise UserError(f"<{record.tag}> out of place", where=_place(path, record), remedy="is this PubMed XML?")
        yield record
    if root is not None:
        del root[:-1]  # all but the last, which may be half read


def _document(path: Path | str, record: etree._Element) -> Document:
    pmid, version, article = _identified(path, record)
    title = _child(article, "ArticleTitle")
    return Document(
        title="" if title is None else _flat(path, title),
        abstract=_abstract(path, article),
        pmid=pmid,
        version=version,
        year=_year(article),
    )


def _identified(path: Path | str, record: etree._Element) -> tuple[int, int, etree._Element | None]:
    """PMID, its version, and the article of a citation."""
    citation = record if record.tag == "MedlineCitation" else _child(record, "MedlineCitation")
    identifier = _child(citation, "PMID")
    if identifier is None:
        raise UserError("a citation without PMID", where=_place(path, record), remedy="is this PubMed XML?")
    return *_pmid(path, identifier), _child(citation, "Article")


def _child(element: etree._Element | None, tag: str) -> etree._Element | None:
    """The first child of that name; several times as fast as `find`, which reads a path."""
    return None if element is None else next(element.iterchildren(tag), None)


def _pmid(path: Path | str, element: etree._Element) -> tuple[int, int]:
    number, version = (element.text or "").strip(), element.get("Version", "1").strip()
    if not (number.isascii() and number.isdigit() and len(number) < 19 and version.isascii() and version.isdigit()):
        raise UserError(
            f"not a PMID: {number[:20]!r}, version {version[:20]!r}",
            where=_place(path, element),
            remedy="correct or remove the record",
        )
    return int(number), min(int(version), 2**31 - 1)


def _abstract(path: Path | str, article: etree._Element | None) -> str:
    """All sections in one line, each after its label: "METHODS: ... RESULTS: ..."."""
    sections = _sections(path, article)
    return " ".join(f"{section.label}: {section.text}" if section.label else section.text for section in sections)


def _sections(path: Path | str, article: etree._Element | None) -> list[Section]:
    """The sections that have any text.

    Only `AbstractText` counts: `CopyrightInformation` stands beside it, and
    `OtherAbstract` (plain-language or translated) elsewhere in the citation.
    """
    abstract = _child(article, "Abstract")
    if abstract is None:
        return []
    return [
        Section(normalize(element.get("Label", "")), element.get("NlmCategory", ""), text)
        for element in abstract.iterchildren("AbstractText")
        if (text := _flat(path, element))
    ]


def _flat(path: Path | str, element: etree._Element) -> str:
    """The text of an element without its markup (italics, indices, MathML), in one line."""
    if len(element) == 0:
        return normalize(element.text or "")
    for child in element.iter(etree.Entity):
        # Without its definition a piece of the text would be lost without a word.
        raise UserError(
            f"undefined entity {child.text}",
            where=_place(path, element),
            remedy="write the character itself; PubMed XML has no entities of its own",
        )
    return normalize("".join(element.itertext()))


def _year(article: etree._Element | None) -> int | None:
    """Year of the issue; a free-form date ("1976 Jan-Feb", "Winter 1998") gives its first four digits."""
    date = _child(_child(_child(article, "Journal"), "JournalIssue"), "PubDate")
    for tag in ("Year", "MedlineDate"):
        element = _child(date, tag)
        if element is not None and (found := _YEAR.search(element.text or "")):
            return int(found.group())
    return None


def _place(path: Path | str, element: etree._Element) -> str:
    return f"{path}, line {element.sourceline}"


def _syntax_error(path: Path | str, error: etree.XMLSyntaxError) -> UserError:
    line, column = error.position
    message = error.msg or "not well formed"
    remedy = "download the file again or mend that line"
    if "ntity" in message:
        remedy = "entities are refused: PubMed XML needs none"
    elif "ncoding" in message or "UTF-8" in message or "conversion" in message:
        remedy = "convert the file to the encoding that its first line names"
    return UserError(f"broken XML: {message}", where=f"{path}, line {line}, column {column}", remedy=remedy)
