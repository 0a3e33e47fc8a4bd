"""Write predictions: as lines (JSON Lines, BRAT, CoNLL columns, marked text), or as documents (BioC, PubTator)."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from compact_biomed.benchmarks.standoff.brat import without_breaks
from compact_biomed.benchmarks.standoff.convert import one_word
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, Mention
from compact_biomed.benchmarks.tags import UNTYPED
from compact_biomed.inference.documents import Request
from compact_biomed.inference.model import Predictor
from compact_biomed.inference.ranking import Answer, Label
from compact_biomed.inference.words import Entity, Word, entities, without_strays


def output_lines(model: Predictor, request: Request, form: str = "jsonl") -> Iterable[str]:
    """Predict one document and return its lines of output; those of entities while the document is read.

    Args:
        form: "jsonl", or for entities a key of `ENTITY_FORMATS`.

    Raises:
        UserError: the model answers questions, and the request has none.
    """
    if model.method == "entities" and form == "jsonl":
        return entity_lines(request.name, model.words_of(request), request.line, request.file)
    if model.method == "entities":
        return ENTITY_FORMATS[form](request.name, model.words_of(request))
    if model.method == "classify":
        labels = model.labels(request)
        chosen = model.choose(labels) if model.several or model.thresholds is not None else None
        return [label_line(request, labels, chosen)]
    return [answer_line(request, model.predict(request))]


def annotated(model: Predictor, request: Request, *, scores: bool = True) -> AnnotatedDocument:
    """Return a document with its predicted entities, in place of any annotations that it had.

    Args:
        scores: whether mentions have an infon "score".
    """
    text = request.read()
    document = request.document or AnnotatedDocument(request.stem, text, where=request.where)
    found = entities(model.words_of(replace(request, read=io.StringIO(text, newline="").read)))
    mentions = (
        Mention(f"T{number}", each.label, ((each.start, each.end),), infons=_score_infon(each) if scores else {})
        for number, each in enumerate(found, 1)
    )
    return replace(document, annotations=tuple(mentions))


def _score_infon(entity: Entity) -> dict[str, str]:
    return {"score": f"{entity.score:.4f}"}


def entity_lines(name: str, words: Iterable[Word], line: int | None = None, file: str | None = None) -> Iterator[str]:
    """Yield one JSON object per entity: file, document, line, start, end, label, score, text.

    Args:
        line: of the document in its JSON Lines file; it tells documents apart that have the same "id".
        file: that the document is in, if there are several.
    """
    for entity in entities(words):
        yield _json({**_document(name, line, file), **entity._asdict(), "score": _rounded(entity.score)})


def brat_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """Yield the lines of BRAT's .ann: `T1<TAB>Type start end<TAB>text`, and a note with the score."""
    for number, entity in enumerate(entities(words), 1):
        yield f"T{number}\t{brat_place(entity)}"
        yield f"#{number}\tAnnotatorNotes T{number}\tscore {entity.score:.4f}"


def brat_place(entity: Entity) -> str:
    """Return what follows the number of an entity in BRAT's .ann: `Type start end<TAB>text`.

    An entity that contains a line break is written in fragments, as BRAT requires; so is one that contains a tab, which
    would end the field.
    """
    pieces = [*without_breaks(entity.text, ((0, len(entity.text)),))]
    spans = ";".join(f"{entity.start + start} {entity.start + end}" for start, end in pieces)
    text = " ".join(entity.text[start:end] for start, end in pieces)
    return f"{one_word(entity.label)} {spans}\t{text}"


def conll_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """Yield `word<TAB>tag`, with an empty line at each line break of the text and at its end.

    The entities are those of the other formats: readers of IOB1 would take a stray I for one more.
    """
    begun = False
    for word in without_strays(words):
        if begun and "\n" in word.lead:
            yield ""
        begun = True
        yield f"{word.surface}\t{word.tag}"
    if begun:
        yield ""


def inline_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """Yield the lines of the text itself, entities marked: `treated for [ovarian cancer|Disease].`"""
    line, open_label = "", None
    for word in words:
        begin, _, label = word.tag.partition("-")
        label = label or UNTYPED
        if open_label is not None and not (begin == "I" and label == open_label):
            line, open_label = f"{line}|{open_label}]", None
        *whole, line = f"{line}{word.lead}".split("\n")
        yield from whole
        if begin == "B":
            line, open_label = f"{line}[", label
        line += word.surface
    if line:
        yield f"{line}|{open_label}]" if open_label is not None else line


# Formats of entities: name -> function (document, words) -> lines. `predict --format` lists the names.
ENTITY_FORMATS: dict[str, Callable[[str, Iterable[Word]], Iterator[str]]] = {
    "jsonl": entity_lines,
    "brat": brat_lines,
    "conll": conll_lines,
    "inline": inline_lines,
}


def label_line(request: Request, labels: list[Label], chosen: list[Label] | None = None) -> str:
    """Return one JSON object per text: document, best label with its score, and the scores of all labels.

    Args:
        chosen: those that are predicted, where there may be several or none: they are written as `labels`, and `label`
            is the first of them, or null.
    """
    scores = {label: _rounded(score) for label, score in labels}
    best = next((label for label, _ in (labels if chosen is None else chosen)), None)
    content = {"label": best, "score": scores.get(best)}
    listed = {} if chosen is None else {"labels": [label for label, _ in chosen]}
    return _json({**_of(request), **content, **listed, "scores": scores})


def answer_line(request: Request, answers: list[Answer]) -> str:
    """Return one JSON object per question: document, question and its answers, the best first."""
    ranked = [{**answer._asdict(), "score": _rounded(answer.score)} for answer in answers]
    return _json({**_of(request), "question": request.question, "answers": ranked})


def vector_line(request: Request, vector: np.ndarray) -> str:
    """Return one JSON object per text: document and its vector, whose numbers are the same in float32 when read."""
    return _json({**_of(request), "vector": [float(f"{number:.9g}") for number in vector]})


def _of(request: Request) -> dict[str, str | int]:
    return _document(request.name, request.line, request.file)


def _document(name: str, line: int | None, file: str | None) -> dict[str, str | int]:
    place = {"file": file, "document": name, "line": line}
    return {key: value for key, value in place.items() if value is not None}


def _json(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rounded(score: float) -> float:
    return round(score, 4)
