"""`compact-biomed tables`: tables made from records."""

import argparse
from pathlib import Path

from compact_biomed.errors import UserError, refuse_unknown

_EPILOG = """\
examples:
  compact-biomed tables --records results/evaluation.jsonl
  compact-biomed tables --records results/evaluation.jsonl --trace "biominilm,NCBI-disease"
  compact-biomed tables compare --records results/evaluation.jsonl --teacher biominilm --models distilled,tiny
  compact-biomed tables claims --records results/evaluation.jsonl --output results
  compact-biomed tables bench --records results/bench/step.jsonl --into README.md
"""
_BELONGS = {"trace": "scores", "teacher": "compare", "models": "compare", "into": "bench"}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `tables`."""
    parser = subparsers.add_parser(
        "tables",
        help="records -> tables",
        description="Make tables from records (JSON Lines): models by tasks, mean and deviation over seeds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    of = "scores (default), comparisons with a teacher, the paper's claims, ablations, trainings, speed of the step"
    add("of", nargs="?", choices=tuple(_MAKE), default="scores", metavar="OF", help=f"{', '.join(_MAKE)}: {of}")
    add("--records", nargs="+", type=Path, required=True, metavar="FILE", help="files of records")
    add("--format", choices=("md", "csv", "tex"), default="md", help="Markdown (default), CSV or LaTeX")
    add("--output", type=Path, metavar="DIR", help="write DIR/scores.FORMAT (compare.FORMAT, OF.md), not print")
    add("--split", choices=("test", "dev"), default="test", help="scores on which split (default test)")
    add("--protocol", metavar="P", help="only the records of this protocol")
    add("--trace", metavar="MODEL,TASK", help="print the records behind a cell")
    add("--teacher", metavar="NAME", help="compare: the model that the others are held against")
    add("--models", metavar="LIST", help="compare: names, with commas (default: all others)")
    add("--into", type=Path, metavar="FILE", help="bench: put the table between the markers in this file")
    flags = [flag for action in parser._actions for flag in action.option_strings]
    parser.set_defaults(run=lambda options, rest: run(options, rest, flags))


def run(options: argparse.Namespace, rest: list[str], flags: list[str]) -> int:
    """Do what the command line says; return the exit status."""
    refuse_unknown(rest, flags)
    for flag, of in _BELONGS.items():
        if getattr(options, flag) is not None and options.of != of:
            raise UserError(f"goes with `tables {of}`", where=f"--{flag}")

    from compact_biomed.report.records import read_lines

    lines = read_lines(options.records)
    return _MAKE[options.of](options, lines)


def _bench(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.bench_table import bench_table, put_between_markers

    table = bench_table(lines)
    if options.into:
        put_between_markers(options.into, table)
        return 0
    return _give(table, options.output and options.output / "bench.md")


def _scores(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.render import FORMATS
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines), split=options.split, intervals=not options.trace)
    if options.trace:
        return _trace(table, options.trace)
    return _give(FORMATS[options.format](table), options.output and options.output / f"scores.{options.format}")


def _compare(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.comparison import compare
    from compact_biomed.report.render_comparison import FORMATS

    if options.teacher is None:
        raise UserError("no teacher to compare with", where="compare", remedy="name a model of the records: --teacher")
    models = [name.strip() for name in options.models.split(",")] if options.models else None
    found = compare(_chosen(options, lines), options.teacher, models=models, split=options.split)
    text = FORMATS[options.format](found, options.teacher)
    return _give(text, options.output and options.output / f"compare.{options.format}")


def _claims(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.claims import judge
    from compact_biomed.report.render_claims import markdown

    chosen = _chosen(options, lines)
    return _give(
        markdown(judge(chosen), judge(chosen, on_pieces=True)), options.output and options.output / "claims.md"
    )


def _pretraining(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.pretraining_table import markdown

    return _give(markdown(lines), options.output and options.output / "pretraining.md")


def _ablation(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.ablation_table import markdown

    return _give(markdown(lines), options.output and options.output / "ablation.md")


def _chosen(options: argparse.Namespace, lines) -> list:
    from compact_biomed.report.records import score_lines

    return [line for line in score_lines(lines) if options.protocol in (None, line.record["protocol"]["name"])]


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


def _give(text: str, path: Path | None) -> int:
    if path is None:
        print(text, end="")
        return 0
    from compact_biomed.console import say
    from compact_biomed.files import atomic_file

    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"table: {path}")
    return 0


_MAKE = {
    "scores": _scores,
    "compare": _compare,
    "claims": _claims,
    "ablation": _ablation,
    "pretraining": _pretraining,
    "bench": _bench,
}
