"""`compact-biomed predict`: its flags; the work is imported when it runs."""

import argparse
import sys

from compact_biomed.cli.flags import strict
from compact_biomed.errors import UsageError, UserError

_EPILOG = """\
examples
  compact-biomed predict --model runs/tiny-NCBI-disease-seed1 report.txt
  cat report.txt | compact-biomed predict --model tiny-int8 --format brat > report.ann
  compact-biomed predict --model gad-int8 --input lines sentences.txt
  compact-biomed predict --model bioasq questions.jsonl       # lines {"id": ..., "question": ..., "text": ...}

A text is one document of any length; it is read while it is answered. Offsets count characters.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `predict`."""
    parser = subparsers.add_parser(
        "predict", help="entities, classes or answers of texts", epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("file", nargs="?", default="-", metavar="FILE", help="text, or JSON Lines if so named; - is standard input")
    add("--model", required=True, metavar="M", help="fine-tuned checkpoint, or a folder of compact-biomed export")
    add("--format", choices=("jsonl", "brat", "conll"), default="jsonl", help="default: %(default)s")
    add("--input", choices=("text", "lines", "jsonl"), help="what FILE holds (default: by its name, else text)")
    add("--window", type=int, default=256, metavar="N", help="tokens read at once (default: %(default)s)")
    add("--threads", type=int, default=0, metavar="N", help="inputs side by side (default: one for each core)")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of a PyTorch model")
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> int:
    from compact_biomed.inference import formats
    from compact_biomed.inference.model import load
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    kind = options.input or formats.kind_of(options.file)
    if options.format == "brat" and kind != "text":
        raise UsageError("BRAT's files hold one document", where="--format brat", remedy="--format jsonl, or one text")
    model = load(options.model, window=options.window, threads=options.threads, precision=options.precision)
    if model.does != "entities" and options.format != "jsonl":
        raise UserError("only entities have this format", where=f"--format {options.format}", remedy="--format jsonl")
    sys.stdout.reconfigure(encoding="utf-8")  # whatever the terminal's: BRAT and JSON Lines are UTF-8
    requests = formats.requests(options.file, kind)
    if kind == "text":  # one, of any length: its lines are told while it is read
        answered = (_lines(model, request, options.format) for request in requests)
    else:
        answered = model.each(lambda request: list(_lines(model, request, options.format)), requests)
    for lines in answered:
        sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _lines(model, request, form: str):
    """The lines of output of one document."""
    from compact_biomed.inference import formats

    if model.does == "entities":
        words = model.words(request.read)
        if form == "jsonl":
            return formats.entity_lines(request.name, words)
        return formats.brat_lines(words) if form == "brat" else formats.conll_lines(words)
    if model.does == "classify":
        return [formats.label_line(request.name, model.classify(request.read(), request.pair))]
    if request.question is None:
        raise UserError("no question", where=request.where, remedy='JSON Lines: {"question": ..., "text": ...}')
    answers = model.answers(request.question, request.read())
    return [formats.answer_line(request.name, request.question, answers)]
