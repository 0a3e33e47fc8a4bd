"""Write the tables, the figure, the page and the README's table of a reproduction, from its records alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from compact_biomed.console import count, say
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, write_text
from compact_biomed.records.lines import Line, read_lines, score_lines
from compact_biomed.report.claims import claims_tables, judge
from compact_biomed.report.claims_of_tasks import judge_tasks, task_claims_tables
from compact_biomed.report.compare import compare, comparison_table
from compact_biomed.report.compressed import Compressed, compressed_models
from compact_biomed.report.compressed_tables import compressed_table, headline_of_compressed
from compact_biomed.report.family import FAMILY, GENERAL, TEACHER, family_grid
from compact_biomed.report.figures import size_figure
from compact_biomed.report.gap import FOLDER, Gap, compression_gains, gap_table
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.headline import headline_table
from compact_biomed.report.page.page import page_of
from compact_biomed.report.published import rows_beside
from compact_biomed.report.render import FORMATS, markdown, markdown_document, markdown_rows, put_between_markers
from compact_biomed.report.scores import not_counted_notes, scores_by_row, scores_table
from compact_biomed.report.speed import speeds_of
from compact_biomed.report.trainings import ablation_tables, pretraining_table, scales_table
from compact_biomed.reproduce.steps import ReproductionPaths

HEADLINE, TASKS = "headline", "tasks"  # names of the markers in the README; TASKS: in that of the results, too
COPIES = {  # kind of compression -> the page, from the README's folder, that shows a copy of its table
    "task_distillation": "docs/distillation.md",
    "int8": "docs/use.md",
    "pruning": "docs/use.md",
}
Files = Iterator[tuple[str, str]]  # names of files in the folder of results, and their content
T = TypeVar("T")


def write_tables(paths: ReproductionPaths) -> list[Path]:
    """Write everything that can be made from the records into the folder of results; report what cannot be made.

    The same records give the same bytes. Without scores the README is not changed.

    Returns:
        The files that were written, without the README.

    Raises:
        UserError: the records do not fit together, or the README lacks the markers of its table.
    """
    lines = score_lines(read_lines([paths.evaluation], missing_ok=True))
    models = _compressed(paths, lines)
    teacher = TEACHER
    if models and not {line.model for line in lines} & {*FAMILY, GENERAL}:  # a study of task distillation alone
        lines, teacher = list(models.lines), models.teacher
    grid = score_grid(lines) if lines else None
    files = [*_of_trainings(paths), *_of_claims(lines, grid, models, paths)]
    gains = {}
    if paths.shown:  # studies beside the reproduction, whose models are those of the shown preset
        gains = compression_gains(read_lines(sorted((paths.results / FOLDER).glob("*.jsonl"))))
        files += _of_ablations(paths)
        files += ((f"{FOLDER}/{name}.md", markdown(gap_table(of_kind))) for name, of_kind in gains.items())
    files += _of_scores(lines, grid, teacher, paths) if grid else []
    files += [(f"{paths.study}/compressed.md", markdown(compressed_table(models)))] if models else []
    for name, text in files:
        write_text(paths.results / name, text)
    written = [paths.results / name for name, _ in files]
    if grid:
        written += _figures(paths, grid)
        _readme(paths, lines, grid, gains)
    if models and paths.readme and paths.shown_tasks:
        headline = markdown(headline_of_compressed(models))
        for page in (paths.readme, paths.results / "README.md"):
            put_between_markers(page, TASKS, headline)
    say(f"tables: {len(written)} files in {paths.results}")
    if (page := paths.results / paths.study / "page.html") in written:
        say(f"Next: open {page} in a browser")
    return written


def scale_in_words(paths: ReproductionPaths) -> str:
    """Return the preset and how much text its models read, by the records; "" without trainings."""
    lines = read_lines([paths.pretraining], missing_ok=True)
    tokens = sorted({line.record["tokens"] for line in lines if line.record.get("tokens")})
    if not tokens:
        return ""
    most = f" to {count(tokens[-1])}" if len(tokens) > 1 else ""
    return f"preset {paths.study} ({count(tokens[0])}{most} tokens per model)"


def _of_trainings(paths: ReproductionPaths) -> Files:
    if paths.pretraining.is_file():
        yield f"{paths.study}/pretraining.md", markdown(pretraining_table(read_lines([paths.pretraining])))


def _compressed(paths: ReproductionPaths, evaluated: Sequence[Line]) -> Compressed | None:
    """Return the models that were made small for tasks, if there are any."""
    if not paths.compression.is_file():
        return None
    lines, timed = (read_lines([path], missing_ok=True) for path in (paths.compression, paths.speed))
    return _if_possible("compressed", lambda: compressed_models(lines, timed, evaluated))


def _of_ablations(paths: ReproductionPaths) -> Files:
    for file in sorted((paths.results / "ablations").glob("*.jsonl")):
        yield f"ablations/{file.stem}.md", markdown_document(ablation_tables(read_lines([file])))


def _of_claims(
    lines: Sequence[Line], grid: ScoreGrid | None, models: Compressed | None, paths: ReproductionPaths
) -> Files:
    """Yield the page of claims: the paper's where its models were measured, and those on task distillation."""
    documents = []
    if not models or {line.model for line in lines} & set(FAMILY):
        left_out = not_counted_notes(grid, grid.columns) if grid else ()
        tables = claims_tables(judge(lines), judge(lines, on_pieces=True), left_out)
        scale = scale_in_words(paths)
        heading = "The claims, judged by the records" + (f" of {scale}" if scale else "")
        documents.append(markdown_document(tables, heading))
    if models:
        tables = task_claims_tables(judge_tasks(models))
        documents.append(
            markdown_document(tables, f"Claims on task distillation, judged by the records of {paths.study}")
        )
    yield f"{paths.study}/claims.md", "\n".join(documents)


def _of_scores(lines: Sequence[Line], grid: ScoreGrid, teacher: str, paths: ReproductionPaths) -> Files:
    table = scores_table(grid, rows_beside(grid.columns))
    yield f"{paths.study}/scores.md", markdown(table)
    yield f"{paths.study}/scores.tex", FORMATS["tex"](table)
    yield f"{paths.study}/scores.csv", FORMATS["csv"](scores_by_row(grid))
    # Students of task distillation have another teacher on each task; their means are in the README's table.
    if teacher == TEACHER and (means := _if_possible("families", lambda: family_grid(grid))):
        yield f"{paths.study}/families.md", markdown(scores_table(means))
        yield f"{paths.study}/families.tex", FORMATS["tex"](scores_table(means))
        yield f"{paths.study}/families.csv", FORMATS["csv"](scores_by_row(means))
    # Without the controls: the claims compare each with its model, and every comparison weakens the others (Holm).
    family = [name for name in (*FAMILY, GENERAL) if name in grid.models and name != teacher]
    compared = _if_possible("compare", lambda: compare(lines, teacher, models=family))
    if compared:
        for form, render in FORMATS.items():
            yield f"{paths.study}/compare.{form}", render(comparison_table(compared, teacher))
    measured = read_lines(sorted((paths.results / "speed").glob("inference*.jsonl")))
    speeds = speeds_of(line.record for line in measured)
    named = teacher if compared else None
    yield f"{paths.study}/page.html", page_of(grid, compared or [], teacher=named, speeds=speeds)
    if paths.shown and (scales := _if_possible("ablations/scoring_scale", lambda: scales_table(lines))):
        yield "ablations/scoring_scale.md", markdown(scales)


def _figures(paths: ReproductionPaths, grid: ScoreGrid) -> list[Path]:
    path = paths.results / paths.study / "figures.svg"

    def draw() -> list[Path]:
        with atomic_file(path) as temporary:
            size_figure(grid, temporary, form="svg")
        return [path]

    return _if_possible("figures", draw) or []


def _readme(
    paths: ReproductionPaths, lines: Sequence[Line], grid: ScoreGrid, gains: Mapping[str, Sequence[Gap]]
) -> None:
    if (paths.readme and paths.shown) and (
        table := _if_possible("table of the README", lambda: headline_table(grid, lines, scale_in_words(paths)))
    ):
        put_between_markers(paths.readme, HEADLINE, markdown(table))
        for name, of_kind in gains.items():
            on_words = [gain for gain in of_kind if not gain.column.on_pieces]
            put_between_markers(paths.readme.parent / COPIES[name], name, markdown_rows(gap_table(on_words)))
        say(f"headline table: {paths.readme}")


def _if_possible(name: str, make: Callable[[], T]) -> T | None:
    """Return what `make` returns; where the records are too few for it, print the reason and return None."""
    try:
        return make()
    except UserError as error:
        say(f"no {name}: {error}")
        return None
