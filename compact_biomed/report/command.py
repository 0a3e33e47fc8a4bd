"""`compact-biomed tables`: tables, one page and pictures made from records."""

import argparse
from pathlib import Path

from compact_biomed.errors import UserError, refuse_unknown

_EPILOG = """\
examples:
  compact-biomed tables --records results/evaluation.jsonl --published
  compact-biomed tables --records results/evaluation.jsonl --trace "biominilm,NCBI-disease"
  compact-biomed tables families --records results/evaluation.jsonl
  compact-biomed tables compare --records results/evaluation.jsonl --teacher biominilm --models distilled,tiny
  compact-biomed tables page --records results/evaluation.jsonl --teacher biominilm --output results
  compact-biomed tables figures --records results/evaluation.jsonl --tasks NCBI-disease --format pdf
  compact-biomed tables bench --records results/bench/step.jsonl --into README.md
"""
_FORMATS = {
    "scores": ("md", "csv", "tex"),
    "families": ("md", "csv", "tex"),
    "compare": ("md", "csv", "tex"),
    "bench": ("md",),
    "page": ("html",),
    "figures": ("svg", "png", "pdf"),
}  # the first is taken where none is asked for
_BELONGS = {
    "trace": ("scores",),
    "published": ("scores",),
    "teacher": ("compare", "page"),
    "models": ("compare",),
    "tasks": ("figures",),
    "into": ("bench",),
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
        "scores (default), their means over tasks of one kind, comparisons with a teacher, one HTML page of all that, "
        "pictures of size against score, or speed of the step"
    )
    add("of", nargs="?", choices=tuple(_FORMATS), default="scores", help=of)
    add("--records", nargs="+", type=Path, required=True, metavar="FILE", help="files of records")
    forms = tuple(dict.fromkeys(form for forms in _FORMATS.values() for form in forms))
    add("--format", choices=forms, help="md (default), csv or tex; figures: svg (default), png or pdf")
    add("--output", type=Path, metavar="DIR", help="write DIR/OF.FORMAT, not print (page, figures: default here)")
    add("--split", choices=("test", "dev"), default="test", help="scores on which split (default test)")
    add("--protocol", metavar="P", help="only the records of this protocol")
    add("--trace", metavar="MODEL,TASK", help="scores: print the records behind a cell")
    add("--published", action="store_true", default=None, help="scores: rows of published scores below (md, tex)")
    add("--teacher", metavar="NAME", help="compare, page: the model that the others are held against")
    add("--models", metavar="LIST", help="compare: names, with commas (default: all others)")
    add("--tasks", metavar="LIST", help="figures: names, with commas (default: all)")
    add("--into", type=Path, metavar="FILE", help="bench: put the table between the markers in this file")
    flags = [flag for action in parser._actions for flag in action.option_strings]
    parser.set_defaults(run=lambda options, rest: run(options, rest, flags))


def run(options: argparse.Namespace, rest: list[str], flags: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    refuse_unknown(rest, flags)
    for flag, of in _BELONGS.items():
        if getattr(options, flag) is not None and options.of not in of:
            raise UserError(f"goes with `tables {' or '.join(of)}`", where=f"--{flag}")
    forms = _FORMATS[options.of]
    if options.format not in (None, *forms):
        raise UserError(
            f"`tables {options.of}` has no such form", where=f"--format {options.format}", remedy=" or ".join(forms)
        )
    options.format = options.format or forms[0]

    from compact_biomed.report.records import read_lines

    return _MAKERS[options.of](options, read_lines(options.records))


def _bench(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.bench_table import bench_table, put_between_markers

    table = bench_table(lines)
    if options.into:
        put_between_markers(options.into, table)
        return 0
    return _give(options, table)


def _scores(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.published import rows_beside
    from compact_biomed.report.render import FORMATS
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines), split=options.split, intervals=not options.trace)
    if options.trace:
        return _trace(table, options.trace)
    if not options.published:
        return _give(options, FORMATS[options.format](table))
    if options.format == "csv":
        raise UserError("published scores go with md and tex", where="--published")
    return _give(options, FORMATS[options.format](table, rows_beside(table.columns, options.split)))


def _families(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.families import family_table
    from compact_biomed.report.render import FORMATS
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines), split=options.split, intervals=False)
    return _give(options, FORMATS[options.format](family_table(table)))


def _compare(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.comparison import compare
    from compact_biomed.report.render_comparison import FORMATS

    if options.teacher is None:
        raise UserError("no teacher to compare with", where="compare", remedy="name a model of the records: --teacher")
    found = compare(_chosen(options, lines), options.teacher, models=_names(options.models), split=options.split)
    return _give(options, FORMATS[options.format](found, options.teacher))


def _page(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.page import page

    options.output = options.output or Path()
    return _give(options, page(_chosen(options, lines), teacher=options.teacher, split=options.split))


def _figures(options: argparse.Namespace, lines) -> int:
    from compact_biomed.console import say
    from compact_biomed.files import atomic_file
    from compact_biomed.report.figures import size_figure
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines), split=options.split)
    path = (options.output or Path()) / f"figures.{options.format}"
    with atomic_file(path) as temporary:
        size_figure(table, temporary, tasks=_names(options.tasks), form=options.format)
    say(f"figures: {path}")
    return 0


_MAKERS = {
    "scores": _scores,
    "families": _families,
    "compare": _compare,
    "page": _page,
    "figures": _figures,
    "bench": _bench,
}


def _chosen(options: argparse.Namespace, lines) -> list:
    from compact_biomed.report.records import score_lines

    return [line for line in score_lines(lines) if options.protocol in (None, line.record["protocol"]["name"])]


def _names(listed: str | None) -> list[str] | None:
    return [name.strip() for name in listed.split(",")] if listed else None


def _trace(table, cell: str) -> int:
    import json

    model, _, task = (part.strip() for part in cell.rpartition(","))
    lines = {
        line.where: line
        for (m, c), found in table.cells.items()
        if (m, c.task) == (model, task)
        for line in found.lines
    }
    if not lines:
        known = "; ".join(sorted({f"{m},{c.task}" for m, c in table.cells}))
        raise UserError("no such cell", where=f"--trace {cell}", remedy=f"one of {known}")
    for where, line in lines.items():
        print(f"{where}: {json.dumps(line.record, ensure_ascii=False)}")
    return 0


def _give(options: argparse.Namespace, text: str) -> int:
    """Print, or write DIR/OF.FORMAT."""
    if options.output is None:
        print(text, end="")
        return 0
    from compact_biomed.console import say
    from compact_biomed.files import atomic_file

    path = options.output / f"{options.of}.{options.format}"
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"{options.of}: {path}")
    return 0
