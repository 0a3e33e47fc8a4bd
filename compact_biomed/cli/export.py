"""`compact-biomed export`: its flags."""

import argparse
from pathlib import Path

from compact_biomed.cli.flags import add_threads, check_first, strict

_EPILOG = """\
examples
  compact-biomed export --model kept/tiny-NCBI-disease-seed1 --output tiny-onnx
  compact-biomed export --model kept/tiny-NCBI-disease-seed1 --output tiny-int8 --int8

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
    add_threads(parser)
    parser.set_defaults(run=strict(parser, _run))


def _run(options: argparse.Namespace) -> None:
    check_first([options.model], [options.output])

    import transformers

    from compact_biomed.compression.export import export

    transformers.utils.logging.disable_progress_bar()
    export(options.model, options.output, int8=options.int8)
