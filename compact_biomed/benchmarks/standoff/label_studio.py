"""Label Studio's export: a JSON list of tasks, each with its text in "data" and spans in "annotations".

    [{"id": 1, "data": {"text": "Fever after aspirin"}, "annotations": [{"result": [
        {"id": "a", "type": "labels", "from_name": "label", "to_name": "text",
         "value": {"start": 0, "end": 5, "text": "Fever", "labels": ["Disease"]}}]}]}]

Its JSON-MIN has "text" and "label" in each task, which the reader of `spans` takes as well.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention, Relation, count
from compact_biomed.benchmarks.standoff.objects import read_objects
from compact_biomed.benchmarks.standoff.spans import to_mentions, two_ends, whole_span
from compact_biomed.errors import UserError

_REMEDY = "export the tasks from Label Studio as JSON"
_WIDE = 0xFFFF  # characters above take two units of UTF-16


# ---- in


def read(path: Path, repairs: dict[str, int]) -> Iterator[AnnotatedDocument]:
    """Yield the documents of a file. Of several annotations of a task, the first that was not cancelled is read.

    Raises:
        UserError: not such a list, a task with several texts, or a span that is not in its text; with the place.
    """
    for number, (where, task) in enumerate(read_objects(path), 1):
        if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
            raise UserError('no task with "data"', where=where, remedy=_REMEDY)
        try:
            yield _document(task, str(number), where, repairs)
        except (TypeError, AttributeError) as error:
            raise UserError(f"not a task: {error}", where=where, remedy=_REMEDY) from None


def _document(task: Mapping[str, Any], name: str, where: str, repairs: dict[str, int]) -> AnnotatedDocument:
    data = task["data"]
    key = _text_key(data, where)
    finished = [
        each for each in task.get("annotations", task.get("completions")) or [] if not each.get("was_cancelled")
    ]
    count(repairs, "tasks that nobody annotated, read as texts without entities", not finished)
    count(repairs, "further annotations of a task, left out", max(0, len(finished) - 1))
    annotations: list[Mention | Relation] = []
    for result in finished[0].get("result") or [] if finished else []:
        kind, value = result.get("type"), result.get("value")
        if kind == "relation":
            ends = (("", str(result.get("from_id"))), ("", str(result.get("to_id"))))
            annotations += [
                Relation("", str(label) or "relation", ends) for label in result.get("labels") or ["relation"]
            ]
        elif isinstance(value, dict) and "start" in value and "end" in value:
            identity = str(result.get("id") or f"T{len(annotations) + 1}")
            annotations += _mentions(value, data[key], identity, where, repairs)
        else:
            count(repairs, f"results of type {kind}, left out")
    infons = {other: value for other, value in data.items() if other not in (key, "id")}
    name = str(data.get("id", task.get("id", name)))
    return AnnotatedDocument(name, data[key], tuple(annotations), infons=infons, where=where)


def _text_key(data: Mapping[str, Any], where: str) -> str:
    texts = [key for key, value in data.items() if isinstance(value, str) and key != "id"]
    if "text" in texts:
        return "text"
    if len(texts) != 1:
        raise UserError(f"{len(texts)} texts in a task", where=where, remedy='name the text "text" in "data"')
    return texts[0]


def _mentions(value: Mapping[str, Any], text: str, name: str, where: str, repairs: dict[str, int]) -> list[Mention]:
    span = {key: each for key, each in value.items() if key in ("start", "end", "labels", "text")}
    try:
        return to_mentions(span, text, name, where)
    except UserError:
        # A browser counts units of UTF-16, in which an emoji has two.
        moved = [_characters(text, each) if isinstance(each, int) else each for each in (span["start"], span["end"])]
        if moved == [span["start"], span["end"]]:
            raise
        mentions = to_mentions({**span, "start": moved[0], "end": moved[1]}, text, name, where)
        count(repairs, "spans whose offsets count units of UTF-16")
        return mentions


def _characters(text: str, units: int) -> int:
    """Return how many characters the first so many units of UTF-16 are."""
    position = 0
    while units > 0 and position < len(text):
        units -= 1 + (ord(text[position]) > _WIDE)
        position += 1
    return position + max(0, units)


# ---- out


def lines(documents: Iterable[AnnotatedDocument], left_out: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a file that Label Studio imports, one per task.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
    """
    before = "["
    for number, document in enumerate(documents, 1):
        yield before if number == 1 else f"{before},"
        before = json.dumps(_task(document, number, left_out), ensure_ascii=False)
    yield before
    yield "]"


def _task(document: AnnotatedDocument, number: int, left_out: dict[str, int]) -> dict[str, Any]:
    result = []
    for position, mention in enumerate(document.mentions, 1):
        start, end = whole_span(mention, left_out)
        value = {"start": start, "end": end, "text": document.text[start:end], "labels": [mention.type]}
        name = {"id": mention.id or f"T{position}", "from_name": "label", "to_name": "text"}
        result.append({**name, "type": "labels", "value": value})
    for each in document.relations:
        if ends := two_ends(document, each, left_out):
            result.append({"type": "relation", "from_id": ends[0], "to_id": ends[1], "labels": [each.type]})
    others = sum(not isinstance(each, Mention | Relation) for each in document.annotations)
    count(left_out, "attributes, concepts and comments, left out", others)
    data = {"text": document.text, "id": document.id, **{k: v for k, v in document.infons.items() if k != "text"}}
    return {"id": number, "data": data, "annotations": [{"result": result}]}
