"""`compact-biomed export`: its flags."""

import argparse
from pathlib import Path

from compact_biomed.cli.flags import add_threads, at_least_one, check_first, strict
from compact_biomed.errors import UsageError

_EPILOG = """\
examples
  compact-biomed export --model kept/tiny-NCBI-disease-seed1 --output tiny-onnx
  compact-biomed export --model kept/tiny-NCBI-disease-seed1 --output tiny-int8 --int8
  compact-biomed export --model kept/tiny-NCBI-disease-seed1 --output tiny-int8 --int8 --trim-vocabulary notes.txt

The folder runs without this package: python tiny-int8/run.py "some text" (needs onnxruntime, tokenizers and numpy).
"""


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `export`."""
    parser = subparsers.add_parser(
        "export",
        help="export a checkpoint to ONNX, in float32 or int8",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", required=True, metavar="M", help="checkpoint with a head: folder or hub name")
    add(
        "--output", required=True, type=Path, metavar="DIR", help="folder to write; an earlier export there is replaced"
    )
    add("--format", choices=("onnx",), default="onnx", help="default: %(default)s")
    add("--int8", action="store_true", help="quantize weights to 8 bits, and activations at run time")
    add(
        "--trim-vocabulary",
        nargs="+",
        metavar="TEXT",
        help="keep only the word pieces that occur in these files (text, JSONL, XML, .gz) or folders, or in registry "
        "(a PubMed sample): a smaller file, with the same answers wherever no cut piece occurs",
    )
    add(
        "--vocabulary-size",
        type=at_least_one,
        metavar="N",
        help="with --trim-vocabulary: keep at most N pieces, the most frequent ones",
    )
    add("--license", metavar="ID", help="for the card, such as apache-2.0 (default: what the checkpoint's card states)")
    add_threads(parser)
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    if options.vocabulary_size and not options.trim_vocabulary:
        remedy = "add --trim-vocabulary and the texts in which pieces are counted"
        raise UsageError("needs texts", where="--vocabulary-size", remedy=remedy)
    check_first([options.model], folders=[options.output])

    import transformers

    from compact_biomed.compression.export import export

    transformers.utils.logging.disable_progress_bar()
    export(
        options.model,
        options.output,
        int8=options.int8,
        trim_vocabulary=options.trim_vocabulary,
        vocabulary_size=options.vocabulary_size,
        license=options.license,
    )
