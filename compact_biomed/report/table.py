"""A table as typed cells, computed by the other modules and written in each format by `render` and `latex`."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from compact_biomed.records.lines import Line
from compact_biomed.report.resampling import Interval
from compact_biomed.report.statistics import Summary

MISSING = "not measured"
UNKNOWN = "n/a"
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # line ends, too: a name must not begin a line of its own


@dataclass(frozen=True)
class Cell:
    """One entry of a table: words, or a number with what belongs to it.

    Args:
        text: words; behind the number where there is one.
        detail: smaller words behind the text.
        label: words before the number.
        value: the number, by which columns are sorted; None = words alone.
        form: format specification of numbers.
        scale: what numbers are multiplied by before they are written.
        unit: written behind the number.
        deviation: standard deviation over seeds.
        n: number of seeds.
        trainings: number of trainings whose seeds these are.
        interval: 95 % confidence interval of the value.
        difference: from the first row, with its interval.
        adjusted: p-value after correction.
        mark: refers to the legend.
        code: whether the text is a command or the name of a file.
        strong: whether the cell is emphasized.
        stacked: cells written one below the other in place of all this.
        title, notes: heading and lines of what the page shows beside the cell.
        lines: the records behind it.
    """

    text: str = ""
    detail: str = ""
    label: str = ""
    value: float | None = None
    form: str = ".2f"
    scale: float = 1
    unit: str = ""
    deviation: float | None = None
    n: int | None = None
    trainings: int = 1
    interval: Interval | None = None
    difference: Interval | None = None
    adjusted: float | None = None
    mark: str = ""
    code: bool = False
    strong: bool = False
    stacked: tuple["Cell", ...] = ()
    title: str = ""
    notes: tuple[str, ...] = ()
    lines: tuple[Line, ...] = ()

    def written(self, number: float) -> str:
        """Return a number in the cell's format, without its unit; bounds may be infinite."""
        return f"{self.scale * number:{self.form}}" if math.isfinite(number) else "unbounded"

    def beside(self, plus_minus: str) -> str:
        """Return what follows the number directly: deviation, number of seeds, corrected p-value, mark."""
        deviation = f"{plus_minus}{self.written(self.deviation)}" if self.deviation is not None else ""
        several = f" of {self.trainings} trainings" if self.trainings > 1 else ""
        n = f" ({self.n}{several})" if self.n is not None else ""
        adjusted = f" ({self.written(self.adjusted)})" if self.adjusted is not None else ""
        return f"{deviation}{n}{adjusted}{self.mark}"

    @property
    def low(self) -> float | None:
        """Lower bound of the interval."""
        return self.interval.low if self.interval else None

    @property
    def high(self) -> float | None:
        """Upper bound of the interval."""
        return self.interval.high if self.interval else None


@dataclass(frozen=True)
class TableColumn:
    """A column of a table.

    Args:
        key: name by which `Table.select` and the page's script find the column.
        title: heading.
        detail: second, smaller part of the heading.
        code: whether the heading is a command.
        left: whether its cells are aligned to the left, as words are.
        bounds: whether intervals are written beside the numbers; the page has them below in any case.
        fields: part of a cell -> column of the CSV file; None = the key, for the value or else the text.
        shown: whether readers see the column; the CSV file has the others, too.
    """

    key: str
    title: str
    detail: str = ""
    code: bool = False
    left: bool = False
    bounds: bool = True
    fields: Mapping[str, str] | None = None
    shown: bool = True

    @property
    def whole(self) -> str:
        """The heading in one line."""
        return f"{self.title}, {self.detail}" if self.detail else self.title


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        cells: one for each head.
        section: heading above the first of the rows that share it; commands are between backticks.
        published: whether others measured it: such rows are listed separately and never sorted among ours.
        id: by which links find the row.
        spans: whether its cells are parts of one sentence that runs across all columns.
    """

    cells: tuple[Cell, ...]
    section: str = ""
    published: bool = False
    id: str = ""
    spans: bool = False


@dataclass(frozen=True)
class Table:
    """A table of typed cells.

    Args:
        name: of files and labels.
        heads: one for each column.
        rows: in order.
        title: heading above the table.
        caption: sentences above the table.
        legend: what the cells show.
        notes: one line each, below.
    """

    name: str
    heads: tuple[TableColumn, ...]
    rows: tuple[Row, ...]
    title: str = ""
    caption: str = ""
    legend: str = ""
    notes: tuple[str, ...] = ()

    @property
    def shown(self) -> "Table":
        """The table without the columns that only the CSV file has."""
        return self.select(*(head.key for head in self.heads if head.shown))

    def select(self, *keys: str) -> "Table":
        """Return the table with these columns alone, in this order, all of them shown."""
        numbers = [next(n for n, head in enumerate(self.heads) if head.key == key) for key in keys]
        rows = [replace(row, cells=tuple(row.cells[n] for n in numbers)) for row in self.rows]
        return replace(self, heads=tuple(replace(self.heads[n], shown=True) for n in numbers), rows=tuple(rows))

    def map(self, change: Callable[[Cell], Cell], *keys: str, **of_head: str | bool) -> "Table":
        """Return the table with the cells of some columns changed, and parts of their heads replaced.

        Args:
            keys: of the columns; none = all.
        """
        chosen = [not keys or head.key in keys for head in self.heads]
        heads = [replace(head, **of_head) if on else head for head, on in zip(self.heads, chosen, strict=True)]
        rows = [
            replace(row, cells=tuple(change(cell) if on else cell for cell, on in zip(row.cells, chosen, strict=True)))
            for row in self.rows
        ]
        return replace(self, heads=tuple(heads), rows=tuple(rows))

    def titled(self, **titles: str) -> "Table":
        """Return the table with other headings: key of the column -> title."""
        heads = [replace(head, title=titles.get(head.key, head.title)) for head in self.heads]
        return replace(self, heads=tuple(heads))

    def add(self, head: TableColumn, cell_of: Callable[[str], Cell]) -> "Table":
        """Return the table with one more column, whose cells depend on the text of the first cell of each row."""
        rows = [replace(row, cells=(*row.cells, cell_of(row.cells[0].text))) for row in self.rows]
        return replace(self, heads=(*self.heads, head), rows=tuple(rows))

    def in_sections(self, sections: Mapping[str, Sequence[str]]) -> "Table":
        """Return the table with its rows ordered by the text of their first cell, under headings.

        Args:
            sections: heading -> texts; rows with other texts are left out.
        """
        rows = {row.cells[0].text: row for row in self.rows}
        ordered = [
            replace(rows[text], section=title) for title, texts in sections.items() for text in texts if text in rows
        ]
        return replace(self, rows=tuple(ordered))


def words(text: str, **more) -> Cell:
    """Return a cell of plain text."""
    return Cell(text, **more)


def command(text: str) -> Cell:
    """Return a cell that shows a command or the name of a file."""
    return Cell(text, code=True)


def number(value: float | None, form: str = ".2f", unit: str = "", text: str = "", scale: float = 1) -> Cell:
    """Return a cell with a number, or one that says that there is none."""
    if value is None:
        return Cell(UNKNOWN)
    return Cell(text, value=value, form=form, unit=unit, scale=scale)


def score(summary: Summary, *, marked: bool = False, form: str = ".2f", **more) -> Cell:
    """Return a cell with the mean over seeds, its deviation and the number of seeds, and of trainings if several."""
    about = {"deviation": summary.deviation, "n": summary.n, "trainings": summary.trainings}
    return Cell(value=summary.mean, mark="*" if marked else "", form=form, **about, **more)


def share(value: float | None, interval: Interval | None, *, form: str = ".1f", **more) -> Cell:
    """Return a cell with a ratio in percent and its interval."""
    if value is None:
        return Cell(UNKNOWN, **more)
    return Cell(value=value, interval=interval, scale=100, form=form, unit="%", **more)


def gain(difference: Interval) -> Cell:
    """Return a cell with a signed difference and its interval."""
    return Cell(value=difference.value, interval=difference, form="+.2f")


def p_value(p: float | None, adjusted: float | None = None) -> Cell:
    """Return a cell with a p-value and, in brackets, the corrected one."""
    return Cell(UNKNOWN) if p is None else Cell(value=p, adjusted=adjusted, form=".2g")


def one_line(text: str) -> str:
    """Return text with spaces in place of line ends and other control characters."""
    return _CONTROL.sub(" ", text)
