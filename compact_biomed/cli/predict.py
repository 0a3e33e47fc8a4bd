"""`compact-biomed predict`: its flags, and the lines that it prints."""

import argparse
import sys

from compact_biomed.cli.flags import check_first, strict
from compact_biomed.errors import UsageError, UserError

_EPILOG = """\
examples
  compact-biomed predict --model kept/tiny-NCBI-disease-seed1 report.txt
  cat report.txt | compact-biomed predict --model tiny-int8 --format brat > report.ann
  compact-biomed predict --model gad-int8 --input lines sentences.txt
  compact-biomed predict --model bioasq questions.jsonl       # lines {"id": ..., "question": ..., "text": ...}

A text file is one document of any length; it is answered while it is read. Offsets count characters.
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `predict`."""
    parser = subparsers.add_parser(
        "predict",
        help="predict entities, classes or answers of texts",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "file",
        nargs="?",
        default="-",
        metavar="FILE",
        help="text, or JSON Lines if so named; plain or .gz; - is standard input",
    )
    add("--model", required=True, metavar="M", help="fine-tuned checkpoint, or a folder of compact-biomed export")
    add("--format", choices=("jsonl", "brat", "conll"), default="jsonl", help="default: %(default)s")
    add("--input", choices=("text", "lines", "jsonl"), help="what FILE holds (default: by its name, else text)")
    add("--window", type=int, metavar="N", help="tokens read at once (default: 256, or what the model reads)")
    add("--threads", type=int, default=0, metavar="N", help="inputs computed in parallel (default: one per core)")
    add("--precision", choices=("auto", "bf16", "fp32"), default="auto", help="of a PyTorch model")
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    check_first([options.model])
    from compact_biomed.inference.formats import input_kind, output_lines, requests
    from compact_biomed.inference.model import load
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    kind = options.input or input_kind(options.file)
    if options.format == "brat" and kind != "text":
        raise UsageError(
            "a BRAT file holds one document", where="--format brat", remedy="--format jsonl, or one text file"
        )
    model = load(options.model, window=options.window, threads=options.threads, precision=options.precision)
    if model.method != "entities" and options.format != "jsonl":
        raise UserError("only entities have this format", where=f"--format {options.format}", remedy="--format jsonl")
    documents = requests(options.file, kind)
    if kind == "text":  # one, of any length: its lines are printed while it is read
        outputs = (output_lines(model, document, options.format) for document in documents)
    else:
        outputs = model.map(lambda document: list(output_lines(model, document, options.format)), documents)
    for lines in outputs:
        sys.stdout.writelines(f"{line}\n" for line in lines)
