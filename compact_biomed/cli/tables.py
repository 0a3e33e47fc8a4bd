"""`compact-biomed tables`: make tables, a page and figures from records."""

import argparse
from pathlib import Path

from compact_biomed.cli.flags import add_threads, strict
from compact_biomed.errors import UsageError, flag_of
from compact_biomed.files import require_writable_at

# ---- One function per kind of table: (options, lines) -> exit status


def _scores(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.grid import score_grid
    from compact_biomed.report.published import rows_beside
    from compact_biomed.report.scores import scores_by_row, scores_table, trace

    grid = score_grid(_chosen(options, lines), intervals=not options.trace)
    if options.trace:
        print(trace(grid, options.trace), end="")
        return 0
    if options.format == "csv":
        if options.published:
            raise UsageError("published scores are only in md and tex tables", where="--published")
        return _render(options, scores_by_row(grid))
    return _render(options, scores_table(grid, rows_beside(grid.columns) if options.published else ()))


def _families(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.family import family_grid
    from compact_biomed.report.grid import score_grid
    from compact_biomed.report.scores import scores_by_row, scores_table

    grid = family_grid(score_grid(_chosen(options, lines), intervals=False))
    return _render(options, scores_by_row(grid) if options.format == "csv" else scores_table(grid))


def _compare(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.compare import compare, comparison_table

    if options.teacher is None:
        raise UsageError("no teacher to compare with", where="compare", remedy="name a model of the records: --teacher")
    compared = compare(_chosen(options, lines), options.teacher, models=_names(options.models))
    return _render(options, comparison_table(compared, options.teacher))


def _gap(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.gap import gap_table, gaps

    if options.baseline is None:
        raise UsageError("no baseline", where="gap", remedy="name a model of the records: --baseline")
    chosen = _chosen(options, lines)
    return _render(
        options, gap_table(gaps(chosen, options.baseline, teacher=options.teacher, models=_names(options.models)))
    )


def _claims(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.claims import claims_tables, judge
    from compact_biomed.report.grid import score_grid
    from compact_biomed.report.scores import not_counted_notes

    chosen = _chosen(options, lines)
    grid = score_grid(chosen, intervals=False)
    left_out = not_counted_notes(grid, grid.columns)
    tables = claims_tables(judge(chosen), judge(chosen, on_pieces=True), left_out)
    return _render(options, *tables, title="The claims, judged by the records")


def _pretraining(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.trainings import pretraining_table

    return _render(options, pretraining_table(lines))


def _ablation(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.trainings import ablation_tables

    tables = ablation_tables(lines)
    return _render(options, *tables)


def _bench(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.speed import step_table

    return _render(options, step_table(lines))


def _inference(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.speed import inference_table

    records = (line.record for line in lines)
    return _render(options, inference_table(records, most_cores=options.into is not None))


def _gpu(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.speed import gpu_table

    return _render(options, gpu_table(line.record for line in lines))


def _page(options: argparse.Namespace, lines) -> int:
    from compact_biomed.report.page.page import page
    from compact_biomed.report.speed import speeds_of

    options.output = options.output or Path()
    speeds = speeds_of(line.record for line in lines)
    return _give(options, page(_chosen(options, lines), teacher=options.teacher, speeds=speeds))


def _figures(options: argparse.Namespace, lines) -> int:
    from compact_biomed.console import say
    from compact_biomed.files import atomic_file
    from compact_biomed.report.data_sets import plain_names
    from compact_biomed.report.figures import size_figure
    from compact_biomed.report.grid import score_grid
    from compact_biomed.report.panels import chosen_panels
    from compact_biomed.report.protocols import protocols_by_model

    chosen = _chosen(options, lines)
    grid = score_grid(chosen)
    options.output = options.output or Path()
    path = _output_file(options)
    tasks = plain_names(chosen, _names(options.tasks))
    chosen_panels(grid, tasks)  # refuses what cannot be drawn before the folder is made
    with atomic_file(path) as temporary:
        size_figure(grid, temporary, tasks=tasks, form=options.format)
    say(f"figures: {path}")
    for model, protocol in protocols_by_model(grid.ways).items():  # a figure has no room for them
        say(f"  {model}: protocol {protocol}")
    return 0


def _manuscript(options: argparse.Namespace, lines) -> int:
    from compact_biomed.console import say
    from compact_biomed.report.manuscript.write import write_manuscript

    if options.output is None:
        raise UsageError("no folder to write to", where="manuscript", remedy="--output paper/generated")
    write_manuscript(lines, options.output)
    say(f"manuscript: {options.output}")
    return 0


def _chosen(options: argparse.Namespace, lines) -> list:
    from compact_biomed.records.lines import score_lines
    from compact_biomed.report.data_sets import choose_tasks

    scores = score_lines(lines)
    chosen = [line for line in scores if options.protocol in (None, line.record["protocol"]["name"])]
    if scores and not chosen:
        known = sorted({line.record["protocol"]["name"] for line in scores})
        raise UsageError(
            "no scores by this protocol", where=f"--protocol {options.protocol}", remedy=f"one of {', '.join(known)}"
        )
    return choose_tasks(chosen, _names(options.tasks))


def _names(listed: str | None) -> list[str] | None:
    """Split at commas, except within brackets: "a, b (standard, epochs 3)" are two names."""
    if not listed:
        return None
    parts, depth = [""], 0
    for character in listed:
        depth += {"(": 1, ")": -1}.get(character, 0)
        if character == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += character
    return list(dict.fromkeys(name.strip() for name in parts))


def _render(options: argparse.Namespace, *tables, title: str = "") -> int:
    """Render tables in the requested format, and print, write or insert them."""
    from compact_biomed.report.render import FORMATS, markdown_document, markdown_rows, put_between_markers

    if options.into is not None:
        if options.format != "md":
            raise UsageError(
                "only Markdown can be written into a document", where=f"--format {options.format}", remedy="md"
            )
        put_between_markers(options.into, options.of, "".join(map(markdown_rows, tables)))
        return 0
    if options.format == "md" and options.of in ("claims", "ablation"):
        return _give(options, markdown_document(tables, title))
    return _give(options, "\n".join(map(FORMATS[options.format], tables)))


def _give(options: argparse.Namespace, text: str) -> int:
    """Print, or write DIR/OF.FORMAT."""
    if options.output is None:
        print(text, end="")
        return 0
    from compact_biomed.console import say
    from compact_biomed.files import write_text

    path = _output_file(options)
    write_text(path, text)
    say(f"{options.of}: {path}")
    return 0


def _output_file(options: argparse.Namespace) -> Path:
    return options.output / f"{options.of}.{options.format}"


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
    "gpu": _gpu,
    "manuscript": _manuscript,
}


_EPILOG = """\
examples:
  compact-biomed tables --records results/sketch/evaluation.jsonl --published
  compact-biomed tables --records results/sketch/evaluation.jsonl --trace "BioMiniLM,NCBI-disease"
  compact-biomed tables --records runs.jsonl --tasks topics,NCBI-disease
  compact-biomed tables families --records results/sketch/evaluation.jsonl
  compact-biomed tables compare --records results/sketch/evaluation.jsonl --teacher BioMiniLM --models TinyBioBERT
  compact-biomed tables gap --records runs.jsonl --baseline STUDENT --teacher TEACHER
  compact-biomed tables claims --records results/sketch/evaluation.jsonl --output DIR
  compact-biomed tables page --records results/sketch/evaluation.jsonl --teacher BioMiniLM --output DIR
  compact-biomed tables figures --records results/sketch/evaluation.jsonl --tasks NCBI-disease --format pdf
  compact-biomed tables bench --records results/speed/step.jsonl --into docs/speed.md
  compact-biomed tables inference --records results/speed/inference.jsonl --into docs/speed.md
  compact-biomed tables manuscript --records results/{sketch,tasks,ablations,speed,compression}/*.jsonl \
      --output paper/generated
"""
_OF_TABLES = ("md", "csv", "tex")
_OTHERS = {"page": ("html",), "figures": ("svg", "png", "pdf"), "manuscript": ("tex",)}
_FORMATS = {of: _OTHERS.get(of, _OF_TABLES) for of in MAKERS}  # the first is the default
_BELONGS = {
    "trace": ("scores",),
    "published": ("scores",),
    "teacher": ("compare", "gap", "page"),
    "baseline": ("gap",),
    "models": ("compare", "gap"),
    "tasks": ("scores", "families", "compare", "gap", "page", "figures"),
    "into": ("bench", "inference", "gpu"),
}


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Declare the verb `tables`."""
    parser = subparsers.add_parser(
        "tables",
        help="make tables, a page and figures from records",
        description="Make tables from records (JSON Lines): models by tasks, mean and standard deviation over seeds.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    of = (
        "scores (default), means over tasks of one kind (families), comparisons with a teacher, gains over a baseline "
        "and the share of the gap to the teacher that they close, one HTML page, figures of size against score, the "
        "paper's claims, ablations, pretraining runs, speed of the training step (bench), size and speed of "
        "inference, speed on GPUs, or everything that the manuscript in paper/ reads"
    )
    add("of", nargs="?", choices=tuple(_FORMATS), default="scores", metavar="OF", help=f"{', '.join(_FORMATS)}: {of}")
    add("--records", nargs="+", type=Path, required=True, metavar="FILE", help="files of records")
    forms = tuple(dict.fromkeys(form for forms in _FORMATS.values() for form in forms))
    add("--format", choices=forms, help="md (default), csv or tex; figures: svg (default), png or pdf")
    where = "write DIR/OF.FORMAT instead of printing (page, figures: default: this folder; manuscript: several files)"
    add("--output", type=Path, metavar="DIR", help=where)
    add("--protocol", metavar="P", help="only the records of this protocol")
    add("--trace", metavar="MODEL,TASK", help="scores: print where a cell comes from: records, settings, commands")
    add("--published", action="store_true", default=None, help="scores: add rows of published scores (md, tex)")
    add("--teacher", metavar="NAME", help="compare, gap, page: compare the other models with this one")
    add("--baseline", metavar="NAME", help="gap: measure gains over this model")
    add("--models", metavar="LIST", help="compare, gap: names separated by commas (default: all others)")
    tasks = (
        "scores, families, compare, gap, page, figures: names separated by commas (default: all); NAME@SHA256 is one "
    )
    add("--tasks", metavar="LIST", help=f"{tasks}of several data sets of one name")
    add(
        "--into",
        type=Path,
        metavar="FILE",
        help="bench, inference, gpu: put the table between the markers in this file",
    )
    add_threads(parser)
    parser.set_defaults(run=strict(parser, run))


def run(options: argparse.Namespace) -> int:
    """Make the requested tables, page or figures; return the exit status."""
    for name, of in _BELONGS.items():
        if getattr(options, name) is not None and options.of not in of:
            raise UsageError(f"only applies to `tables {' or '.join(of)}`", where=flag_of(name))
    forms = _FORMATS[options.of]
    if options.format not in (None, *forms):
        raise UsageError(
            f"`tables {options.of}` has no such format", where=f"--format {options.format}", remedy=" or ".join(forms)
        )
    options.format = options.format or forms[0]
    if options.output is not None:
        require_writable_at(_output_file(options))

    from compact_biomed.records.lines import read_lines

    return MAKERS[options.of](options, read_lines(options.records))
