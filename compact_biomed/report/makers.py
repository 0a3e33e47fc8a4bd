"""What `compact-biomed tables OF` makes of records: one function each, (options, lines) -> exit status."""

import argparse
from pathlib import Path

from compact_biomed.errors import UsageError, UserError


def _bench(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.bench_table import bench_table

    return _give_or_put(options, bench_table(lines))


def _inference(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.inference_table import inference_rows

    return _give_or_put(options, inference_rows((line.record for line in lines), most_cores=options.into is not None))


def _scores(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.published import rows_beside
    from compact_biomed.report.render import FORMATS
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines), intervals=not options.trace)
    if options.trace:
        return _trace(table, options.trace)
    if not options.published:
        return _give(options, FORMATS[options.format](table))
    if options.format == "csv":
        raise UsageError("published scores go with md and tex", where="--published")
    return _give(options, FORMATS[options.format](table, rows_beside(table.columns, "test")))


def _families(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.families import family_table
    from compact_biomed.report.render import FORMATS
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines), intervals=False)
    return _give(options, FORMATS[options.format](family_table(table)))


def _compare(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.comparison import compare
    from compact_biomed.report.render_comparison import FORMATS

    if options.teacher is None:
        raise UsageError("no teacher to compare with", where="compare", remedy="name a model of the records: --teacher")
    found = compare(_chosen(options, lines), options.teacher, models=_names(options.models))
    return _give(options, FORMATS[options.format](found, options.teacher))


def _gap(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.gap import gaps, markdown

    if options.baseline is None:
        raise UsageError("no baseline", where="gap", remedy="name a model of the records: --baseline")
    chosen = _chosen(options, lines)
    found = gaps(chosen, options.baseline, teacher=options.teacher, models=_names(options.models))
    return _give(options, markdown(found))


def _page(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.page import page
    from compact_biomed.report.speeds import speeds_of

    options.output = options.output or Path()
    speeds = speeds_of(line.record for line in lines)
    return _give(options, page(_chosen(options, lines), teacher=options.teacher, speeds=speeds))


def _figures(options: argparse.Namespace, lines) -> int:
    from compact_biomed.console import say
    from compact_biomed.files import atomic_file
    from compact_biomed.report.figures import size_figure
    from compact_biomed.report.tables import build_table

    table = build_table(_chosen(options, lines))
    path = (options.output or Path()) / f"figures.{options.format}"
    with atomic_file(path) as temporary:
        size_figure(table, temporary, tasks=_names(options.tasks), form=options.format)
    say(f"figures: {path}")
    return 0


def _claims(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.claims import judge
    from compact_biomed.report.render_claims import markdown

    chosen = _chosen(options, lines)
    return _give(options, markdown(judge(chosen), judge(chosen, on_pieces=True)))


def _pretraining(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.pretraining_table import markdown

    return _give(options, markdown(lines))


def _ablation(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.ablation_table import markdown

    return _give(options, markdown(lines))


def _manuscript(options: argparse.Namespace, lines) -> int:
    from compact_biomed.console import say
    from compact_biomed.report.manuscript import write_manuscript

    if options.output is None:
        raise UserError("no folder to write to", where="manuscript", remedy="--output paper/generated")
    write_manuscript(lines, options.output)
    say(f"manuscript: {options.output}")
    return 0


def _chosen(options: argparse.Namespace, lines) -> list:
    from compact_biomed.report.records import score_lines

    scores = score_lines(lines)
    chosen = [line for line in scores if options.protocol in (None, line.record["protocol"]["name"])]
    if scores and not chosen:
        known = sorted({line.record["protocol"]["name"] for line in scores})
        raise UserError(
            "no scores by this protocol", where=f"--protocol {options.protocol}", remedy=f"there are {known}"
        )
    return chosen


def _names(listed: str | None) -> list[str] | None:
    return [name.strip() for name in listed.split(",")] if listed else None


def _trace(table, cell: str) -> int:
    import json

    # Names may hold commas: any of them can be the one between model and task.
    halves = [(cell[:i].strip(), cell[i + 1 :].strip()) for i, sign in enumerate(cell) if sign == ","]
    lines = {line.where: line for (m, c), found in table.cells.items() if (m, c.task) in halves for line in found.lines}
    if not lines:
        known = "; ".join(sorted({f"{m},{c.task}" for m, c in table.cells}))
        raise UserError("no such cell", where=f"--trace {cell}", remedy=f"one of {known}")
    for where, line in lines.items():
        print(f"{where}: {json.dumps(line.record, ensure_ascii=False)}")
    return 0


def _give_or_put(options: argparse.Namespace, table: str) -> int:
    """As `_give`, or into the document that --into names."""
    if options.into is None:
        return _give(options, table)
    from compact_biomed.report.markers import put_between_markers

    put_between_markers(options.into, options.of, table)
    return 0


def _give(options: argparse.Namespace, text: str) -> int:
    """Print, or write DIR/OF.FORMAT."""
    if options.output is None:
        print(text, end="")
        return 0
    from compact_biomed.console import say
    from compact_biomed.files import write_text

    path = options.output / f"{options.of}.{options.format}"
    write_text(path, text)
    say(f"{options.of}: {path}")
    return 0


MAKERS = {
    "scores": _scores,
    "families": _families,
    "compare": _compare,
    "gap": _gap,
    "page": _page,
    "figures": _figures,
    "claims": _claims,
    "ablation": _ablation,
    "pretraining": _pretraining,
    "bench": _bench,
    "inference": _inference,
    "manuscript": _manuscript,
}
