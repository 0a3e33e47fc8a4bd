"""Tables as Markdown, CSV, LaTeX and HTML: one renderer each, which knows no statistics.

The other modules compute tables (`table.Table`) and know no format. Whatever comes from records is escaped here.
"""

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from compact_biomed.console import markdown_table
from compact_biomed.errors import UserError
from compact_biomed.files import write_text
from compact_biomed.report.table import Cell, Table, TableColumn

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


_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")  # line ends, too: a name must not begin a line of its own
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


def one_line(text: str) -> str:
    """Return text with spaces in place of line ends and other control characters."""
    return _CONTROL.sub(" ", text)


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
        _beside(cell, " ± "),
    ]
    if cell.interval and bounds:
        parts.append(f" ({cell.written(cell.interval.low)} to {cell.written(cell.interval.high)})")
    if cell.difference:
        value, low, high = (f"{each:+.3f}" for each in _three(cell.difference))
        parts.append(f" [{value}, {low} to {high}]")
    return "".join([*parts, cell.text])


def _beside(cell: Cell, plus_minus: str) -> str:
    """Return what follows a number directly: deviation, number of seeds, corrected p-value, mark."""
    deviation = f"{plus_minus}{cell.written(cell.deviation)}" if cell.deviation is not None else ""
    several = f" of {cell.trainings} trainings" if cell.trainings > 1 else ""
    n = f" ({cell.n}{several})" if cell.n is not None else ""
    adjusted = f" ({cell.written(cell.adjusted)})" if cell.adjusted is not None else ""
    return f"{deviation}{n}{adjusted}{cell.mark}"


def _three(interval: Any) -> tuple[float, float, float]:
    return interval.value, interval.low, interval.high


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


# ---- LaTeX


RAGGED = ">{{\\raggedright\\arraybackslash}}p{{{}}}"
"""A column of that width, for `format`."""
_LATEX = {"^": "\\^{}", "~": "\\textasciitilde{}", "\\": "\\textbackslash{}"}
_MARKS = {"": "", "*": "$^*$", "†": "$^\\dagger$"}
_TIGHT = "\\setlength{\\tabcolsep}{2pt}"


def latex(table: Table) -> str:
    """Return a booktabs tabular, with legend and notes as comments."""
    below = [*([table.legend] if table.legend else []), *table.notes]
    return "\n".join([*_tabular(table.shown, stacked=False), *(f"% {one_line(note)}" for note in below)]) + "\n"


def latex_float(table: Table, caption: str, *, place: str = "tbp", tight: bool = False) -> str:
    """Return a table that floats to `place`, labeled tab:NAME.

    Args:
        caption: LaTeX.
        tight: whether its columns are set close together.
    """
    inside = "\n".join(_tabular(table.shown, tight=tight))
    return (
        f"\\begin{{table}}[{place}]\n"
        f"\\centering\\footnotesize{_TIGHT if tight else ''}\n"
        f"\\caption{{{caption}}}\\label{{tab:{table.name}}}\n{inside}\n\\end{{table}}\n"
    )


def latex_long(table: Table, caption: str, *, widths: Sequence[str] = ()) -> str:
    """Return a table that runs over several pages, with its head on each, labeled tab:NAME.

    Args:
        caption: LaTeX.
        widths: of ragged columns, one for each; none = as wide as their text.
    """
    table = table.shown
    align = "".join(RAGGED.format(width) for width in widths) or _align(table)
    top = ["\\toprule", _latex_head(table, stacked=True), "\\midrule"]
    first = [f"\\caption{{{caption}}}\\label{{tab:{table.name}}}\\\\", *top, "\\endfirsthead"]
    begin = ["{\\footnotesize", f"\\begin{{longtable}}{{{align}}}", *first, *top, "\\endhead"]
    return "\n".join([*begin, "\\bottomrule", "\\endlastfoot", *_latex_body(table), "\\end{longtable}}", ""])


def latex_text(plain_text: str) -> str:
    """Return plain text as LaTeX.

    Text between backticks is written by `latex_code`. A thin space precedes percent signs, 4e-05 becomes a power of
    ten, and -1 gets a minus.
    """
    parts = plain_text.split("`")
    if len(parts) % 2 == 0:  # a backtick without a partner
        return _latex_words(plain_text)
    return "".join(latex_code(part) if number % 2 else _latex_words(part) for number, part in enumerate(parts))


def _latex_words(plain_text: str) -> str:
    escaped = latex_escape(plain_text).replace(" \\%", "\\,\\%")
    escaped = escaped.replace(" ± ", "\\,$\\pm$\\,").replace("±", "$\\pm$")
    escaped = escaped.replace("\N{MULTIPLICATION SIGN}", "$\\times$")
    escaped = re.sub(r"(?<![\w.)-])-(?=\d)", "$-$", escaped)
    return re.sub(r"\b(\d(?:\.\d+)?)e-0?(\d+)", r"$\1\\cdot10^{-\2}$", escaped)


def latex_code(plain_text: str) -> str:
    """Return a command or a file name in typewriter letters, which may break behind its slashes and commas."""
    escaped = latex_escape(plain_text).replace("--", "-{}-")  # no ligature
    for character in "/,=":
        escaped = escaped.replace(character, character + "\\allowbreak{}")
    return f"\\texttt{{{escaped}}}"


def latex_escape(plain_text: str) -> str:
    """Return text in one line, in which no character is a command of LaTeX."""
    return "".join(_LATEX.get(c, "\\" + c if c in "&%$#_{}" else c) for c in one_line(plain_text))


def latex_cell(cell: Cell, *, bounds: bool = True) -> str:
    """Return a cell as LaTeX.

    Args:
        bounds: with the interval.
    """
    if cell.stacked:
        return "\\shortstack[l]{" + "\\\\".join(map(latex_cell, cell.stacked)) + "}"
    if cell.value is None:
        shown = latex_code(cell.text) if cell.code else latex_text(cell.text)
        shown += f", {latex_text(cell.detail)}" if cell.detail else ""
        return f"\\textbf{{{shown}}}" if cell.strong else shown
    shown = latex_text(f"{cell.label}: ") if cell.label else ""
    shown += _latex_number(cell, cell.value) + (latex_text(f" {cell.unit}") if cell.unit else "")
    shown += latex_text(_beside(replace(cell, mark=""), " ± "))
    if cell.interval and bounds:
        low, high = (_latex_number(cell, bound) for bound in (cell.interval.low, cell.interval.high))
        shown += f" [{low}, {high}]"
    if cell.difference:
        value, low, high = (f"${each:+.3f}$" for each in _three(cell.difference))
        shown += f" {value} [{low}, {high}]"
    return shown + _MARKS[cell.mark] + latex_text(cell.text)


def _latex_number(cell: Cell, number: float) -> str:
    written = cell.written(number)
    return f"${written}$" if written[0] in "+-" else latex_text(written)


def _tabular(table: Table, *, stacked: bool = True, tight: bool = False) -> list[str]:
    align = f"@{{}}{_align(table)}@{{}}" if tight else _align(table)
    top = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", _latex_head(table, stacked=stacked), "\\midrule"]
    return [*top, *_latex_body(table), "\\bottomrule", "\\end{tabular}"]


def _latex_head(table: Table, *, stacked: bool) -> str:
    titles = []
    for head in table.heads:
        two_lines = f"\\shortstack[r]{{{latex_text(head.title)}\\\\{latex_text(head.detail)}}}"
        titles.append(two_lines if stacked and head.detail else latex_text(head.whole))
    return _latex_line(titles)


def _latex_body(table: Table) -> list[str]:
    """Return the rows, each section under its heading."""
    lines: list[str] = []
    before, columns = "", len(table.heads)
    for row in table.rows:
        if row.section and row.section != before:
            lines += ["\\addlinespace"] if lines else []
            heading = f"\\textit{{{latex_text(row.section)}}}"
            lines.append(f"\\multicolumn{{{columns}}}{{@{{}}l}}{{{heading}}} \\\\*")
        before = row.section
        if row.spans:
            sentence = "".join(map(latex_cell, row.cells))
            wide = f"\\multicolumn{{{columns}}}{{@{{}}p{{0.97\\linewidth}}}}{{{sentence}}}"
            lines.append(f"\\addlinespace{wide} \\\\")
            continue
        cells = [latex_cell(cell, bounds=head.bounds) for cell, head in zip(row.cells, table.heads, strict=True)]
        if row.id:
            cells[0] = f"\\hypertarget{{{row.id}}}{{{cells[0]}}}"
        lines.append(_latex_line(cells))
    return lines


def _latex_line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _align(table: Table) -> str:
    return "".join("l" if head.left else "r" for head in table.heads)


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
    environment.filters |= {"number": _html_number, "beside": lambda cell: _beside(cell, " ± "), "bounds": _html_bounds}
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
