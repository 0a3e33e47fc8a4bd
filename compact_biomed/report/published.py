"""Scores that others published, shown beside measured ones, but never averaged or compared with them.

They are those of `published.toml`, with their scale and source.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from compact_biomed.report.measured import Column

_SCALES = {"words": "{}", "word-pieces": "piece_{}", "not stated": "{} (published, scale not stated)"}


@dataclass(frozen=True)
class PublishedSource:
    """A publication with scores.

    Args:
        name: short, for the rows of tables.
        reference: of the publication.
        about: what is known of scale and seeds.
    """

    name: str
    reference: str
    about: str


@dataclass(frozen=True)
class PublishedFigure:
    """The published scores of a model on a task.

    Args:
        scale: "words", "word-pieces" or "not stated".
        read_in: the page that the score was read in, "" if it is the reference itself.
        metrics: metric -> percent.
    """

    model: str
    task: str
    scale: str
    source: PublishedSource
    read_in: str
    metrics: dict[str, float]

    def column(self, metric: str) -> Column:
        """Return the column of a score: that of measured ones on the same scale, or one of its own."""
        return Column(self.task, _SCALES[self.scale].format(metric))


@dataclass(frozen=True)
class PublishedRow:
    """The scores that one source gives for one model, for the columns of a table."""

    model: str
    source: PublishedSource
    scores: dict[Column, tuple[float, PublishedFigure]]


@dataclass(frozen=True)
class PublishedClaim:
    """A statement of a source in words."""

    text: str
    source: PublishedSource


@cache
def _read() -> tuple[tuple[PublishedFigure, ...], tuple[PublishedClaim, ...]]:
    text = resources.files("compact_biomed.report").joinpath("published.toml").read_text(encoding="utf-8")
    content = tomllib.loads(text)
    sources = {key: PublishedSource(**fields) for key, fields in content["sources"].items()}
    figures = tuple(
        PublishedFigure(model, each["task"], each["scale"], sources[each["source"]], each.get("read_in", ""), metrics)
        for each in content["sets"]
        for model, metrics in each["models"].items()
    )
    return figures, tuple(PublishedClaim(each["text"], sources[each["source"]]) for each in content["claims"])


def figures() -> tuple[PublishedFigure, ...]:
    """Return all published scores."""
    return _read()[0]


def claims() -> tuple[PublishedClaim, ...]:
    """Return the statements of the sources on retention."""
    return _read()[1]


def rows_beside(columns: Sequence[Column], split: str = "test") -> list[PublishedRow]:
    """Return the published rows for a table with these columns.

    A score whose scale is not stated gets a column that no measured score has. All scores are of test sets, so a
    table of another split gets none.
    """
    if split != "test":
        return []
    scores: dict[tuple[str, PublishedSource], dict[Column, tuple[float, PublishedFigure]]] = {}
    measured = {(column.task, column.metric) for column in columns}
    for figure in figures():
        for metric, value in figure.metrics.items():
            column = figure.column(metric)
            if column in columns or (figure.scale == "not stated" and (figure.task, metric) in measured):
                scores.setdefault((figure.model, figure.source), {})[column] = (value, figure)
    return [PublishedRow(model, source, of_model) for (model, source), of_model in scores.items()]


def columns_apart(columns: Sequence[Column], rows: Sequence[PublishedRow]) -> list[Column]:
    """Return the columns that have published scores only."""
    return sorted({column for row in rows for column in row.scores} - set(columns))


def sources_of(rows: Sequence[PublishedRow]) -> list[str]:
    """Return a line for each source: its reference, and what is known of the scale of its scores."""
    lines: dict[PublishedSource, set[str]] = {}
    for row in rows:
        pages = {f"{figure.task} in {figure.read_in}" for _, figure in row.scores.values() if figure.read_in}
        lines.setdefault(row.source, set()).update(pages)
    return [
        f"{source.name}, published, not measured here: {source.reference}; {source.about}"
        + (f"; read: {', '.join(sorted(pages))}" if pages else "")
        for source, pages in lines.items()
    ]
