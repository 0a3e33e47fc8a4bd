"""Write the tables, the figure, the page and the README's table of a reproduction, from its records alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.files import atomic_file, write_text
from compact_biomed.records import Line, read_lines, score_lines
from compact_biomed.report import claims, gap, render, trainings
from compact_biomed.report.claims import headline
from compact_biomed.report.compare import FORMATS as COMPARISONS
from compact_biomed.report.compare import compare
from compact_biomed.report.family import FAMILY, GENERAL, TEACHER, family_table
from compact_biomed.report.figures import size_figure
from compact_biomed.report.gap import FOLDER, compression_gains
from compact_biomed.report.measured import Table, build_table
from compact_biomed.report.page.page import page_of
from compact_biomed.report.published import rows_beside
from compact_biomed.report.render import put_between_markers
from compact_biomed.report.speed import speeds_of
from compact_biomed.reproduce.plan import REPRODUCTION, Places

HEADLINE = "headline"  # name of the markers in the README
Made = Iterator[tuple[str, str]]  # names of files in the folder of results, and their content
T = TypeVar("T")


def write_tables(places: Places) -> list[Path]:
    """Write everything that can be made from the records into the folder of results; report what cannot be made.

    The same records give the same bytes. Without scores the README is not changed.

    Returns:
        The files that were written, without the README.

    Raises:
        UserError: the records do not fit together, or the README lacks the markers of its table.
    """
    lines = score_lines(read_lines([places.evaluation], missing_ok=True))
    table = build_table(lines) if lines else None
    made = [*_of_trainings(places), *_of_ablations(places), *_of_claims(lines)]
    gains = compression_gains(read_lines(sorted((places.results / FOLDER).glob("*.jsonl"))))
    made += ((f"{FOLDER}/{name}.md", gap.markdown(found)) for name, found in gains.items())
    made += _of_scores(lines, table, places) if table else []
    for name, text in made:
        write_text(places.results / name, text)
    written = [places.results / name for name, _ in made]
    if table:
        written += _figures(places, table)
        _readme(places, lines, table, gains)
    say(f"tables: {len(written)} files in {places.results}")
    return written


def _of_trainings(places: Places) -> Made:
    if places.pretraining.is_file():
        yield f"{REPRODUCTION}/pretraining.md", trainings.pretraining_markdown(read_lines([places.pretraining]))


def _of_ablations(places: Places) -> Made:
    for file in sorted((places.results / "ablations").glob("*.jsonl")):
        yield f"ablations/{file.stem}.md", trainings.ablation_markdown(read_lines([file]))


def _of_claims(lines: Sequence[Line]) -> Made:
    yield f"{REPRODUCTION}/claims.md", claims.claims_markdown(claims.judge(lines), claims.judge(lines, on_pieces=True))


def _of_scores(lines: Sequence[Line], table: Table, places: Places) -> Made:
    published = rows_beside(table.columns)
    yield f"{REPRODUCTION}/scores.md", render.markdown(table, published)
    yield f"{REPRODUCTION}/scores.tex", render.latex(table, published)
    yield f"{REPRODUCTION}/scores.csv", render.comma_separated(table)
    if means := _if_possible("families", lambda: family_table(table)):
        for form, render_as in render.FORMATS.items():
            yield f"{REPRODUCTION}/families.{form}", render_as(means)
    # Without the controls: the claims compare each with its model, and every comparison weakens the others (Holm).
    family = [name for name in (*FAMILY, GENERAL) if name in table.models and name != TEACHER]
    compared = _if_possible("compare", lambda: compare(lines, TEACHER, models=family))
    if compared:
        for form, render_comparison in COMPARISONS.items():
            yield f"{REPRODUCTION}/compare.{form}", render_comparison(compared, TEACHER)
    measured = read_lines(sorted((places.results / "speed").glob("inference*.jsonl")))
    speeds = speeds_of(line.record for line in measured)
    yield (
        f"{REPRODUCTION}/page.html",
        page_of(table, compared or [], teacher=TEACHER if compared else None, speeds=speeds),
    )
    if scales := _if_possible("ablations/scoring_scale", lambda: trainings.scales_markdown(lines)):
        yield "ablations/scoring_scale.md", scales


def _figures(places: Places, table: Table) -> list[Path]:
    path = places.results / REPRODUCTION / "figures.svg"

    def draw() -> list[Path]:
        with atomic_file(path) as temporary:
            size_figure(table, temporary, form="svg")
        return [path]

    return _if_possible("figures", draw) or []


def _readme(places: Places, lines: Sequence[Line], table: Table, gains: Mapping[str, Sequence[gap.Gap]]) -> None:
    if places.readme and (text := _if_possible("table of the README", lambda: headline(table, lines))):
        put_between_markers(places.readme, HEADLINE, text)
        for name, found in gains.items():
            put_between_markers(places.readme, name, gap.rows([each for each in found if not each.column.on_pieces]))
        say(f"headline table: {places.readme}")


def _if_possible(name: str, make: Callable[[], T]) -> T | None:
    """Return what `make` returns; where the records are too few for it, print the reason and return None."""
    try:
        return make()
    except UserError as error:
        say(f"no {name}: {error}")
        return None
