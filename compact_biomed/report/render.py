"""Tables as Markdown, CSV and HTML: one renderer each, which knows no statistics; `latex` is another.

The other modules compute tables (`table.Table`) and know no format. Whatever comes from records is escaped here.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from compact_biomed.console import markdown_table
from compact_biomed.errors import UserError
from compact_biomed.files import write_text
from compact_biomed.report.latex import latex
from compact_biomed.report.table import Cell, Table, TableColumn, one_line

# ---- Markdown


def markdown(table: Table) -> str:
    """Return title, caption, rows, legend and notes of a table."""
    parts = [f"## {_markdown_text(table.title)}\n"] if table.title else []
    parts += [f"{_markdown_text(table.caption)}\n"] if table.caption else []
    parts += [markdown_rows(table)]
    parts += [f"{_markdown_text(table.legend)}\n"] if table.legend else []
    parts += ["".join(f"- {_markdown_text(note)}\n" for note in table.notes)] if table.notes else []
    return "\n".join(parts)


def markdown_document(tables: Sequence[Table], title: str = "") -> str:
    """Return several tables below each other; a legend that they share is first."""
    legends = {table.legend for table in tables}
    parts = [f"# {title}\n"] if title else []
    if len(legends) == 1:
        parts += [f"{_markdown_text(*legends)}\n"]
        tables = [replace(table, legend="") for table in tables]
    return "\n".join([*parts, *map(markdown, tables)])


def markdown_rows(table: Table) -> str:
    """Return the head and the rows of a table, without title, caption, legend and notes."""
    table = table.shown
    titles = [f"`{head.title}`" if head.code else _markdown_text(head.whole) for head in table.heads]
    lines = []
    for row in table.rows:
        if row.spans:
            sentence = "".join(_markdown_cell(cell, table.heads[0]) for cell in row.cells)
            lines.append([sentence, *[""] * (len(table.heads) - 1)])
        else:
            lines.append([_markdown_cell(cell, head) for cell, head in zip(row.cells, table.heads, strict=True)])
    return markdown_table(titles, lines)


def _markdown_cell(cell: Cell, head: TableColumn) -> str:
    if cell.stacked:
        return "<br>".join(_markdown_cell(each, head) for each in cell.stacked)
    text = _markdown_code(cell.text) if cell.code else _markdown_words(plain(cell, bounds=head.bounds))
    text += f" ({_markdown_text(cell.detail)})" if cell.detail and cell.code else ""
    return f"**{text}**" if cell.strong else text


# What Markdown reads as emphasis, HTML, an escape, a link, an entity or a formula.
_MARKDOWN = re.compile(r"[*<\\$]|(?<!\w)_|_(?!\w)|\](?=[(\[:])|&(?=#?\w+;)|~(?=~)")


def _markdown_text(text: str) -> str:
    """Return text of ours, in which names from records may be; commands are between backticks."""
    return _MARKDOWN.sub(r"\\\g<0>", one_line(text))


def _markdown_words(text: str) -> str:
    return _markdown_text(text).replace("`", "\\`")


def _markdown_code(text: str) -> str:
    fence = "``" if "`" in text else "`"
    return f"{fence} {one_line(text)} {fence}" if "`" in text else f"{fence}{one_line(text)}{fence}"


def plain(cell: Cell, *, bounds: bool = True) -> str:
    """Return a cell as plain text.

    Args:
        bounds: with the interval.
    """
    if cell.value is None:
        return f"{cell.text}, {cell.detail}" if cell.detail else cell.text
    parts = [
        f"{cell.label}: " if cell.label else "",
        cell.written(cell.value),
        f" {cell.unit}" if cell.unit else "",
        cell.beside(" ± "),
    ]
    if cell.interval and bounds:
        parts.append(f" ({cell.written(cell.interval.low)} to {cell.written(cell.interval.high)})")
    if cell.difference:
        value, low, high = (f"{each:+.3f}" for each in astuple(cell.difference))
        parts.append(f" [{value}, {low} to {high}]")
    return "".join([*parts, cell.text])


# ---- CSV


def comma_separated(table: Table) -> str:
    """Return one line per row, numbers to ten decimals; a number that is missing is empty."""
    fields = [
        (number, part, name)
        for number, head in enumerate(table.heads)
        for part, name in (head.fields if head.fields is not None else {"": head.key}).items()
    ]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([name for *_, name in fields])
    for row in table.rows:
        writer.writerow([_field(row.cells[number], part) for number, part, _ in fields])
    return out.getvalue()


def _field(cell: Cell, part: str) -> Any:
    value = getattr(cell, part) if part else _value_or_text(cell)
    if isinstance(value, tuple):
        return "; ".join(value)
    # The last bits of a sum depend on the processor, and these files are compared byte for byte.
    return round(value, 10) if isinstance(value, float) else value


def _value_or_text(cell: Cell) -> float | str:
    if cell.stacked:
        return "; ".join(map(plain, cell.stacked))
    return cell.text if cell.value is None else cell.value


# ---- HTML


@cache
def templates() -> jinja2.Environment:
    """Return the templates of the page, which escape whatever is not markup already."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("compact_biomed.report", "page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": _html_number, "beside": lambda cell: cell.beside(" ± "), "bounds": _html_bounds}
    return environment


def html(table: Table, *, sortable: bool = True) -> Markup:
    """Return a table for the page.

    Args:
        sortable: whether a click on a head sorts the rows; published rows are sorted apart.
    """
    return templates().get_template("table.html.jinja").module.table(table.shown, sortable)


def _html_number(cell: Cell) -> str:
    return cell.written(cell.value) + (f" {cell.unit}" if cell.unit else "")


def _html_bounds(cell: Cell) -> str:
    short = replace(cell, form=".1f")
    return f"{short.written(cell.interval.low)} to {short.written(cell.interval.high)}"


# ---- Documents with markers for tables


END = "<!-- end -->"


def begin(name: str) -> str:
    """Return the marker before the place of a table."""
    return f"<!-- table:{name} -->"


def put_between_markers(document: Path, name: str, text: str) -> None:
    """Replace the text between `<!-- table:NAME -->` and `<!-- end -->`, and nothing else.

    Args:
        text: with the end of its last line.

    Raises:
        UserError: the document has no such markers, or several.
    """
    marker = begin(name)
    whole = document.read_text(encoding="utf-8")
    before, _, rest = whole.partition(marker)
    if whole.count(marker) != 1 or END not in rest or "<!-- table:" in rest.partition(END)[0]:
        raise UserError("no place for the table", where=document, remedy=f"one line {marker} and one {END} after it")
    write_text(document, f"{before}{marker}\n{text}{rest[rest.index(END) :]}")


FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": comma_separated, "tex": latex}
"""Format as the command line names it -> renderer."""
