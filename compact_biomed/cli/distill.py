"""`compact-biomed distill`: its flags. Each is a parameter of `compress_for_task` with the same name."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from compact_biomed.cli.data import add_own_data, keywords_of
from compact_biomed.cli.evaluate import add_jobs, add_license, add_progress, add_search, add_speed
from compact_biomed.cli.flags import Parser, at_least_one, check_first, positive, seeds, strict
from compact_biomed.compression.distillation import LAYER_MAP, RECORDS, REST, TEMPERATURE, TRANSFERS, layers_of
from compact_biomed.models.layer_maps import LAYER_MAPS

_EPILOG = """\
examples
  compact-biomed evaluate --model BIG --task NCBI-disease --data DIR --save kept
  compact-biomed distill --task NCBI-disease --data DIR --teacher kept/BIG-NCBI-disease-seed1 \\
      --student 3 --unlabeled sentences.txt --seeds 1,2,3 --save kept
  compact-biomed distill --task NCBI-disease --data DIR --teacher kept/BIG-NCBI-disease-seed1 \\
      --student 3 --unlabeled sentences.txt --transfer hidden attention

A teacher that was fine-tuned on data of your own remembers where they are:
  compact-biomed evaluate --model BIG --train reviews.csv --save kept
  compact-biomed distill --teacher kept/BIG-reviews-seed1 --student 3 --save kept

The control, the same student fine-tuned on labels alone:
  compact-biomed evaluate --model STUDENT --task NCBI-disease --data DIR --seeds 1,2,3

What the student gained: compact-biomed tables gap --records FILE --baseline STUDENT --teacher BIG
The same command resumes: runs that are recorded are skipped.
To distill before fine-tuning: compact-biomed train distill.
"""
_ABOUT = "Distill a fine-tuned teacher into a small model for its task."
_LAYOUT = {"description": _ABOUT, "epilog": _EPILOG, "formatter_class": argparse.RawDescriptionHelpFormatter}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `distill`."""
    parser = subparsers.add_parser(
        "distill", help="distill a fine-tuned teacher into a small model for its task", **_LAYOUT
    )
    _declare(parser)
    parser.set_defaults(run=strict(parser, _run))


def run(arguments: Sequence[str], *, program: str) -> int:
    """Do the same as the verb for `train distill --task`, as it was called before; return the exit status."""
    parser = parser_of(program)
    options, unknown = parser.parse_known_args(arguments)
    return strict(parser, _run)(options, unknown)


def parser_of(program: str) -> argparse.ArgumentParser:
    """Return a parser of the verb's flags alone."""
    parser = Parser(prog=program, **_LAYOUT)
    _declare(parser)
    return parser


def _declare(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--task", metavar="NAME", help="a benchmark, as in evaluate (default: the teacher's task)")
    add("--ner-dir", metavar="PATH", help="instead, an entity set of your own: train, devel and test in a folder")
    add("--data", type=Path, metavar="DIR", help="folder of the benchmarks' files (default: COMPACT_BIOMED_DATA)")
    add("--teacher", required=True, metavar="DIR", help="a fine-tuned model, saved by evaluate --save")
    add("--student", required=True, metavar="S", help="a checkpoint, or how many layers to cut out of the teacher")
    add("--name", help="name of the student in records (default: the name of its folder)")
    add("--records", type=Path, default=Path(RECORDS), metavar="FILE", help="default: %(default)s")
    add("--save", type=Path, metavar="DIR", help="save the students there")
    add_license(add)
    add("--minutes", type=positive, metavar="N", help="start no run that is expected to end after N minutes")
    add_jobs(add)
    add_progress(add)
    add_own_data(parser)
    add = parser.add_argument_group("hyperparameters (all of them enter the record)").add_argument
    add(
        "--unlabeled",
        "--unlabelled",  # the former spelling
        nargs="+",
        default=[],
        metavar="FILE",
        help='text that only the teacher labels: one sentence per line, or JSON lines with "text"; '
        f'"{REST}" = the training examples that --max-train-examples leaves out',
    )
    add("--temperature", type=positive, metavar="T", help=f"of the soft labels (default: {TEMPERATURE:g})")
    add(
        "--soft-weight",
        type=float,
        default=1.0,
        metavar="W",
        help="weight of the soft labels, beside 1 for the hard labels (default: %(default)g)",
    )
    add(
        "--transfer",
        nargs="+",
        choices=TRANSFERS,
        default=["none"],
        metavar="WHAT",
        help="compare in each step: hidden (states) and attention (maps), layer by layer; relations (of queries, keys "
        "and values of the last layer); several of these, or none (default: none)",
    )
    add(
        "--layer-map",
        metavar="MAP",
        help=f"teacher layer of each student layer: {', '.join(LAYER_MAPS)}, or a list such as 1,3,5 "
        f"(default: {LAYER_MAP})",
    )
    add("--transfer-weight", type=positive, metavar="W", help="weight of each of these terms (default: 1)")
    add("--relation-heads", type=at_least_one, metavar="N", help="in relations (default: the most that fit, up to 48)")
    add("--relation-layer", metavar="L", help="of the teacher: a number, last or upper-middle (default: last)")
    add("--protocol", choices=("standard", "thorough", "published"), default="standard", help="default: %(default)s")
    add("--seeds", type=seeds, default=[1], metavar="LIST", help="one run per seed (default: 1)")
    add("--fold", type=at_least_one, metavar="N", help="of a cross-validation set: the fold of the teacher")
    add("--learning-rate", type=positive, metavar="X", help="instead of the protocol's")
    add("--epochs", type=at_least_one, metavar="N", help="instead of the protocol's")
    add_search(add)
    add("--max-train-examples", type=at_least_one, metavar="N", help="number of labeled examples (default: all)")
    add_speed(parser)


def _run(options: argparse.Namespace) -> int:
    student = None if layers_of(options.student) else options.student
    check_first([options.teacher, student], files=[options.records], folders=[options.save])

    from compact_biomed.compression.distillation.compress import compress_for_task
    from compact_biomed.models.checkpoints import quiet_transformers

    quiet_transformers()
    return 1 if compress_for_task(**keywords_of(options)).failed else 0
