"""Read the records of an XML file in one pass and constant memory, opening no file but the one named.

No entity is resolved, no DTD loaded and no connection made. A file that declares entities is refused.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lxml import etree

from compact_biomed.corpus.streams import read_blocks
from compact_biomed.errors import UserError

# libxml2's messages for a second document in one file.
_CONCATENATED = ("XML declaration allowed only at the start", "Extra content at the end")
_DOCTYPE_WITH_SUBSET = re.compile(
    rb"""<!DOCTYPE\s+[^\s\[>]+(?:\s+(?:PUBLIC\s*(?:"[^"]*"|'[^']*')|SYSTEM)\s*(?:"[^"]*"|'[^']*'))?\s*\["""
)
# libxml2's own limits on depth, name length and amplification apply (huge_tree=False).
_SAFE = {
    "resolve_entities": False,
    "load_dtd": False,
    "dtd_validation": False,
    "no_network": True,
    "huge_tree": False,
    "remove_comments": True,
    "remove_pis": True,
}


def read_records(path: Path | str, records: Mapping[str, Sequence[str]], name: str) -> Iterator[etree._Element]:
    """Yield the element of each record. It is valid only until the next one is requested, then emptied.

    Args:
        records: root element -> the elements directly below it that are read. Others are skipped.
        name: of the format, "PubMed XML", for messages.

    Raises:
        UserError: a damaged or truncated file, XML that is not well formed or has another root, or an entity or DTD
            declared in the file.
    """
    blocks = read_blocks(path)
    root, first = _check_prolog(path, blocks, records, name)
    parser = etree.XMLPullParser(events=("end",), tag=records[root], **_SAFE)
    try:
        for block in itertools.chain([first], blocks):
            _feed(path, parser, block, name)
            yield from _completed_records(path, parser, name)
        parser.close()
    except etree.XMLSyntaxError as error:
        raise _syntax_error(path, error, name) from None
    yield from _completed_records(path, parser, name)


def place(path: Path | str, element: etree._Element) -> str:
    """Return file and line of an element, for messages."""
    return f"{path}:{element.sourceline}"


def _feed(path: Path | str, parser: etree.XMLPullParser, block: bytes, name: str) -> None:
    """Let the parser read a block; raise a `UserError` for an undefined entity, which it would silently leave out."""
    parser.feed(block)
    for entry in parser.feed_error_log:
        if "UNDECLARED_ENTITY" in entry.type_name:
            raise UserError(
                f"undefined entity: {entry.message}",
                where=f"{path}:{entry.line}",
                remedy=f"write the character itself; {name} declares no entities",
            )


def _check_prolog(
    path: Path | str, blocks: Iterator[bytes], records: Mapping[str, Sequence[str]], name: str
) -> tuple[str, bytes]:
    """Read up to the root element with a separate parser; return its tag and the bytes read.

    Rejects any other root before a tree is built, and every DTD with declarations: each known
    attack on an XML reader begins with one.
    """
    probe = etree.XMLPullParser(events=("start",), **_SAFE)
    read = b""
    try:
        for block in blocks:
            read += block
            _check_beginning(path, read)
            _feed(path, probe, block, name)
            root = next((element for _, element in probe.read_events()), None)
            if root is not None:
                break
            if len(read) > 1 << 20:
                raise UserError("no XML element in the first MiB", where=path, remedy=f"pass {name}")
        else:
            probe.close()
            raise UserError("no XML element", where=path, remedy=f"pass {name}")
    except etree.XMLSyntaxError as error:
        raise _syntax_error(path, error, name) from None
    _check_doctype(path, root.getroottree())
    if root.tag not in records:
        expected = "> or <".join(records)
        raise UserError(
            f"the root element is <{root.tag}>", where=path, remedy=f"pass {name}, which begins with <{expected}>"
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
        remedy="remove the part of <!DOCTYPE between [ and ]; the original files have none",
    )


def _check_doctype(path: Path | str, tree: etree._ElementTree) -> None:
    """Raise a `UserError` for a DTD inside the file, or for an address that is not of a DTD on the web."""
    if "[" in etree.tostring(tree, encoding="unicode").partition(f"<{tree.getroot().tag}")[0]:
        raise _own_dtd(path)
    address = tree.docinfo.system_url or ""
    # NLM's own line gives the web address of its DTD, and BioC's the name of a file, which is never loaded. No other
    # kind of address is legitimate here.
    if address and not (address.endswith(".dtd") and re.match(r"https?://|[\w.-]+$", address)):
        raise UserError(
            f"refused: <!DOCTYPE points to {address!r}",
            where=path,
            remedy="remove that line, or restore the original one, which points to a .dtd file",
        )


def _completed_records(path: Path | str, parser: etree.XMLPullParser, name: str) -> Iterator[etree._Element]:
    """Yield the records that the last block completed, then delete them, so that memory stays constant."""
    root = None
    for _, record in parser.read_events():
        root = record.getparent()
        if root is None or root.getparent() is not None:
            raise UserError(
                f"<{record.tag}> is not directly below the root",
                where=place(path, record),
                remedy=f"download the file again; this is not valid {name}",
            )
        yield record
    if root is not None:
        del root[:-1]  # the last one may be incomplete


def _syntax_error(path: Path | str, error: etree.XMLSyntaxError, name: str) -> UserError:
    line, column = error.position
    message = error.msg or "not well formed"
    remedy = "download the file again, or correct that line"
    if message.startswith(_CONCATENATED):
        message = "the XML document ends before this place: several files were concatenated, or something was appended"
        remedy = "split it into one file per document"
    elif "ntity" in message:
        remedy = f"remove the entity: entities are refused, and {name} needs none"
    elif "ncoding" in message or "UTF-8" in message or "conversion" in message:
        remedy = "convert the file to the encoding that its first line names"
    return UserError(f"broken XML: {message}", where=f"{path}:{line}:{column}", remedy=remedy)
