"""The page's tables: a family's scores, its published rows, and what models retain of a teacher."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compact_biomed.report.comparison import TESTS, Comparison
from compact_biomed.report.measured import Column
from compact_biomed.report.page.markup import Markup, element, join
from compact_biomed.report.page.records_list import row_id
from compact_biomed.report.published import Figure, Row, columns_apart
from compact_biomed.report.records import Line
from compact_biomed.report.render import MISSING
from compact_biomed.report.tables import Cell, Table

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
        rows.append(element("tr", _name(model), *_about(about), *cells, data_model=model))
    below = []
    for row in published:
        shown = {column: of_figure(row, *row.scores[column]) for column in row.scores}
        order = [*columns, *([mean] if means else []), *apart]
        cells = [score_td(shown[c]) if c in shown else element("td", class_="none") for c in order]
        source = element("small", f"published, {row.source.name}")
        below.append(element("tr", _name(row.model, source), *_about({}), *cells))
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


def _about(about: Mapping) -> list[Markup]:
    size = about.get("encoder_parameters")
    parameters = element("td", f"{size / 1e6:.1f} M", data_value=str(size)) if size else element("td", class_="none")
    return [parameters, element("td", about.get("architecture", ""), class_="text architecture")]


def _of(column: Column) -> str:
    return column.metric.removeprefix("piece_") + (", word-pieces" if column.on_pieces else "")
