"""Character spans as JSON Lines, as doccano and Prodigy export them, and spaCy's (text, {"entities": [...]}).

    {"id": 1, "text": "Fever after aspirin", "label": [[0, 5, "Disease"], [12, 19, "Chemical"]]}           doccano
    {"text": "Fever after aspirin", "spans": [{"start": 0, "end": 5, "label": "Disease"}], "answer": "accept"}  Prodigy

One reader takes both, as it goes by the keys of each object. doccano's "label" may also be "labels" or "entities", and
its exports of relations have {"id": ..., "start_offset": ..., "end_offset": ..., "label": ...} there.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.standoff.convert import TYPE
from compact_biomed.benchmarks.standoff.documents import (
    AnnotatedDocument,
    Mention,
    Relation,
    check_fragments,
    count,
)
from compact_biomed.benchmarks.standoff.objects import read_objects
from compact_biomed.errors import UserError

SPAN_KEYS = ("spans", "entities", "labels", "label")
_STARTS, _ENDS = ("start", "start_offset"), ("end", "end_offset")
_TYPES = ("label", "type", "entity", "labels")
_REMEDY = 'write {"text": ..., "label": [[START, END, TYPE], ...]} or {"text": ..., "spans": [{"start": ..., ...}]}'


def span_lists(content: Mapping[str, Any]) -> list[list[Any]]:
    """Return the lists of an object under `SPAN_KEYS`: of spans, or of labels."""
    return [content[key] for key in SPAN_KEYS if isinstance(content.get(key), list)]


# ---- in


def read(path: Path, repairs: dict[str, int]) -> Iterator[AnnotatedDocument]:
    """Yield the documents of a file, in the order of the file; those without an id are numbered from 1 on.

    Raises:
        UserError: not JSON, no text, a span that is none of the above (with file and line) or is not in the text.
    """
    for number, (where, content) in enumerate(read_objects(path), 1):
        if isinstance(content, list) and len(content) == 2 and isinstance(content[1], dict):
            content = {"text": content[0], **content[1]}
        if not isinstance(content, dict) or not isinstance(content.get("text"), str):
            raise UserError('no object with a "text"', where=where, remedy=_REMEDY)
        if content.get("answer", "accept") != "accept":
            count(repairs, "texts that the annotator rejected or ignored, left out")
            continue
        try:
            yield _document(content, str(number), where, repairs)
        except (TypeError, AttributeError) as error:
            raise UserError(f"not a text with spans: {error}", where=where, remedy=_REMEDY) from None


def _document(content: Mapping[str, Any], name: str, where: str, repairs: dict[str, int]) -> AnnotatedDocument:
    text = content["text"]
    key = next((key for key in SPAN_KEYS if isinstance(content.get(key), list)), None)
    if key is None:
        raise UserError(f"no list {', '.join(SPAN_KEYS[:-1])} or {SPAN_KEYS[-1]}", where=where, remedy=_REMEDY)
    mentions: list[Mention] = []
    for span in content[key]:
        mentions += to_mentions(span, text, f"T{len(mentions) + 1}", where)
    ids = {mention.span: mention.id for mention in mentions}
    relations = [_relation(each, ids, where) for each in content.get("relations") or []]
    count(repairs, "lists of tokens beside spans, left out", "tokens" in content)
    infons = {k: v for k, v in content.items() if k not in ("id", "text", "relations", "tokens", key)}
    name = name if content.get("id") is None else str(content["id"])
    return AnnotatedDocument(name, text, (*mentions, *relations), infons=infons, where=where)


def to_mentions(span: Any, text: str, name: str, where: str) -> list[Mention]:
    """Return the mentions that a span describes: one per label.

    Args:
        span: [START, END, TYPE], or an object.
        name: the id of a mention without one.

    Raises:
        UserError: neither, or it is not in the text.
    """
    if isinstance(span, list) and len(span) == 3:
        span = {"start": span[0], "end": span[1], "label": span[2]}
    try:
        start, end, kind = (next(span[key] for key in keys if key in span) for keys in (_STARTS, _ENDS, _TYPES))
        fragments = ((_whole(start), _whole(end)),)
        further = {k: v for k, v in span.items() if k not in (*_STARTS, *_ENDS, *_TYPES, "id", "text")}
        written = span.get("text")
    except (TypeError, ValueError, AttributeError, StopIteration, RuntimeError):
        raise UserError(f"not a span: {str(span)[:60]}", where=where, remedy=_REMEDY) from None
    kinds = kind if isinstance(kind, list) else [kind]
    if not kinds or not all(isinstance(each, str) and each.strip() for each in kinds):
        raise UserError(f"a span without a type: {str(span)[:60]}", where=where, remedy=_REMEDY)
    text_as_written = check_fragments(text, fragments, written, where=where)
    identity = name if span.get("id") is None else str(span["id"])
    return [Mention(identity, each, fragments, text_as_written, further) for each in kinds]


def _whole(offset: Any) -> int:
    """Return an offset as a number; 3.5 and true are none, though Python would take them."""
    if isinstance(offset, bool) or int(offset) != float(offset):
        raise ValueError(f"no offset: {offset}")
    return int(offset)


def _relation(content: Mapping[str, Any], ids: Mapping[tuple[int, int], str], where: str) -> Relation:
    """Return doccano's relation between ids, or Prodigy's between spans."""
    try:
        if "from_id" in content:
            ends = (("", str(content["from_id"])), ("", str(content["to_id"])))
        else:
            spans = (content["head_span"], content["child_span"])
            targets = [ids[span["start"], span["end"]] for span in spans]
            ends = tuple(zip(("head", "child"), targets, strict=True))
        return Relation(
            str(content.get("id") or ""), str(content["type"] if "type" in content else content["label"]), ends
        )
    except (KeyError, TypeError) as error:
        remedy = "doccano's has id, from_id, to_id and type; Prodigy's head_span, child_span and label"
        raise UserError(f"not a relation: no {error}", where=where, remedy=remedy) from None


# ---- out


def doccano_lines(documents: Iterable[AnnotatedDocument], left_out: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a file for doccano; spans have ids only where there are relations.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
    """
    for document in documents:
        spans = [(mention, *whole_span(mention, left_out)) for mention in document.mentions]
        infons = sum(len(mention.infons.keys() - {TYPE}) for mention in document.mentions)
        count(left_out, "infons of mentions, left out", infons)
        content: dict[str, Any] = {"id": document.id, "text": document.text}
        if document.relations:
            content["entities"] = [
                {"id": mention.id, "start_offset": start, "end_offset": end, "label": mention.type}
                for mention, start, end in spans
            ]
            content["relations"] = [
                {"id": each.id, "from_id": ends[0], "to_id": ends[1], "type": each.type}
                for each in document.relations
                if (ends := two_ends(document, each, left_out))
            ]
        else:
            content["label"] = [[start, end, mention.type] for mention, start, end in spans]
        yield _json({**content, **_further(document, content, left_out)})


def prodigy_lines(documents: Iterable[AnnotatedDocument], left_out: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a file for Prodigy.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
    """
    for document in documents:
        spans = []
        for mention in document.mentions:
            start, end = whole_span(mention, left_out)
            further = {key: value for key, value in mention.infons.items() if key != TYPE}
            spans.append({"start": start, "end": end, "label": mention.type, **further})
        by_id = {mention.id: span for mention, span in zip(document.mentions, spans, strict=True)}
        content = {"id": document.id, "text": document.text, "spans": spans}
        relations = [
            {"head_span": by_id[ends[0]], "child_span": by_id[ends[1]], "label": each.type}
            for each in document.relations
            if (ends := two_ends(document, each, left_out))
        ]
        content |= {"relations": relations} if relations else {}
        yield _json({**content, **_further(document, content, left_out), "answer": "accept"})


def whole_span(mention: Mention, left_out: dict[str, int]) -> tuple[int, int]:
    """Return where a mention begins and ends; count it if it has several parts."""
    count(left_out, "mentions in several parts, written from the first to the last", len(mention.fragments) > 1)
    return mention.span


def two_ends(document: AnnotatedDocument, relation: Relation, left_out: dict[str, int]) -> tuple[str, str] | None:
    """Return the ids of the two mentions of a relation; count and leave out another relation."""
    targets = [target for _, target in relation.arguments]
    if len(targets) != 2 or relation.trigger or not all(target in document.by_id for target in targets):
        count(left_out, "relations that are not between two mentions, left out")
        return None
    return targets[0], targets[1]


def _further(document: AnnotatedDocument, content: Mapping[str, Any], left_out: dict[str, int]) -> dict[str, Any]:
    comments = sum(not isinstance(each, Mention | Relation) for each in document.annotations)
    count(left_out, "attributes, concepts and comments, left out", comments)
    return {key: value for key, value in document.infons.items() if key not in content and key not in SPAN_KEYS}


def _json(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False)
