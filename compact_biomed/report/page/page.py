"""All scores as one HTML page: a section per kind of tasks, then the published sources and the runs."""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from typing import Any

from markupsafe import Markup

from compact_biomed.console import counted
from compact_biomed.evaluation.analysis.printed import line_of
from compact_biomed.records.lines import Line
from compact_biomed.report.compare import Comparison, compare, retention_table
from compact_biomed.report.family import Family, families
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.measured import Column
from compact_biomed.report.page.picture import Drawing, drawing
from compact_biomed.report.panels import MARKS, Panel, architectures, axis_bounds, panels
from compact_biomed.report.published import claims, rows_beside, sources_of
from compact_biomed.report.render import html, templates
from compact_biomed.report.scores import LEGEND, cell_title, family_table
from compact_biomed.report.speed import VARIANT, Speed
from compact_biomed.report.table import Row, Table, TableColumn, words

_UNKNOWN = "not recorded"


@dataclass(frozen=True)
class PageSection:
    """What the page shows of one kind of tasks.

    Args:
        scores: with the notes on them.
        figures: drawings against size, then against speed; either may be empty.
        retained: of the teacher; None where nothing was compared.
    """

    heading: str
    scores: Table
    figures: tuple[list[Drawing], ...]
    retained: Table | None


def page(
    lines: Sequence[Line],
    *,
    teacher: str | None = None,
    split: str = "test",
    speeds: Mapping[str, Speed] | None = None,
) -> str:
    """Return all scores as one HTML file that loads nothing else; the order of the records changes nothing.

    Args:
        teacher: name of the model to compare the others with; None = no tables of retention.
        speeds: model -> its speed; None = no figures against speed.

    Raises:
        UserError: what `score_grid` and `compare` refuse.
    """
    lines = sorted(lines, key=lambda line: line.record["run"])
    comparisons = compare(lines, teacher, split=split) if teacher else []
    return page_of(score_grid(lines, split=split), comparisons, teacher=teacher, split=split, speeds=speeds)


def page_of(
    grid: ScoreGrid,
    comparisons: Sequence[Comparison],
    *,
    teacher: str | None = None,
    split: str = "test",
    speeds: Mapping[str, Speed] | None = None,
) -> str:
    """Return the page of scores and comparisons that were computed before; see `page`."""
    drawn = [panels(grid), panels(grid, speeds=speeds or {})]
    return (
        templates()
        .get_template("page.html.jinja")
        .render(
            table=html,
            digest=_digest,
            style=_asset("page.css"),
            script=_asset("page.js"),
            about=_about(grid, teacher, split),
            how_to_read=_how_to_read(speeds or {}),
            architectures=architectures(grid)[:MARKS],
            sections=[_section(grid, family, comparisons, teacher, drawn, split) for family in families(grid)],
            teacher=teacher,
            sources=_sources(grid, split),
            runs=runs_table(line for score in grid.cells.values() for line in score.lines),
        )
    )


def runs_table(lines: Iterable[Line]) -> Table:
    """Return one row per run, sorted by model, task, seed and fold; its id is run-RUN."""
    distinct = {line.record["run"]: line for line in lines}
    ordered = sorted(distinct.values(), key=lambda each: (each.model, each.task, each.record["seed"], each.fold or 0))
    rows = [_run(line.record) for line in ordered]
    details = [line_of(line.record) for line in ordered]
    if any(details):  # records of earlier versions have none
        rows = [row | {"by type or class": text} for row, text in zip(rows, details, strict=True)]
    heads = tuple(TableColumn(name, name, left=True) for name in (rows[0] if rows else ()))
    return Table("runs", heads, tuple(Row(tuple(map(words, row.values())), id=f"run-{row['run']}") for row in rows))


def _run(record: dict[str, Any]) -> dict[str, str]:
    """Return how a run was made and what it scored: heading -> text."""
    settings, origin, how = (record.get(part) or {} for part in ("settings", "from", "how"))
    fold = record["task"]["fold"]
    primary = record["task"]["metric"]
    scores = {name: value for name, value in record["metrics"].items() if name in (primary, f"piece_{primary}")}
    revision = (origin.get("revision") or _UNKNOWN)[:12]
    return {
        "run": record["run"],
        "model": record["model"]["name"],
        "task": record["task"]["name"],
        "seed": str(record["seed"]),
        "fold": "" if fold is None else str(fold),
        "scores": ", ".join(f"{name} {value:.2f}" for name, value in sorted(scores.items())),
        "learning rate": _number(settings.get("learning_rate")),
        "epochs": _number(settings.get("epochs")),
        "date": str(origin.get("date", _UNKNOWN))[:10],
        "revision": revision + (", changed since" if origin.get("clean") is False else ""),
        "device": str(how.get("device", _UNKNOWN)),
        "command": str(origin.get("command", _UNKNOWN)),
    }


def _number(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:g}"


def _section(
    grid: ScoreGrid,
    family: Family,
    comparisons: Sequence[Comparison],
    teacher: str | None,
    drawn: Sequence[Sequence[Panel]],
    split: str,
) -> PageSection:
    own = [each for each in comparisons if each.column in family.columns]
    return PageSection(
        family.heading,
        family_table(grid, family, rows_beside(family.columns, split)),
        tuple(_drawings(each, family) for each in drawn),
        retention_table(own, family.columns, grid, teacher) if own else None,
    )


def _drawings(drawn: Sequence[Panel], family: Family) -> list[Drawing]:
    """Draw the panels of a family on the axis that all families share; skip a panel of one model."""
    by_column: dict[Column, Panel] = {panel.column: panel for panel in drawn if len(panel.points) > 1}
    shown = [by_column[column] for column in family.columns if column in by_column]
    return [drawing(panel, axis_bounds(drawn), partial(cell_title, column=panel.column)) for panel in shown]


def _about(grid: ScoreGrid, teacher: str | None, split: str) -> list[str]:
    runs = {line.record["run"]: line.record for score in grid.cells.values() for line in score.lines}
    tasks = {column.task for column in grid.columns}
    dates = sorted(date[:10] for run in runs.values() if (date := (run.get("from") or {}).get("date")))
    parts = [counted(len(grid.models), "model"), counted(len(tasks), "task"), counted(len(runs), "run")]
    if dates:
        parts.append(dates[0] if dates[0] == dates[-1] else f"{dates[0]} to {dates[-1]}")
    return [*parts, f"{split} sets", *([f"teacher {teacher}"] if teacher else [])]


def _how_to_read(speeds: Mapping[str, Speed]) -> list[str]:
    return [
        f"In percent, higher is better. {LEGEND} Under a score: 95 % interval over test examples.",
        "Figures: mean over seeds against the encoder's size; bars are those intervals, small points single seeds. "
        "Models of nearly the same size are drawn side by side.",
        *_about_speeds(speeds),
        "Point at a score, or move to it with the keyboard (arrow keys move to its neighbors), to see the runs behind "
        "it. Enter or a click keeps them open, Esc closes them. A click on a column's heading sorts.",
    ]


def _about_speeds(speeds: Mapping[str, Speed]) -> list[str]:
    if not speeds:
        return []
    how = sorted({f"{speed.length} tokens per input, {counted(speed.cores, 'core')}" for speed in speeds.values()})
    return [
        f"Figures against speed: throughput as {VARIANT} ({'; '.join(how)}; compact-biomed bench inference); the area "
        "of a marker is proportional to the size of that file. The scores are those of the models before quantization."
    ]


def _sources(grid: ScoreGrid, split: str) -> list[str]:
    sources = sources_of(rows_beside(grid.columns, split))
    if not sources:
        return []
    return sources + [f"{claim.text} ({claim.source.reference}; scale not stated)" for claim in claims()]


def _asset(name: str) -> Markup:
    """Return the text of a file of this package, which is inserted into the page unchanged."""
    return Markup(resources.files("compact_biomed.report.page").joinpath(name).read_text(encoding="utf-8"))


def _digest(text: str) -> Markup:
    """Return the hash of an inline style or script for the Content-Security-Policy: the browser runs no others."""
    return Markup(f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'")
