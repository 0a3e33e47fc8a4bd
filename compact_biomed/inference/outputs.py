"""Predict documents and write what was found: lines on standard output, a file, or a folder of BRAT."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, groupby
from pathlib import Path
from typing import TextIO

from compact_biomed.benchmarks.standoff.convert import file_name
from compact_biomed.benchmarks.standoff.formats import document_lines
from compact_biomed.console import progress, say
from compact_biomed.errors import UsageError, UserError
from compact_biomed.files import atomic_file, atomic_folder, require_writable_at
from compact_biomed.inference.documents import ANNOTATED, KINDS, Request, all_requests, files_of, input_kind
from compact_biomed.inference.engines import require_task
from compact_biomed.inference.formats import ENTITY_FORMATS, annotated, brat_lines, output_lines, vector_line
from compact_biomed.inference.model import Predictor, load
from compact_biomed.inference.words import Result

FORMATS = (*ENTITY_FORMATS, *ANNOTATED)
VECTORS = "vectors"  # the form of `predict --embed`
_BAR = {"desc": "predicting", "unit": " documents", "leave": False}


def predict(
    model: Path | str,
    files: str | Path | Sequence[str | Path],
    *,
    output: Path | str | None = None,
    format: str = "jsonl",
    input: str | None = None,
    embed: bool = False,
    window: int | None = None,
    context: str = "sentence",
    threads: int = 0,
    precision: str = "auto",
    threshold: float | str | None = None,
) -> None:
    """Predict the documents of files and write what is found, as `compact-biomed predict` does.

    Args:
        model, window, context, threads, precision, threshold: see `load`.
        files: texts, JSON Lines, BioC, PubTator, folders of .txt files, or "-" for standard input.
        output: a file, or for BRAT a new folder; None = standard output.
        format: one of `FORMATS`; all but "jsonl" are for entities.
        input: what each file holds, one of `documents.KINDS`; None = by its name.
        embed: write vectors of the texts in place of predictions.

    Raises:
        UserError: a file or the model cannot be read, the output cannot go there, or the model does not predict this.
    """
    paths = [str(path) for path in ([files] if isinstance(files, str | Path) else files)]
    for value, known, name in ((format, FORMATS, "format"), (input, (None, *KINDS), "input")):
        if value not in known:
            raise UsageError(f"no {name} {value!r}", where=f"--{name}", remedy=", ".join(filter(None, known)))
    kinds = [input or input_kind(path) for path in paths]
    is_one_text = kinds == ["text"] and not Path(paths[0]).is_dir()
    if format == "brat" and output is None and not is_one_text:
        remedy = "--output DIR, or one text file"
        raise UsageError("a BRAT file holds one document", where="--format brat", remedy=remedy)
    if embed and format != "jsonl":
        raise UsageError("vectors are written as jsonl", where=f"--format {format}", remedy="leave it out")
    found = files_of(paths)
    output = None if output is None else Path(output)
    if output is not None:
        check_output(output, format)
        if twin := next((file for file in found if file != "-" and output.exists() and output.samefile(file)), None):
            raise UserError("an input, which the output would replace", where=twin, remedy="name another --output")
    with load(
        model, window=window, context=context, threads=threads, precision=precision, threshold=threshold
    ) as predictor:
        if not embed:
            require_task(predictor.engine, model)
            if predictor.method != "entities" and format != "jsonl":
                remedy = "--format jsonl"
                raise UsageError("only entities have this format", where=f"--format {format}", remedy=remedy)
        form = VECTORS if embed else format
        divided = not is_one_text and "lines" not in kinds
        write_predictions(predictor, all_requests(found, input), form, output, divided=divided)


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
    n, changed = 0, {}

    def counted() -> Iterator[Request]:
        nonlocal n
        for n, request in enumerate(progress(requests, **_BAR), 1):  # noqa: B007
            yield request

    if output is None:
        _write_lines(sys.stdout, _lines(model, requests, form, divided, changed))
    else:
        if form == "brat":
            _write_brat(model, counted(), output)
        else:
            with atomic_file(output) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
                _write_lines(stream, _lines(model, counted(), form, divided, changed))
        say(f"{output}: {n:,} document{'s' if n != 1 else ''}")
    for what, number in changed.items():
        say(f"  {number:,} {what}")


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
