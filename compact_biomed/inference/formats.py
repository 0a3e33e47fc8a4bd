"""Predictions as JSON Lines, BRAT's standoff format and CoNLL's columns."""

import json
import re
from collections.abc import Iterable, Iterator

from compact_biomed.inference.entities import Entity, entities
from compact_biomed.inference.texts import Answer, Label
from compact_biomed.inference.words import Word

FORMATS = ("jsonl", "brat", "conll")


def entity_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """One JSON object an entity: document, start, end, label, score, text."""
    for entity in entities(words):
        yield _json({"document": name, **entity._asdict()})


def brat_lines(words: Iterable[Word]) -> Iterator[str]:
    """BRAT's .ann: `T1<TAB>Type start end<TAB>text`, and the score as a note on it.

    An entity with a line break in it is written in fragments, as BRAT wants it.
    """
    for number, entity in enumerate(entities(words), 1):
        pieces = [match.span() for match in re.finditer(r"[^\r\n]+", entity.text)]
        spans = ";".join(f"{entity.start + start} {entity.start + end}" for start, end in pieces)
        text = " ".join(entity.text[start:end] for start, end in pieces)
        yield f"T{number}\t{_brat_type(entity)} {spans}\t{text}"
        yield f"#{number}\tAnnotatorNotes T{number}\tscore {entity.score:.4f}"


def conll_lines(words: Iterable[Word]) -> Iterator[str]:
    """`word<TAB>tag`, an empty line where the text has a line break and at its end."""
    begun = False
    for word in words:
        if begun and "\n" in word.lead:
            yield ""
        begun = True
        yield f"{word.surface}\t{word.tag}"
    if begun:
        yield ""


def label_line(name: str, labels: list[Label]) -> str:
    """One JSON object a text: document, label, score, and the scores of all labels."""
    scores = {each.label: _rounded(each.score) for each in labels}
    return _json({"document": name, "label": labels[0].label, "score": labels[0].score, "scores": scores})


def answer_line(name: str, question: str, answers: list[Answer]) -> str:
    """One JSON object a question: document, question and its answers, the best first."""
    found = [{**answer._asdict(), "score": _rounded(answer.score)} for answer in answers]
    return _json({"document": name, "question": question, "answers": found})


def _brat_type(entity: Entity) -> str:
    """BRAT's types are one word."""
    return re.sub(r"\W+", "_", entity.label)


def _json(value: dict) -> str:
    return json.dumps({**value, "score": _rounded(value["score"])} if "score" in value else value, ensure_ascii=False)


def _rounded(score: float) -> float:
    return round(score, 4)
