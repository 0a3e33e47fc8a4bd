"""Records -> the page: one section a family of tasks, then the sources and the records."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib import resources
from string import Template

from compact_biomed.errors import UserError
from compact_biomed.report.comparison import Comparison, compare
from compact_biomed.report.families import Family, families, family_means
from compact_biomed.report.page.markup import Markup, element, join
from compact_biomed.report.page.picture import legend, panel_svg
from compact_biomed.report.page.records_list import records_table
from compact_biomed.report.page.tables import cell_key, retention_table, score_table
from compact_biomed.report.panels import Panel, architectures, axis_bounds, panels
from compact_biomed.report.published import claims, rows_beside, sources_of
from compact_biomed.report.records import Line
from compact_biomed.report.render import footnotes, legend_of_scores
from compact_biomed.report.speeds import VARIANT, Speed
from compact_biomed.report.tables import Cell, Table, build_table


def page(
    lines: Sequence[Line],
    *,
    teacher: str | None = None,
    split: str = "test",
    speeds: Mapping[str, Speed] | None = None,
) -> str:
    """All scores as one HTML file that needs nothing else; the same records give the same bytes in any order.

    Args:
        teacher: name of the model that the others are held against; None = no section on retention.
        speeds: of models by their names; none = no pictures of speed.

    Raises:
        UserError: what `build_table` and `compare` refuse.
    """
    lines = sorted(lines, key=lambda line: line.record["run"])
    found = compare(lines, teacher, split=split) if teacher else []
    return page_of(build_table(lines, split=split), found, teacher=teacher, split=split, speeds=speeds)


def page_of(
    table: Table,
    found: Sequence[Comparison],
    *,
    teacher: str | None = None,
    split: str = "test",
    speeds: Mapping[str, Speed] | None = None,
) -> str:
    """`page`, of a table and comparisons with the teacher that are made already."""
    drawn = [panels(table), panels(table, speeds=speeds or {})]
    sections = [
        _section(table, family, found, teacher, [_pictures(each, family) for each in drawn], split)
        for family in families(table)
    ]
    style, script = _asset("page.css"), _asset("page.js")
    return Template(_asset("page.html")).substitute(
        style=style,
        script=script,
        style_hash=_hash(style),
        script_hash=_hash(script),
        about=_about(table, teacher, split),
        how_to_read=_how_to_read(table, speeds or {}),
        sections=join(sections, "\n"),
        sources=_sources(table, split),
        records=records_table(line for cell in table.cells.values() for line in cell.lines),
    )


def _pictures(drawn: Sequence[Panel], family: Family) -> Markup | str:
    """Those of a family, with the axis that all families share; those of one model say nothing."""
    of = {panel.column: panel for panel in drawn if len(panel.points) > 1}
    shown = [of[column] for column in family.columns if column in of]
    if not shown:
        return ""
    ends = axis_bounds(drawn)
    return element("div", *(_figure(panel, ends) for panel in shown), class_="panels")


def _section(
    table: Table,
    family: Family,
    found: Sequence[Comparison],
    teacher: str | None,
    pictures: Sequence[Markup | str],
    split: str,
) -> Markup:
    means, notes = _means(table, family)
    published = rows_beside(family.columns, split)
    parts = [
        element("h2", family.heading),
        score_table(table, family.columns, means, family.mean, published),
        _small([*footnotes({c: table.how[c] for c in family.columns}), *notes, *sources_of(published)]),
        *pictures,
    ]
    own = [each for each in found if each.column in family.columns]
    if own:
        parts += [
            element("h3", f"Retained of {teacher}"),
            retention_table(own, family.columns, table, teacher),
        ]
    return element("section", "\n", join(parts, "\n"), "\n")


def _means(table: Table, family: Family) -> tuple[dict[str, Cell], list[str]]:
    """Each model's mean over the family, or why there is none."""
    if len(family.columns) < 2:
        return {}, []
    try:
        return family_means(table, family), []
    except UserError as error:
        return {}, [f"No mean over the tasks: {error.what}."]


def _figure(panel: Panel, ends: tuple[float, float]) -> Markup:
    title = element("figcaption", element("button", panel.column.title, type="button", aria_expanded="false"))
    return element("figure", title, panel_svg(panel, ends, lambda model: cell_key(model, panel.column)))


def _about(table: Table, teacher: str | None, split: str) -> Markup:
    runs = {line.record["run"]: line.record for cell in table.cells.values() for line in cell.lines}
    tasks = {column.task for column in table.columns}
    dates = sorted(date[:10] for run in runs.values() if (date := (run.get("from") or {}).get("date")))
    said = [_count(len(table.models), "model"), _count(len(tasks), "task"), _count(len(runs), "run")]
    if dates:
        said.append(dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")
    said.append(f"{split} sets")
    if teacher:
        said.append(f"teacher {teacher}")
    return element("p", " · ".join(said), class_="about")


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}{'s' * (n != 1)}"


def _how_to_read(table: Table, speeds: Mapping[str, Speed]) -> Markup:
    names = architectures(table)
    return join([_small([
        f"In percent, higher is better. {legend_of_scores('±', '*')} Under a score: 95 % interval over test examples.",
        "Pictures: mean over seeds against the encoder's size; bars are those intervals, small points single "
        "seeds. Models of nearly the same size stand side by side.",
        *_about_speeds(speeds),
        "Point at a score or move to it by keyboard (arrows go on to its neighbors) to see the runs behind it; Enter "
        "or a click keeps them open, Esc closes. A click on a column's head sorts.",
    ]), legend(names) if len(names) > 1 else ""])  # fmt: skip


def _about_speeds(speeds: Mapping[str, Speed]) -> list[str]:
    if not speeds:
        return []
    how = sorted({f"{speed.length} tokens an input, {_count(speed.cores, 'core')}" for speed in speeds.values()})
    return [
        f"Pictures against speed: throughput as {VARIANT} ({'; '.join(how)}; compact-biomed bench inference), and the "
        "area of a sign is the size of that file. The scores are those of the models before they were quantized."
    ]


def _sources(table: Table, split: str) -> Markup:
    said = [*sources_of(rows_beside(table.columns, split))]
    if said:
        said += [f"{claim.text} ({claim.source.reference}; scale not stated)" for claim in claims()]
    return _small(said) if said else element("p", "No published scores are known for these tasks.")


def _small(said: Sequence[str]) -> Markup:
    return element("ul", *(element("li", each) for each in said), class_="notes")


def _asset(name: str) -> str:
    return resources.files("compact_biomed.report.page").joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Of an inline style or script, as a Content-Security-Policy names it: the browser runs these and no others."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
