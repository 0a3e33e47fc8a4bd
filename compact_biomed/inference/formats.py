"""Predictions as JSON Lines, BRAT's standoff format and CoNLL's columns."""

import io
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from compact_biomed.errors import UserError
from compact_biomed.inference.model import Answer, Label
from compact_biomed.inference.words import Entity, Word, entities

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


# ----------------------------------------------------------------------------------------------------
# What `predict` reads: a text, lines, or JSON Lines, from a file or from standard input.


KINDS = ("text", "lines", "jsonl")


@dataclass(frozen=True)
class Request:
    """A document, with what is asked of it.

    Args:
        name: its "id", or its number, from 1 on.
        read: gives at most so many characters of its text, "" at the end.
        pair: the second text of a pair, or None.
        question: to be answered from the text, or None.
        where: file and line, for messages.
    """

    name: str
    read: Callable[..., str]
    pair: str | None = None
    question: str | None = None
    where: str = ""


def kind_of(path: str) -> str:
    """What a file holds, by its name."""
    return "jsonl" if path.endswith((".jsonl", ".ndjson")) else "text"


def requests(path: str, kind: str) -> Iterator[Request]:
    """The documents of a file, one after the other; of a text file it is one, which is not read as a whole.

    Args:
        path: a file in UTF-8, or "-" for standard input.
        kind: one of `KINDS`.

    Raises:
        UserError: not UTF-8, or a line that is no object with a "text".
    """
    with _opened(path) as stream:
        if kind == "text":
            yield Request("1" if path == "-" else Path(path).name, partial(_read, stream, path), where=path)
            return
        for number, line in enumerate(_lines(stream, path), 1):
            where = f"{path}:{number}"
            if line.strip():
                yield _line(line.rstrip("\r\n"), number, where) if kind == "lines" else _object(line, number, where)


def is_text(value: object) -> bool:
    """Whether it is a string of whole characters: JSON can spell half a surrogate pair, which no tokenizer takes."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _line(text: str, number: int, where: str) -> Request:
    return Request(str(number), io.StringIO(text, newline="").read, where=where)


def _object(line: str, number: int, where: str) -> Request:
    remedy = 'each line is {"id": ..., "text": ...}, with "question" or "pair" where the model takes them'
    try:
        given = json.loads(line.removeprefix("\ufeff"))  # some editors begin a file with it
        text = given.get("text", given.get("context"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError("no JSON object", where=where, remedy=remedy) from error
    for value in (text, given.get("pair", ""), given.get("question", "")):
        if not is_text(value):
            raise UserError('no "text", or something that is no text', where=where, remedy=remedy)
    read = io.StringIO(text, newline="").read
    name = given.get("id")
    return Request(str(number if name is None else name), read, given.get("pair"), given.get("question"), where)


def _read(stream: TextIO, path: str, size: int = -1) -> str:
    """`stream.read(size)`; it is called by whoever consumes the request, where `requests` could catch nothing."""
    with _decoding(path):
        return stream.read(size)


def _lines(stream: TextIO, path: str) -> Iterator[str]:
    with _decoding(path):
        yield from stream


@contextmanager
def _decoding(path: str) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=path, remedy="convert it: iconv -t utf-8") from error


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    """A text stream whose characters are those of the file: line ends are left as they are."""
    if path != "-" and not Path(path).is_file():
        raise UserError("no such file", where=path, remedy='check the path, or "-" for standard input')
    raw = sys.stdin.buffer if path == "-" else open(path, "rb")
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    try:
        yield stream
    finally:
        if path == "-":
            stream.detach()
        else:
            stream.close()
