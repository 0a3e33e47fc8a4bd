"""Predict documents and write what was found: lines on standard output, a file, or a folder of BRAT."""

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path
from typing import TextIO

from compact_biomed.benchmarks.standoff.convert import file_name
from compact_biomed.benchmarks.standoff.formats import document_lines
from compact_biomed.console import progress, say
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, atomic_folder, require_writable_at
from compact_biomed.inference.documents import ANNOTATED, Request
from compact_biomed.inference.formats import ENTITY_FORMATS, annotated, brat_lines, output_lines, vector_line
from compact_biomed.inference.model import Predictor
from compact_biomed.inference.words import Result

FORMATS = (*ENTITY_FORMATS, *ANNOTATED)
VECTORS = "vectors"  # the form of `predict --embed`
_BAR = {"desc": "predicting", "unit": " documents", "leave": False}


def write_predictions(
    model: Predictor, requests: Iterable[Request], form: str, output: Path | None, *, divided: bool = False
) -> None:
    """Predict documents in order and write them; of a file or folder, nothing half-written remains.

    Short documents are computed side by side. A long one is written while it is read: memory grows with it in the
    formats of `ANNOTATED` only.

    Args:
        form: one of `FORMATS`, or `VECTORS`.
        output: a file, or for BRAT a folder; None = standard output, for BRAT of a single document.
        divided: whether columns have a line -DOCSTART- before each document.

    Raises:
        UserError: BRAT's folder exists and is not empty, two of its documents have one name, or a request cannot be
            read or answered.
    """
    changed: dict[str, int] = {}
    if output is None:
        _write_lines(sys.stdout, _lines(model, requests, form, divided, changed))
    elif form == "brat":
        _write_brat(model, progress(requests, **_BAR), output)
    else:
        with atomic_file(output) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
            _write_lines(stream, _lines(model, progress(requests, **_BAR), form, divided, changed))
    for what, number in changed.items():
        say(f"{form}: {number:,} {what}")


def check_output(output: Path, form: str) -> None:
    """Check before the work that its result can be written there.

    Raises:
        UserError: for BRAT, it exists and is not an empty folder; else it is a folder.
        OSError: there is no permission.
    """
    if form == "brat" and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise UserError("exists and is not an empty folder", where=output, remedy="name another folder, or empty it")
    if form != "brat" and output.is_dir():
        raise UserError("a folder, not a file", where=output, remedy="name a file; a folder is for --format brat")
    require_writable_at(output)


def _write_lines(stream: TextIO, lines: Iterable[str]) -> None:
    stream.writelines(f"{line}\n" for line in lines)


def _lines(
    model: Predictor, requests: Iterable[Request], form: str, divided: bool, changed: dict[str, int]
) -> Iterator[str]:
    """Yield the lines of all documents.

    Args:
        changed: what the format has no place for -> how often; added to.
    """
    if form in ANNOTATED:
        documents = model.map(lambda request: annotated(model, request, scores=form != "pubtator"), requests)
        yield from document_lines(documents, form, changed)
        return

    def lines(request: Request) -> Iterable[str]:
        begin = [f"-DOCSTART- ({request.name})\tO", ""] if divided and form == "conll" else []
        if form == VECTORS:
            return [vector_line(request, model.vector(request))]
        found = output_lines(model, request, form)
        return chain(begin, found if request.is_long else list(found))

    for found in _in_order(model, lines, requests):
        yield from found


def _in_order(model: Predictor, work: Callable[[Request], Result], requests: Iterable[Request]) -> Iterator[Result]:
    """Yield work(request): for long documents one after the other, for short ones side by side."""
    for is_long, group in groupby(requests, key=lambda request: request.is_long):
        apply = map if is_long else model.map
        yield from apply(work, group)


# ---- a folder of BRAT


def _write_brat(model: Predictor, requests: Iterable[Request], output: Path) -> None:
    """Write NAME.txt, the text as it was read, and NAME.ann of each document."""
    with atomic_folder(output) as folder:

        def write(request: Request) -> None:
            path = folder / f"{file_name(request.stem)}.txt"
            try:
                _write_document(model, request, path)
            except FileExistsError as error:
                remedy = "give ids that differ, or use another --format"
                what = f"a second document named {path.stem!r}"
                raise UserError(what, where=request.where or None, remedy=remedy) from error

        for _ in _in_order(model, write, requests):
            pass


def _write_document(model: Predictor, request: Request, path: Path) -> None:
    annotations = path.with_name(f"{path.name.removesuffix('.txt')}.ann")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _new(path) as text, _new(annotations) as lines:

        def read(size: int = -1) -> str:
            part = request.read(size)
            text.write(part)
            return part

        _write_lines(lines, brat_lines(request.name, model.words_of(replace(request, read=read))))


def _new(path: Path) -> TextIO:
    return open(path, "x", encoding="utf-8", newline="")
