"""Read documents for `predict`; write predictions as JSON Lines, BRAT's standoff format or CoNLL columns."""

import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from compact_biomed.corpus.streams import kind_by_name
from compact_biomed.errors import UserError, no_file
from compact_biomed.inference.model import Answer, Label, Predictor
from compact_biomed.inference.words import Entity, Word, entities

_OBJECT = 'each line is {"id": ..., "text": ...}, with "question" or "pair" where the model takes them'


# ---- documents in


@dataclass(frozen=True)
class Request:
    """A document, with what is asked about it.

    Args:
        name: its "id", or its number, from 1 on; several documents may have the same "id".
        read: returns at most so many characters of its text, "" at the end.
        pair: the second text of a pair, or None.
        question: to be answered from the text, or None.
        where: file and line, for messages.
        line: of its object in a JSON Lines file, from 1 on, or None.
    """

    name: str
    read: Callable[..., str]
    pair: str | None = None
    question: str | None = None
    where: str = ""
    line: int | None = None


def input_kind(path: str) -> str:
    """Return what a file holds, by its name: "jsonl" or "text".

    Raises:
        UserError: it is XML.
    """
    kind = kind_by_name(path) or "text"
    if kind == "xml":
        remedy = 'write its texts as JSON Lines, {"text": ...}; to read the markup as a text: --input text'
        raise UserError("XML is markup, not a text", where=path, remedy=remedy)
    return kind


def requests(path: str, kind: str) -> Iterator[Request]:
    """Yield the documents of a file one by one. A text file is one document, which is not read as a whole.

    Args:
        path: a file in UTF-8, plain or gzipped, or "-" for standard input.
        kind: "text", "lines" (one document per line) or "jsonl".

    Raises:
        UserError: no such file, not UTF-8, a damaged gzip file, or a line that is no object with a "text".
    """
    with _opened(path) as stream:
        if kind == "text":
            yield Request("1" if path == "-" else Path(path).name, partial(_read, stream, path), where=path)
            return
        parse = _from_line if kind == "lines" else _from_json
        for number, line in enumerate(_lines(stream, path), 1):
            if line.strip():
                yield parse(line, number, f"{path}:{number}")


def is_text(value: object) -> bool:
    """Return whether a value is a string of whole characters.

    JSON can spell half a surrogate pair, which no tokenizer accepts.
    """
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def _from_line(line: str, number: int, where: str) -> Request:
    return Request(str(number), io.StringIO(line.rstrip("\r\n"), newline="").read, where=where)


def _from_json(line: str, number: int, where: str) -> Request:
    try:
        content = json.loads(line.removeprefix("\ufeff"))  # some editors begin a file with it
        text = content.get("text", content.get("context"))
    except (ValueError, AttributeError, RecursionError) as error:
        raise UserError("no JSON object", where=where, remedy=_OBJECT) from error
    for value in (text, content.get("pair", ""), content.get("question", "")):
        if not is_text(value):
            raise UserError('no "text", or a value that is not text', where=where, remedy=_OBJECT)
    read = io.StringIO(text, newline="").read
    name = str(number if content.get("id") is None else content["id"])
    if not is_text(name):
        raise UserError('an "id" with half a surrogate pair', where=where, remedy="correct or remove it")
    return Request(name, read, content.get("pair"), content.get("question"), where, number)


def _read(stream: TextIO, path: str, size: int = -1) -> str:
    """Return `stream.read(size)`. The consumer of a request calls it, where `requests` could catch nothing."""
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
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"damaged gzip data: {error}", where=path, remedy="copy the file again") from error


@contextmanager
def _opened(path: str) -> Iterator[TextIO]:
    """Open a text stream whose characters are those of the file: line ends are left as they are."""
    if path != "-" and (not Path(path).exists() or Path(path).is_dir()):
        raise no_file(path, 'check the path, or "-" for standard input')
    raw = sys.stdin.buffer if path == "-" else open(path, "rb")
    if path != "-" and raw.peek(2)[:2] == b"\x1f\x8b":
        raw = gzip.GzipFile(fileobj=raw)
    stream = io.TextIOWrapper(raw, encoding="utf-8", newline="")
    try:
        yield stream
    finally:
        if path == "-":
            stream.detach()
        else:
            stream.close()


# ---- predictions out


def output_lines(model: Predictor, request: Request, form: str = "jsonl") -> Iterable[str]:
    """Predict one document and return its lines of output; those of entities while the document is read.

    Args:
        form: "jsonl", or for entities a key of `ENTITY_FORMATS`.

    Raises:
        UserError: the model answers questions, and the request has none.
    """
    if model.method == "entities" and form == "jsonl":
        return entity_lines(request.name, model.words(request.read), request.line)
    if model.method == "entities":
        return ENTITY_FORMATS[form](request.name, model.words(request.read))
    if model.method == "classify":
        labels = model.classify(request.read(), request.pair)
        return [label_line(request, labels, None if model.thresholds is None else model.choose(labels))]
    if request.question is None:
        raise UserError("no question", where=request.where, remedy='JSON Lines: {"question": ..., "text": ...}')
    return [answer_line(request, model.answers(request.question, request.read()))]


def entity_lines(name: str, words: Iterable[Word], line: int | None = None) -> Iterator[str]:
    """Yield one JSON object per entity: document, line, start, end, label, score, text.

    Args:
        line: of the document in its JSON Lines file; it tells documents apart that have the same "id".
    """
    for entity in entities(words):
        yield _json({**_document(name, line), **entity._asdict(), "score": _rounded(entity.score)})


def brat_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """Yield the lines of BRAT's .ann: `T1<TAB>Type start end<TAB>text`, and a note with the score.

    An entity that contains a line break is written in fragments, as BRAT requires; so is one that contains a tab, which
    would end the field.
    """
    for number, entity in enumerate(entities(words), 1):
        pieces = [match.span() for match in _BRAT_FRAGMENT.finditer(entity.text)]
        spans = ";".join(f"{entity.start + start} {entity.start + end}" for start, end in pieces)
        text = " ".join(entity.text[start:end] for start, end in pieces)
        yield f"T{number}\t{_brat_type(entity)} {spans}\t{text}"
        yield f"#{number}\tAnnotatorNotes T{number}\tscore {entity.score:.4f}"


def _brat_type(entity: Entity) -> str:
    """Return the label as one word, as BRAT requires."""
    return re.sub(r"\W+", "_", entity.label)


# What stands between tabs and line breaks of any kind, without white space at either end.
_BRAT_FRAGMENT = re.compile(r"\S(?:[^\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029]*\S)?")


def conll_lines(name: str, words: Iterable[Word]) -> Iterator[str]:
    """Yield `word<TAB>tag`, with an empty line at each line break of the text and at its end."""
    begun = False
    for word in words:
        if begun and "\n" in word.lead:
            yield ""
        begun = True
        yield f"{word.surface}\t{word.tag}"
    if begun:
        yield ""


# Formats of entities: name -> function (document, words) -> lines. `predict --format` lists the names.
ENTITY_FORMATS: dict[str, Callable[[str, Iterable[Word]], Iterator[str]]] = {
    "jsonl": entity_lines,
    "brat": brat_lines,
    "conll": conll_lines,
}


def label_line(request: Request, labels: list[Label], chosen: list[str] | None = None) -> str:
    """Return one JSON object per text: document, best label with its score, and the scores of all labels.

    Args:
        chosen: the labels that reach their thresholds, if there are any: then these are written as `labels`, and the
            first of them is the best, or null.
    """
    scores = {label: _rounded(score) for label, score in labels}
    best = labels[0].label if chosen is None else next(iter(chosen), None)
    content = {"label": best, "score": None if best is None else scores[best]}
    listed = {} if chosen is None else {"labels": chosen}
    return _json({**_document(request.name, request.line), **content, **listed, "scores": scores})


def answer_line(request: Request, answers: list[Answer]) -> str:
    """Return one JSON object per question: document, question and its answers, the best first."""
    ranked = [{**answer._asdict(), "score": _rounded(answer.score)} for answer in answers]
    return _json({**_document(request.name, request.line), "question": request.question, "answers": ranked})


def _document(name: str, line: int | None) -> dict[str, str | int]:
    return {"document": name} if line is None else {"document": name, "line": line}


def _json(value: dict) -> str:
    return json.dumps(value, ensure_ascii=False)


def _rounded(score: float) -> float:
    return round(score, 4)
