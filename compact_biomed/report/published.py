"""Scores that others published, to stand beside measured ones: never averaged with them, never tested against them.

The figures are those of `published.toml`, with their scale and source.
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
    """Who published a figure.

    Args:
        name: short, for the rows of tables.
        reference: where it stands.
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
        """Where a score may stand: with measured ones of the same scale, or apart."""
        return Column(self.task, _SCALES[self.scale].format(metric))


@dataclass(frozen=True)
class PublishedRow:
    """What one source says of one model, for the columns of a table."""

    model: str
    source: PublishedSource
    scores: dict[Column, tuple[float, PublishedFigure]]

    @property
    def label(self) -> str:
        return f"{self.model}, published ({self.source.name})"


@dataclass(frozen=True)
class PublishedClaim:
    """What a source says in words."""

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
    """All published figures."""
    return _read()[0]


def claims() -> tuple[PublishedClaim, ...]:
    """What the sources say of retention."""
    return _read()[1]


def rows_beside(columns: Sequence[Column], split: str = "test") -> list[PublishedRow]:
    """The published rows for a table with these columns.

    A score whose scale is not stated comes under a column that no measured score has. All are of test sets, so
    that a table of another split gets none.
    """
    if split != "test":
        return []
    found: dict[tuple[str, PublishedSource], dict[Column, tuple[float, PublishedFigure]]] = {}
    wanted = {(column.task, column.metric) for column in columns}
    for figure in figures():
        for metric, value in figure.metrics.items():
            place = figure.column(metric)
            if place in columns or (figure.scale == "not stated" and (figure.task, metric) in wanted):
                found.setdefault((figure.model, figure.source), {})[place] = (value, figure)
    return [PublishedRow(model, source, scores) for (model, source), scores in found.items()]


def columns_apart(columns: Sequence[Column], rows: Sequence[PublishedRow]) -> list[Column]:
    """The columns that published scores need for themselves."""
    return sorted({place for row in rows for place in row.scores} - set(columns))


def sources_of(rows: Sequence[PublishedRow]) -> list[str]:
    """A line for each source: where its figures stand, and what is known of their scale."""
    lines: dict[PublishedSource, set[str]] = {}
    for row in rows:
        pages = {f"{figure.task} in {figure.read_in}" for _, figure in row.scores.values() if figure.read_in}
        lines.setdefault(row.source, set()).update(pages)
    return [
        f"{source.name}, published, not measured here: {source.reference}; {source.about}"
        + (f"; read: {', '.join(sorted(pages))}" if pages else "")
        for source, pages in lines.items()
    ]
