"""Tables, and single cells and texts, as LaTeX with booktabs."""

import re
from collections.abc import Sequence
from dataclasses import astuple, replace

from compact_biomed.report.table import Cell, Table, one_line

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
    shown += latex_text(replace(cell, mark="").beside(" ± "))
    if cell.interval and bounds:
        low, high = (_latex_number(cell, bound) for bound in (cell.interval.low, cell.interval.high))
        shown += f" [{low}, {high}]"
    if cell.difference:
        value, low, high = (f"${each:+.3f}$" for each in astuple(cell.difference))
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
