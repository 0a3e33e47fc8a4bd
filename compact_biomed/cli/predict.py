"""`compact-biomed predict`: its flags."""

import argparse
from pathlib import Path

from compact_biomed.cli.flags import at_least_one, check_first, strict, threshold
from compact_biomed.machine import PRECISION_CHOICES

_EPILOG = """\
examples
  compact-biomed predict --model kept/tiny-NCBI-disease-seed1 report.txt
  cat report.txt | compact-biomed predict --model tiny-int8 --format brat > report.ann
  compact-biomed predict --model tiny-int8 --format inline report.txt             # [ovarian cancer|Disease]
  compact-biomed predict --model gad-int8 --input lines sentences.txt
  compact-biomed predict --model tiny-int8 --threshold dev report.txt
  compact-biomed predict --model reviews-int8 new.csv         # a column text; for pairs text_a and text_b
  compact-biomed predict --model bioasq questions.jsonl       # lines {"id": ..., "question": ..., "text": ...}
  compact-biomed predict --model tiny-int8 reports/ --format brat --output annotated
  compact-biomed predict --model tiny-int8 collection.xml --format bioc --output predicted.xml
  compact-biomed predict --model ENCODER --embed --input lines sentences.txt

A text file is one document of any length; it is answered while it is read. Offsets count characters.
"""

# As in inference.outputs and inference.documents, which take seconds to load; a test compares them.
_FORMATS = ("jsonl", "brat", "conll", "inline", "bioc", "bioc-json", "pubtator")
_KINDS = ("text", "lines", "jsonl", "csv", "tsv", "parquet", "bioc", "bioc-json", "pubtator")


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
        "files",
        nargs="*",
        default=["-"],
        metavar="FILE",
        help="text; JSON Lines, CSV, TSV, Parquet, BioC (.xml, .json) or PubTator if so named; or a folder of .txt; "
        "plain or .gz; "
        "- is standard input",
    )
    add("--model", required=True, metavar="M", help="fine-tuned checkpoint, or a folder of compact-biomed export")
    add("--format", choices=_FORMATS, default="jsonl", help="default: %(default)s; all others are for entities")
    add("--output", type=Path, metavar="PATH", help="a file, or for brat a new folder (default: standard output)")
    add("--input", choices=_KINDS, help="what each FILE holds (default: by its name, else text)")
    add("--embed", action="store_true", help="vectors of the texts in place of predictions")
    context_help = "what a model of entities reads at once (default: sentence, as in fine-tuning)"
    add("--context", choices=("sentence", "window"), default="sentence", help=context_help)
    add("--window", type=at_least_one, metavar="N", help="tokens read at once (default: 256, or what the model reads)")
    threads_help = "cores to use, each for an input of its own (default: all)"
    add("--threads", type=at_least_one, default=0, metavar="N", help=threads_help)
    threshold_help = "lowest score: a number, or dev for those per type or class that were chosen on dev"
    add("--threshold", type=threshold, metavar="T", help=threshold_help)
    add("--precision", choices=PRECISION_CHOICES, default="auto", help="of a PyTorch model")
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    check_first([options.model])
    from compact_biomed.inference.outputs import predict
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    predict(**{name: value for name, value in vars(options).items() if name not in ("run", "verb")})
