"""Records -> the page: one section a family of tasks, then the sources and the records."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from string import Template
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.records import Line
from compact_biomed.report.compare import TESTS, Comparison, compare
from compact_biomed.report.family import Family, families, family_means
from compact_biomed.report.figures import Panel, architectures, axis_bounds, panels
from compact_biomed.report.measured import Cell, Column, Table, build_table
from compact_biomed.report.page.markup import Markup, element, join
from compact_biomed.report.page.picture import legend, panel_svg
from compact_biomed.report.published import Figure, Row, claims, columns_apart, rows_beside, sources_of
from compact_biomed.report.render import MISSING, footnotes, legend_of_scores
from compact_biomed.report.speed import VARIANT, Speed

# ----------------------------------------------------------------------------------------------------
# The records behind the cells, one row a run: what the page shows beside a cell, and lists at its end.


_HEAD = (
    "run", "model", "task", "seed", "fold", "scores", "learning rate", "epochs", "date", "revision", "device",
    "command",
)  # fmt: skip
_UNKNOWN = "not recorded"


def records_table(lines: Iterable[Line]) -> Markup:
    """All runs, sorted by model, task, seed and fold; each row's id is `run-RUN`."""
    distinct = {line.record["run"]: line for line in lines}
    ordered = sorted(distinct.values(), key=lambda each: (each.model, each.task, each.record["seed"], each.fold or 0))
    head = element("tr", *(element("th", name, scope="col") for name in _HEAD))
    rows = [
        element(
            "tr",
            *(element("td", text, data_name=name) for name, text in zip(_HEAD, _texts(line.record), strict=True)),
            id=row_id(line),
        )
        for line in ordered
    ]
    return element("table", element("thead", head), "\n", element("tbody", "\n", join(rows, "\n")), class_="records")


def row_id(line: Line) -> str:
    return f"run-{line.record['run']}"


def _texts(record: dict[str, Any]) -> list[str]:
    settings, origin, how = (record.get(part) or {} for part in ("settings", "from", "how"))
    fold = record["task"]["fold"]
    primary = record["task"]["metric"]
    scores = {name: value for name, value in record["metrics"].items() if name in (primary, f"piece_{primary}")}
    revision = (origin.get("revision") or _UNKNOWN)[:12]
    return [
        record["run"],
        record["model"]["name"],
        record["task"]["name"],
        str(record["seed"]),
        "" if fold is None else str(fold),
        ", ".join(f"{name} {value:.2f}" for name, value in sorted(scores.items())),
        _number(settings.get("learning_rate")),
        _number(settings.get("epochs")),
        str(origin.get("date", _UNKNOWN))[:10],
        revision + (", changed since" if origin.get("clean") is False else ""),
        str(how.get("device", _UNKNOWN)),
        str(origin.get("command", _UNKNOWN)),
    ]


def _number(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:g}"


# ----------------------------------------------------------------------------------------------------
# The page's tables: a family's scores, its published rows, and what models retain of a teacher.


_TESTS = dict(zip(TESTS, ("over examples", "over seeds, t-test", "over seeds, Wilcoxon"), strict=True))


@dataclass(frozen=True)
class Shown:
    """What a table's cell shows.

    Args:
        value: what the column is sorted by.
        main, beside, below: large, small after it, small under it.
        title: of the panel that says more.
        notes: lines of that panel.
        lines: the records behind it.
        kind: a class of the style sheet.
    """

    value: float
    main: str
    beside: str = ""
    below: str = ""
    title: str = ""
    notes: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()
    kind: str = "measured"


def cell_key(model: str, column: Column) -> str:
    """The title of a cell's panel, by which pictures find it."""
    return f"{model}: {column.title}"


def of_cell(model: str, column: Column, cell: Cell) -> Shown:
    """A measured score."""
    summary, interval = cell.summary, cell.interval
    deviation = f" ± {summary.deviation:.2f}" if summary.deviation is not None else ""
    notes = [f"95 % interval over test examples: {interval.low:.2f} to {interval.high:.2f}"] if interval else []
    return Shown(
        value=summary.mean,
        main=f"{summary.mean:.2f}",
        beside=f"{deviation} ({summary.n}){'*' if cell.marked else ''}",
        below=f"{interval.low:.1f} to {interval.high:.1f}" if interval else "",
        title=cell_key(model, column),
        notes=(*notes, *cell.notes),
        lines=cell.lines,
    )


def of_figure(row: Row, value: float, figure: Figure) -> Shown:
    """A published score."""
    scores = ", ".join(f"{metric} {score:.2f}" for metric, score in figure.metrics.items())
    notes = (
        "published, not measured here",
        f"scale: {figure.scale}" + (" (see the source)" if figure.scale == "word-pieces" else ""),
        f"as published: {scores}",
        f"source: {row.source.reference}" + (f", read in: {figure.read_in}" if figure.read_in else ""),
        row.source.about,
    )
    return Shown(value, f"{value:.2f}", title=f"{row.model}: {figure.task}", notes=notes, kind="published")


def of_comparison(each: Comparison, lines: tuple[Line, ...], teacher: str) -> Shown:
    """What a model retains."""
    if each.retained is None:
        return Shown(float("-inf"), "n/a", title=f"{each.model}: {each.column.title}", notes=each.notes)
    interval = each.interval
    notes = [f"{each.scores.mean:.2f} over {teacher}'s {each.of_teacher.mean:.2f}"]
    if interval:
        notes.append(f"95 % interval over examples and seeds: {100 * interval.low:.1f} to {100 * interval.high:.1f} %")
    notes += [
        f"p, {name}: {each.p[test]:.2g} (corrected {each.holm[test]:.2g})"
        for test, name in _TESTS.items()
        if each.p[test] is not None
    ]
    return Shown(
        value=each.retained,
        main=f"{100 * each.retained:.1f} %",
        beside="*" if each.marked else "",
        below=f"{100 * interval.low:.1f} to {100 * interval.high:.1f}" if interval else "",
        title=f"{each.model}: {each.column.title}, retained of {teacher}",
        notes=(*notes, *each.notes),
        lines=lines,
    )


def score_table(
    table: Table, columns: Sequence[Column], means: Mapping[str, Cell], mean: Column, published: Sequence[Row]
) -> Markup:
    """A family's scores: size and architecture, one column a task, the mean if there is one; published rows apart."""
    models = [model for model in table.models if any((model, column) in table.cells for column in columns)]
    apart = columns_apart(columns, published)
    rows = []
    for model in models:
        own = {column: table.cells[model, column] for column in columns if (model, column) in table.cells}
        recorded = next(iter(own.values())).lines[0].record["model"]
        about = recorded | {"encoder_parameters": table.encoder_parameters.get(model)}
        cells = [score_td(of_cell(model, column, own[column]) if column in own else None) for column in columns]
        if means:
            whole = model in means
            cells.append(score_td(of_cell(model, mean, means[model]) if whole else None, missing="not all tasks"))
        cells += [element("td", class_="none") for _ in apart]
        rows.append(element("tr", _name(model), *_panel_of(about), *cells, data_model=model))
    below = []
    for row in published:
        shown = {column: of_figure(row, *row.scores[column]) for column in row.scores}
        order = [*columns, *([mean] if means else []), *apart]
        cells = [score_td(shown[c]) if c in shown else element("td", class_="none") for c in order]
        source = element("small", f"published, {row.source.name}")
        below.append(element("tr", _name(row.model, source), *_panel_of({}), *cells))
    titles = [(c.task, _of(c)) for c in columns] + ([("mean", f"of {len(columns)} tasks")] if means else [])
    titles += [(c.task, c.metric) for c in apart]
    return _table(["parameters", "architecture"], titles, rows, below)


def retention_table(found: Sequence[Comparison], columns: Sequence[Column], table: Table, teacher: str) -> Markup:
    """What each model retains of the teacher, one column a task."""
    by_place = {(each.model, each.column): each for each in found}
    shared = [column for column in columns if any(column == each.column for each in found)]
    rows = []
    for model in sorted({each.model for each in found if each.column in shared}):
        cells = []
        for column in shared:
            each = by_place.get((model, column))
            lines = (*table.cells[model, column].lines, *table.cells[teacher, column].lines) if each else ()
            cells.append(score_td(of_comparison(each, lines, teacher) if each else None))
        rows.append(element("tr", _name(model), *cells, data_model=model))
    return _table([], [(column.task, _of(column)) for column in shared], rows, [])


def score_td(shown: Shown | None, *, missing: str = MISSING) -> Markup:
    """A cell; what stands behind it opens by pointer and by keyboard."""
    if shown is None:
        return element("td", missing, class_="none")
    link = element(
        "a",
        element("b", shown.main),
        element("small", shown.beside) if shown.beside else "",
        element("small", shown.below, class_="interval") if shown.below else "",
        href=f"#{row_id(shown.lines[0])}" if shown.lines else "#sources",
        class_="cell",
        data_title=shown.title,
        data_notes="\n".join(shown.notes),
        data_runs=" ".join(dict.fromkeys(line.record["run"] for line in shown.lines)),
    )
    return element("td", link, class_=shown.kind, data_value=repr(shown.value))


def _table(texts: Sequence[str], titles: Sequence[tuple[str, str]], rows: list, below: list) -> Markup:
    head = [_sortable("model", kind="text", order="ascending")]
    head += [_sortable(text, kind="text" if text == "architecture" else "number") for text in texts]
    head += [_sortable(name, below=small, kind="number") for name, small in titles]
    bodies = [element("tbody", "\n", join(rows, "\n"), "\n")]
    if below:
        bodies.append(element("tbody", "\n", join(below, "\n"), "\n", class_="published"))
    table = element("table", element("thead", element("tr", *head)), "\n", *bodies, class_="scores")
    return element("div", table, class_="scroll")


def _sortable(name: str, *, kind: str, below: str = "", order: str = "none") -> Markup:
    small = element("small", below) if below else ""
    button = element("button", element("span", name), small, type="button")
    return element(
        "th",
        button,
        scope="col",
        aria_sort=order,
        data_kind=kind,
        class_=f"{kind} {name}" if name == "architecture" else kind,
    )


def _name(model: str, small: str = "") -> Markup:
    return element("th", model, small, scope="row")


def _panel_of(about: Mapping) -> list[Markup]:
    size = about.get("encoder_parameters")
    parameters = element("td", f"{size / 1e6:.1f} M", data_value=str(size)) if size else element("td", class_="none")
    return [parameters, element("td", about.get("architecture", ""), class_="text architecture")]


def _of(column: Column) -> str:
    return column.metric.removeprefix("piece_") + (", word-pieces" if column.on_pieces else "")


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
