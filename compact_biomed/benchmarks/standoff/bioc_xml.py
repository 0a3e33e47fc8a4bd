"""BioC as XML, read into the dictionaries of BioC JSON and written from them."""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

from lxml import etree

from compact_biomed.benchmarks.standoff import bioc
from compact_biomed.benchmarks.standoff.convert import as_text
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, count
from compact_biomed.corpus.safe_xml import place, read_records

RECORDS = {"collection": ("document",)}
NAME = "BioC XML"
# Characters that XML cannot hold; each is written as one other character, so that offsets stay.
_REPLACED = "\ufffd"
_FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
_RETURN = {"\r": "&#13;"}
_BEGIN = '<?xml version="1.0" encoding="UTF-8"?>\n<!DOCTYPE collection SYSTEM "BioC.dtd">\n<collection>'


# ---- in


def read(path: Path, repairs: dict[str, int]) -> Iterator[AnnotatedDocument]:
    """Yield the documents of a file, in memory for one at a time.

    Raises:
        UserError: not BioC, broken XML, an entity or DTD declared in the file, or (with file and line) a mention that
            is not in the text.
    """
    header: dict[str, Any] | None = None
    for element in read_records(path, RECORDS, NAME):
        if header is None:
            header = {tag: _text(element.getparent(), tag) for tag in bioc.HEADER}
            header["infons"] = _infons(element.getparent())
        yield bioc.to_document(_document(path, element), header, place(path, element))


def _document(path: Path, element: etree._Element) -> dict[str, Any]:
    passages = [_unit(path, each) for each in element.iterchildren("passage")]
    return {**_optional(element, "id"), "infons": _infons(element), "passages": passages, **_levels(path, element)}


def _unit(path: Path, element: etree._Element) -> dict[str, Any]:
    return {
        bioc.WHERE: place(path, element),
        **_optional(element, "offset", "text"),
        "infons": _infons(element),
        "sentences": [_unit(path, each) for each in element.iterchildren("sentence")],
        **_levels(path, element),
    }


def _levels(path: Path, element: etree._Element) -> dict[str, list]:
    annotations = [
        {
            bioc.WHERE: place(path, each),
            "id": each.get("id", ""),
            "infons": _infons(each),
            **_optional(each, "text"),
            "locations": [dict(location.attrib) for location in each.iterchildren("location")],
        }
        for each in element.iterchildren("annotation")
    ]
    relations = [
        {
            bioc.WHERE: place(path, each),
            "id": each.get("id", ""),
            "infons": _infons(each),
            "nodes": [dict(node.attrib) for node in each.iterchildren("node")],
        }
        for each in element.iterchildren("relation")
    ]
    return {"annotations": annotations, "relations": relations}


def _infons(element: etree._Element) -> dict[str, str]:
    return {each.get("key", ""): each.text or "" for each in element.iterchildren("infon")}


def _text(element: etree._Element, tag: str) -> str:
    child = next(element.iterchildren(tag), None)
    return "" if child is None else "".join(child.itertext())


def _optional(element: etree._Element, *tags: str) -> dict[str, str]:
    return {tag: _text(element, tag) for tag in tags if next(element.iterchildren(tag), None) is not None}


# ---- out


def lines(documents: Iterable[AnnotatedDocument], left_out: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a file, in memory for one document at a time.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
    """
    begun = False
    for document in documents:
        if not begun:
            yield _BEGIN
            yield from _header(document.collection, left_out)
            begun = True
        yield from _document_lines(bioc.from_document(document, left_out), left_out)
    if not begun:
        yield _BEGIN
        yield from _header({}, left_out)
    yield "</collection>"


def _header(collection: Mapping[str, Any], left_out: dict[str, int]) -> Iterator[str]:
    for tag in bioc.HEADER:
        yield _element(tag, collection.get(tag, ""), left_out)
    yield from _infon_lines(collection, left_out)
    count(left_out, "keys that BioC's XML lacks, left out", len(collection.keys() - {*bioc.HEADER, "infons"}))


def _document_lines(content: Mapping[str, Any], left_out: dict[str, int]) -> Iterator[str]:
    yield "<document>"
    yield _element("id", content["id"], left_out)
    yield from _infon_lines(content, left_out)
    for passage in content["passages"]:
        yield from _unit_lines("passage", passage, left_out)
    yield from _level_lines(content, left_out)
    yield "</document>"
    count(left_out, "keys that BioC's XML lacks, left out", len(content.keys() - bioc.DOCUMENT_KEYS))


def _unit_lines(tag: str, content: Mapping[str, Any], left_out: dict[str, int]) -> Iterator[str]:
    yield f"<{tag}>"
    yield from _infon_lines(content, left_out)
    yield _element("offset", content["offset"], left_out)
    if "text" in content:
        yield _element("text", content["text"], left_out)
    for sentence in content["sentences"]:
        yield from _unit_lines("sentence", sentence, left_out)
    yield from _level_lines(content, left_out)
    yield f"</{tag}>"
    count(left_out, "keys that BioC's XML lacks, left out", len(content.keys() - bioc.UNIT_KEYS))


def _level_lines(content: Mapping[str, Any], left_out: dict[str, int]) -> Iterator[str]:
    for each in content["annotations"]:
        yield f"<annotation id={_quoted(each['id'])}>"
        yield from _infon_lines(each, left_out)
        for location in each["locations"]:
            yield f'<location offset="{location["offset"]}" length="{location["length"]}"/>'
        yield _element("text", each["text"], left_out)
        yield "</annotation>"
    for each in content["relations"]:
        yield f"<relation id={_quoted(each['id'])}>"
        yield from _infon_lines(each, left_out)
        for node in each["nodes"]:
            yield f"<node refid={_quoted(node['refid'])} role={_quoted(node['role'])}/>"
        yield "</relation>"
    for each in (*content["annotations"], *content["relations"]):
        count(left_out, "keys that BioC's XML lacks, left out", len(each.keys() - bioc.ANNOTATION_KEYS))


def _infon_lines(content: Mapping[str, Any], left_out: dict[str, int]) -> Iterator[str]:
    for key, value in (content.get("infons") or {}).items():
        yield f"<infon key={_quoted(key)}>{_escaped(as_text(value), left_out)}</infon>"


def _element(tag: str, value: object, left_out: dict[str, int]) -> str:
    return f"<{tag}>{_escaped(str(value), left_out)}</{tag}>"


def _escaped(text: str, left_out: dict[str, int]) -> str:
    text, number = _FORBIDDEN.subn(_REPLACED, text)
    count(left_out, "characters that XML lacks, written as U+FFFD", number)
    return escape(text, _RETURN)


def _quoted(text: str) -> str:
    return quoteattr(_FORBIDDEN.sub(_REPLACED, text), {**_RETURN, "\n": "&#10;", "\t": "&#9;"})
