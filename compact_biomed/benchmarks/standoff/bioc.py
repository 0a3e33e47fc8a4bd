"""BioC: documents of passages, perhaps of sentences, annotated at each level. BioC JSON, and what XML has in common.

Both say the same, so the reader of XML makes JSON's dictionaries, and its writer is given them:

    {"documents": [{"id": ..., "infons": {}, "passages": [{"offset": 0, "infons": {}, "text": ..., "sentences": [],
        "annotations": [{"id": ..., "infons": {"type": ...}, "text": ..., "locations": [{"offset": 0, "length": 5}]}],
        "relations": [{"id": ..., "infons": {"type": ...}, "nodes": [{"refid": ..., "role": ...}]}]}]}]}
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.standoff.convert import TYPE, infons_of
from compact_biomed.benchmarks.standoff.documents import (
    AnnotatedDocument,
    Annotation,
    Attribute,
    Concept,
    Mention,
    Note,
    Passage,
    Relation,
    check_fragments,
    count,
)
from compact_biomed.benchmarks.standoff.objects import read_objects
from compact_biomed.errors import UserError

WHERE = "_where"  # the key of the place in the file, which XML has
HEADER = ("source", "date", "key")
_WIDEST_GAP = 1 << 24  # characters between passages
_LISTS = ("documents", "PubTator3")  # keys of a collection
_LEVELS = ("annotations", "relations")
# What BioC defines for each level; further keys are kept as they are.
UNIT_KEYS = {"offset", "infons", "text", "sentences", *_LEVELS, WHERE}
DOCUMENT_KEYS = {"id", "infons", "passages", *_LEVELS, WHERE}
ANNOTATION_KEYS = {"id", "infons", "text", "locations", "nodes", WHERE}
_REMEDY = "see bioc.sourceforge.net for the format"


# ---- in: dictionaries -> documents


def read(path: Path, repairs: dict[str, int]) -> Iterator[AnnotatedDocument]:
    """Yield the documents of a file of BioC JSON: a collection, or documents in a list or one per line.

    Raises:
        UserError: not JSON, not BioC (with the place in the file), or a mention that is not in the text.
    """
    for where, content in read_objects(path):
        if isinstance(content, dict) and "passages" in content:
            yield to_document(content, {}, where)
            continue
        key = next((key for key in _LISTS if isinstance(content, dict) and isinstance(content.get(key), list)), None)
        if key is None:
            raise UserError("no documents, which hold passages", where=where, remedy=_REMEDY)
        header = {other: value for other, value in content.items() if other != key}
        for number, document in enumerate(content[key]):
            yield to_document(document, header, f"{where}: {key}[{number}]")


def to_document(content: Mapping[str, Any], header: Mapping[str, Any], where: str) -> AnnotatedDocument:
    """Return the document that a dictionary describes.

    Args:
        header: of the collection.
        where: of the document, for messages.

    Raises:
        UserError: a key or value is missing or of another type, passages overlap, or a mention is not in the text.
    """
    reader = _Reader(where)
    try:
        return reader.document(content, header)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"no {error}" if isinstance(error, KeyError) else str(error)
        raise UserError(f"not BioC: {what}", where=reader.where, remedy=_REMEDY) from None


class _Reader:
    """Reads one document. `where` is the place of what is being read."""

    def __init__(self, where: str):
        self.where = self._document = where
        self._parts: list[str] = []
        self._length = self._units = 0
        self._found: list[tuple[int, str, str, Mapping[str, Any]]] = []  # unit, level, place, annotation

    def document(self, content: Mapping[str, Any], header: Mapping[str, Any]) -> AnnotatedDocument:
        passages = [self._unit(each, f"passages[{n}]") for n, each in enumerate(content.get("passages") or [])]
        self._collect(content, -1, "")
        text = "".join(self._parts)
        return AnnotatedDocument(
            str(content["id"]),
            text,
            tuple(self._annotation(text, *found) for found in self._found),
            tuple(passages),
            infons=_infons(content),
            extra=_further(content, DOCUMENT_KEYS),
            collection={**header, "infons": _infons(header)},
            where=self._document,
        )

    def _unit(self, content: Mapping[str, Any], place: str) -> Passage:
        self.where = content.get(WHERE) or f"{self._document}.{place}"
        number, self._units = self._units, self._units + 1
        start, text = int(content["offset"]), content.get("text") or ""
        if text:
            self._append(start, text)
        parts = enumerate(content.get("sentences") or [])
        sentences = tuple(self._unit(each, f"{place}.sentences[{n}]") for n, each in parts)
        self._collect(content, number, f"{place}.")
        end = max([start + len(text), *(each.end for each in sentences)])
        return Passage(start, end, _infons(content), sentences, _further(content, UNIT_KEYS))

    def _append(self, start: int, text: str) -> None:
        if not 0 <= start - self._length <= _WIDEST_GAP:
            what = f"this text begins at {start}, the text before it ends at {self._length}"
            raise UserError(what, where=self.where, remedy="offsets count characters (not bytes): correct them")
        self._parts += ["\n" * (start - self._length), text]
        self._length = start + len(text)

    def _collect(self, content: Mapping[str, Any], unit: int, place: str) -> None:
        for level in _LEVELS:
            for number, each in enumerate(content.get(level) or []):
                where = each.get(WHERE) or f"{self._document}.{place}{level}[{number}]"
                self._found.append((unit, level, where, each))

    def _annotation(self, text: str, unit: int, level: str, where: str, content: Mapping[str, Any]) -> Annotation:
        self.where = where
        infons, extra = _infons(content), _further(content, ANNOTATION_KEYS)
        name, kind = str(content["id"]), infons.get(TYPE)
        if level == "relations":
            # Some corpora have the type and the concepts of a relation as infons, and no nodes.
            kind = kind or infons.get("relation") or ""
            nodes = [(str(node.get("role") or ""), str(node["refid"])) for node in content.get("nodes") or []]
            nodes = nodes or [(k, v) for k, v in infons.items() if k not in (TYPE, "relation") and isinstance(v, str)]
            return Relation(name, str(kind), tuple(nodes), infons=infons, unit=unit, extra=extra)
        if not kind:
            raise UserError('no infon "type"', where=where, remedy="name the type of the entity")
        places = sorted((int(each["offset"]), int(each["length"])) for each in content.get("locations") or [])
        fragments = tuple((offset, offset + length) for offset, length in places)
        written = check_fragments(text, fragments, content.get("text"), where=where)
        return Mention(name, str(kind), fragments, written, infons, unit, extra)


def _infons(content: Mapping[str, Any]) -> dict[str, Any]:
    return dict(content.get("infons") or {})


def _further(content: Mapping[str, Any], known: set[str]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in known}


# ---- out: documents -> dictionaries


def lines(documents: Iterable[AnnotatedDocument], left_out: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a file of BioC JSON, one per document."""
    before = ""
    for document in documents:
        if not before:
            header = {**dict.fromkeys(HEADER, ""), "infons": {}, **document.collection}
            yield json.dumps(header, ensure_ascii=False)[:-1] + ', "documents": ['
        else:
            yield before + ","
        before = json.dumps(from_document(document, left_out), ensure_ascii=False)
    yield from [before, "]}"] if before else ['{"source": "", "date": "", "key": "", "infons": {}, "documents": []}']


def from_document(document: AnnotatedDocument, left_out: dict[str, int]) -> dict[str, Any]:
    """Return the dictionary that describes a document.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
    """
    covered = _cover(document)
    passages = document.passages if covered else (Passage(0, len(document.text)),) if document.text else ()
    if not covered:
        count(left_out, "passages that leave out a part of the text, written as one", len(document.passages))
    units = [unit for passage in passages for unit in (passage, *passage.sentences)]
    written: list[dict[str, list]] = [{level: [] for level in _LEVELS} for _ in range(len(units) + 1)]  # last: document
    ids = _ids(document)
    known = {each.id for each in (*document.mentions, *document.relations)}
    for number, each in enumerate(document.annotations):
        match each:
            case Mention():
                unit = each.unit if covered and each.unit is not None else _unit_of(each, units)
                written[unit]["annotations"].append(_mention(document, each, ids[number]))
            case Relation():
                unit = each.unit if covered and each.unit is not None else -1
                written[unit]["relations"].append(_relation(document, each, ids[number]))
            case Attribute() | Concept() | Note():
                count(left_out, "comments on the whole document, left out", each.target not in known)
    made = iter(written)
    return {
        "id": document.id,
        "infons": dict(document.infons),
        **document.extra,
        "passages": [_passage(document, passage, made) for passage in passages],
        **written[-1],
    }


def _cover(document: AnnotatedDocument) -> bool:
    """Return whether nothing but line breaks is outside of the passages."""
    if not document.passages:
        return False
    edges = [0, *(edge for passage in document.passages for edge in (passage.start, passage.end)), len(document.text)]
    gaps = list(pairwise(edges))[::2]
    return all(start <= end and not document.text[start:end].strip("\n") for start, end in gaps)


def _ids(document: AnnotatedDocument) -> list[str]:
    """Return the id of each annotation; T or R and a number for those without one."""
    numbers = {"T": 0, "R": 0}
    ids = []
    for each in document.annotations:
        letter = "T" if isinstance(each, Mention) else "R"
        numbers[letter] += 1
        ids.append(each.id if each.id not in ("", "*") else f"{letter}{numbers[letter]}")
    return ids


def _unit_of(mention: Mention, units: list[Passage]) -> int:
    """Return the index of the smallest unit in which a mention begins; -1 = the document."""
    inside = [number for number, unit in enumerate(units) if unit.start <= mention.start < unit.end]
    return inside[-1] if inside else -1


def _passage(document: AnnotatedDocument, unit: Passage, made: Iterator[dict[str, list]]) -> dict[str, Any]:
    levels = next(made)
    sentences = [_passage(document, sentence, made) for sentence in unit.sentences]
    text = {} if sentences else {"text": document.text[unit.start : unit.end]}
    return {"offset": unit.start, "infons": dict(unit.infons), **unit.extra, **text, "sentences": sentences, **levels}


def _mention(document: AnnotatedDocument, mention: Mention, name: str) -> dict[str, Any]:
    locations = [{"offset": start, "length": end - start} for start, end in mention.fragments]
    text = document.text_of(mention)
    return {"id": name, "infons": infons_of(document, mention), **mention.extra, "text": text, "locations": locations}


def _relation(document: AnnotatedDocument, relation: Relation, name: str) -> dict[str, Any]:
    infons = infons_of(document, relation)
    if TYPE not in relation.infons and relation.infons.get("relation") == relation.type:
        del infons[TYPE]
    nodes = [("trigger", relation.trigger)] if relation.trigger else []
    nodes += [each for each in relation.arguments if relation.infons.get(each[0]) != each[1]]
    written = [{"refid": target, "role": role} for role, target in nodes]
    return {"id": name, "infons": infons, **relation.extra, "nodes": written}
