"""Read documents from MEDLINE/PubMed XML in one pass and constant memory, opening no file but the one named.

Baseline and update files are accepted, plain or gzipped, with either kind of record: `PubmedArticle`
(since 2005) or a bare `MedlineCitation` below the root (before).
"""

import html.entities
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from lxml import etree

from compact_biomed.corpus.document import Deletion, Document, normalize
from compact_biomed.corpus.streams import read_blocks
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
# libxml2's messages for a second document in one file.
_CONCATENATED = ("XML declaration allowed only at the start", "Extra content at the end")
_DOCTYPE_WITH_SUBSET = re.compile(
    rb"""<!DOCTYPE\s+[^\s\[>]+(?:\s+(?:PUBLIC\s*(?:"[^"]*"|'[^']*')|SYSTEM)\s*(?:"[^"]*"|'[^']*'))?\s*\["""
)
_DOWNLOAD_AGAIN = "download the file again; this is not valid PubMed XML"
# No entity is resolved, no DTD loaded and no connection made. libxml2's own limits on depth, name length
# and amplification apply (huge_tree=False).
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
    """A part of an abstract: its label as printed, NLM's category for it ("" if none), and its text on one line."""

    label: str
    category: str
    text: str


def read_medline(path: Path | str) -> Iterator[Document | Deletion]:
    """Yield every citation and every deletion of one file, in file order.

    Citations without title or abstract are included: the caller decides what to keep. Records of books
    (`PubmedBookArticle`) are skipped.

    Raises:
        UserError: a damaged or truncated file, XML that is not well formed or not PubMed's, an entity or
            DTD declared in the file, or a citation without PMID.
    """
    for record in _read_records(path):
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
    for record in _read_records(path):
        if record.tag == "DeleteCitation":
            continue
        pmid, _, article = _identify(path, record)
        if sections := _sections(article):
            yield pmid, sections


def _read_records(path: Path | str) -> Iterator[etree._Element]:
    """Yield the element of each record. It is valid only until the next one is requested, then emptied."""
    blocks = read_blocks(path)
    root, first = _check_prolog(path, blocks)
    parser = etree.XMLPullParser(events=("end",), tag=RECORDS[root], **_SAFE)
    try:
        for block in itertools.chain([first], blocks):
            _feed(path, parser, block)
            yield from _completed_records(path, parser)
        parser.close()
    except etree.XMLSyntaxError as error:
        raise _syntax_error(path, error) from None
    yield from _completed_records(path, parser)


def _feed(path: Path | str, parser: etree.XMLPullParser, block: bytes) -> None:
    """Let the parser read a block; raise a `UserError` for an undefined entity, which it would silently leave out."""
    parser.feed(block)
    for entry in parser.feed_error_log:
        if "UNDECLARED_ENTITY" in entry.type_name:
            raise UserError(
                f"undefined entity: {entry.message}",
                where=f"{path}:{entry.line}",
                remedy="write the character itself; PubMed XML declares no entities",
            )


def _check_prolog(path: Path | str, blocks: Iterator[bytes]) -> tuple[str, bytes]:
    """Read up to the root element with a separate parser; return its tag and the bytes read.

    Rejects anything but PubMed XML before a tree is built, and every DTD with declarations: each known
    attack on an XML reader begins with one.
    """
    probe = etree.XMLPullParser(events=("start",), **_SAFE)
    read = b""
    try:
        for block in blocks:
            read += block
            _check_beginning(path, read)
            _feed(path, probe, block)
            root = next((element for _, element in probe.read_events()), None)
            if root is not None:
                break
            if len(read) > 1 << 20:
                raise UserError("no XML element in the first MiB", where=path, remedy="pass a PubMed XML file")
        else:
            probe.close()
            raise UserError("no XML element", where=path, remedy="pass a PubMed XML file")
    except etree.XMLSyntaxError as error:
        raise _syntax_error(path, error) from None
    _check_doctype(path, root.getroottree())
    if root.tag not in RECORDS:
        expected = "> or <".join(RECORDS)
        raise UserError(
            f"the root element is <{root.tag}>", where=path, remedy=f"pass PubMed XML, which begins with <{expected}>"
        )
    return root.tag, read


def _check_beginning(path: Path | str, read: bytes) -> None:
    """Raise a `UserError` for what the parser would report less clearly, or drop: it forgets an empty DTD.

    Args:
        read: the beginning of the file. Zeros are left out of it: UTF-16 has one beside each letter.
    """
    read = read.replace(b"\0", b"")
    if re.match(rb"\s+<\?xml\s", read):
        raise UserError("blank lines before <?xml", where=f"{path}:1", remedy="remove them")
    if _DOCTYPE_WITH_SUBSET.search(re.split(rb"<[A-Za-z_]", read, maxsplit=1)[0]):
        raise _own_dtd(path)


def _own_dtd(path: Path | str) -> UserError:
    return UserError(
        "refused: the file has a DTD of its own, which can read other files, fill the memory or change values",
        where=path,
        remedy="remove the part of <!DOCTYPE between [ and ]; NLM's files have none",
    )


def _check_doctype(path: Path | str, tree: etree._ElementTree) -> None:
    """Raise a `UserError` for a DTD inside the file, or for an address that is not of a DTD on the web."""
    if "[" in etree.tostring(tree, encoding="unicode").partition(f"<{tree.getroot().tag}")[0]:
        raise _own_dtd(path)
    address = tree.docinfo.system_url or ""
    # NLM's own line gives the web address of its DTD, which is never loaded. No other kind of address is
    # legitimate here.
    if address and not (address.endswith(".dtd") and re.match(r"https?://|[\w.-]+$", address)):
        raise UserError(
            f"refused: <!DOCTYPE points to {address!r}",
            where=path,
            remedy="remove that line, or restore NLM's, which points to a .dtd file",
        )


def _completed_records(path: Path | str, parser: etree.XMLPullParser) -> Iterator[etree._Element]:
    """Yield the records that the last block completed, then delete them, so that memory stays constant."""
    root = None
    for _, record in parser.read_events():
        root = record.getparent()
        if root is None or root.getparent() is not None:
            raise UserError(
                f"<{record.tag}> is not directly below the root", where=_where(path, record), remedy=_DOWNLOAD_AGAIN
            )
        yield record
    if root is not None:
        del root[:-1]  # the last one may be incomplete


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
        raise UserError("a citation without PMID", where=_where(path, record), remedy=_DOWNLOAD_AGAIN)
    return *_pmid(path, identifier), _child(citation, "Article")


def _child(element: etree._Element | None, tag: str) -> etree._Element | None:
    """Return the first child with that tag; several times as fast as `find`, which parses a path."""
    return None if element is None else next(element.iterchildren(tag), None)


def _pmid(path: Path | str, element: etree._Element) -> tuple[int, int]:
    number, version = (element.text or "").strip(), element.get("Version", "1").strip()
    if not (_is_number(number) and len(number) < 19 and _is_number(version) and len(version) < 1000):
        raise UserError(
            f"not a PMID: {number[:20]!r}, version {version[:20]!r}",
            where=_where(path, element),
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


def _where(path: Path | str, element: etree._Element) -> str:
    return f"{path}:{element.sourceline}"


def _syntax_error(path: Path | str, error: etree.XMLSyntaxError) -> UserError:
    line, column = error.position
    message = error.msg or "not well formed"
    remedy = "download the file again, or correct that line"
    if message.startswith(_CONCATENATED):
        message = "the XML document ends before this place: several files were concatenated, or something was appended"
        remedy = "split it into one file per document"
    elif "ntity" in message:
        remedy = "remove the entity: entities are refused, and PubMed XML needs none"
    elif "ncoding" in message or "UTF-8" in message or "conversion" in message:
        remedy = "convert the file to the encoding that its first line names"
    return UserError(f"broken XML: {message}", where=f"{path}:{line}:{column}", remedy=remedy)
