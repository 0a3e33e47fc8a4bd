"""`compact-biomed tables`: tables, one page and pictures made from records."""

import argparse
from pathlib import Path

from compact_biomed.errors import UsageError
from compact_biomed.flags import strict

_EPILOG = """\
examples:
  compact-biomed tables --records results/evaluation.jsonl --published
  compact-biomed tables --records results/evaluation.jsonl --trace "biominilm,NCBI-disease"
  compact-biomed tables families --records results/evaluation.jsonl
  compact-biomed tables compare --records results/evaluation.jsonl --teacher biominilm --models distilled,tiny
  compact-biomed tables gap --records runs.jsonl --baseline student --teacher biominilm
  compact-biomed tables claims --records results/evaluation.jsonl --output results
  compact-biomed tables page --records results/evaluation.jsonl --teacher biominilm --output results
  compact-biomed tables figures --records results/evaluation.jsonl --tasks NCBI-disease --format pdf
  compact-biomed tables bench --records results/bench/step.jsonl --into README.md
  compact-biomed tables inference --records results/bench/inference.jsonl --into README.md
  compact-biomed tables manuscript --records results/*.jsonl results/{ablations,bench,compression}/*.jsonl \
      --output paper/generated
"""
_FORMATS = {
    "scores": ("md", "csv", "tex"),
    "families": ("md", "csv", "tex"),
    "compare": ("md", "csv", "tex"),
    "gap": ("md",),
    "page": ("html",),
    "figures": ("svg", "png", "pdf"),
    "claims": ("md",),
    "ablation": ("md",),
    "pretraining": ("md",),
    "bench": ("md",),
    "inference": ("md",),
    "manuscript": ("tex",),
}  # the first is taken where none is asked for
_BELONGS = {
    "trace": ("scores",),
    "published": ("scores",),
    "teacher": ("compare", "gap", "page"),
    "baseline": ("gap",),
    "models": ("compare", "gap"),
    "tasks": ("figures",),
    "into": ("bench", "inference"),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `tables`."""
    parser = subparsers.add_parser(
        "tables",
        help="records -> tables, a page, pictures",
        description="Make tables from records (JSON Lines): models by tasks, mean and deviation over seeds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    of = (
        "scores (default), their means over tasks of one kind (families), comparisons with a teacher, gains over a "
        "baseline and the gap to the teacher that they close, one HTML page, pictures of size against score, the "
        "paper's claims, ablations, trainings, speed of the step, of answers (inference), or all that the manuscript "
        "in paper/ reads"
    )
    add("of", nargs="?", choices=tuple(_FORMATS), default="scores", metavar="OF", help=f"{', '.join(_FORMATS)}: {of}")
    add("--records", nargs="+", type=Path, required=True, metavar="FILE", help="files of records")
    forms = tuple(dict.fromkeys(form for forms in _FORMATS.values() for form in forms))
    add("--format", choices=forms, help="md (default), csv or tex; figures: svg (default), png or pdf")
    where = "write DIR/OF.FORMAT, not print (page, figures: default here; manuscript: several files)"
    add("--output", type=Path, metavar="DIR", help=where)
    add("--protocol", metavar="P", help="only the records of this protocol")
    add("--trace", metavar="MODEL,TASK", help="scores: print the records behind a cell")
    add("--published", action="store_true", default=None, help="scores: rows of published scores below (md, tex)")
    add("--teacher", metavar="NAME", help="compare, gap, page: the model that the others are held against")
    add("--baseline", metavar="NAME", help="gap: the model that the others gain on")
    add("--models", metavar="LIST", help="compare, gap: names, with commas (default: all others)")
    add("--tasks", metavar="LIST", help="figures: names, with commas (default: all)")
    add("--into", type=Path, metavar="FILE", help="bench, inference: put the table between the markers in this file")
    parser.set_defaults(run=strict(parser, run))


def run(options: argparse.Namespace) -> int:
    """Do what the command line says; return the exit status."""
    for flag, of in _BELONGS.items():
        if getattr(options, flag) is not None and options.of not in of:
            raise UsageError(f"goes with `tables {' or '.join(of)}`", where=f"--{flag}")
    forms = _FORMATS[options.of]
    if options.format not in (None, *forms):
        raise UsageError(
            f"`tables {options.of}` has no such form", where=f"--format {options.format}", remedy=" or ".join(forms)
        )
    options.format = options.format or forms[0]

    from compact_biomed.report.makers import MAKERS
    from compact_biomed.report.records import read_lines

    return MAKERS[options.of](options, read_lines(options.records))
