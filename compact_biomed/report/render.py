"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.files import write_text
from compact_biomed.report.measured import Cell, Column, Table
from compact_biomed.report.published import Row as published_Row
from compact_biomed.report.published import columns_apart, sources_of
from compact_biomed.report.statistics import FEWEST_SEEDS, Summary

MISSING = "not measured"
_LATEX = {"^": "\\^{}", "~": "\\textasciitilde{}", "\\": "\\textbackslash{}"}


def markdown(table: Table, published: Sequence[published_Row] = ()) -> str:
    """A table of models by columns, published rows last, with the intervals and notes below."""
    columns = [*table.columns, *columns_apart(table.columns, published)]
    rows = [[model, *_cells(table, model, columns, "±", "\\*")] for model in table.models]
    rows += [[row.label, *_published(row, columns)] for row in published]
    text = markdown_rows(["model", *(column.title for column in columns)], rows)
    notes = [
        f"- {model}, {column.title}: {'; '.join(said)}"
        for model in table.models
        for column in table.columns
        if (cell := table.cells.get((model, column))) and (said := _notes(cell))
    ]
    notes += [f"- {m}, {column.title}: {'; '.join(said)}" for (m, column), said in sorted(table.left_out.items())]
    below = [*(f"- {each}" for each in [*footnotes(table.how), *sources_of(published)]), *notes]
    return text + "\n" + _legend(table, "±", "\\*") + "\n\n" + "\n".join(below) + "\n"


def markdown_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Head and rows in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |\n" for line in lines)


def latex(table: Table, published: Sequence[published_Row] = ()) -> str:
    """A booktabs tabular, published rows last, with the notes as comments."""
    columns = [*table.columns, *columns_apart(table.columns, published)]
    head = ["model", *(column.title for column in columns)]
    rows = [[latex_escape(model), *_cells(table, model, columns, "$\\pm$", "$^*$")] for model in table.models]
    rows += [[latex_escape(row.label), *_published(row, columns)] for row in published]
    below = [_legend(table, "+-", "*"), *footnotes(table.how), *sources_of(published)]
    below += [f"{m}, {column.title}: {'; '.join(_notes(cell))}" for (m, column), cell in sorted(table.cells.items())]
    below += [f"{m}, {column.title}: {'; '.join(said)}" for (m, column), said in sorted(table.left_out.items())]
    return latex_tabular("l" + "r" * len(columns), head, rows, below)


def latex_tabular(align: str, head: Sequence[str], rows: Sequence[Sequence[str]], below: Sequence[str]) -> str:
    """Head and (escaped) rows as a booktabs tabular; what stands below as comments."""
    lines = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", " & ".join(map(latex_escape, head)) + " \\\\", "\\midrule"]
    lines += [" & ".join(row) + " \\\\" for row in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", *(f"% {note}" for note in below)]) + "\n"


def footnotes(how: Mapping[Column, str]) -> list[str]:
    """What the scores of each column share, one line for all columns of which the same is true."""
    alike: dict[str, list[str]] = {}
    for column, said in sorted(how.items()):
        alike.setdefault(said, []).append(column.task)
    return [f"{', '.join(dict.fromkeys(names))}: {said}" for said, names in alike.items()]


def comma_separated(table: Table) -> str:
    """One line a cell, numbers to ten decimals; cells that were not measured have no numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "task", "metric", "mean", "deviation", "seeds", "low", "high", "how", "notes"])
    for model in table.models:
        for column in table.columns:
            cell = table.cells.get((model, column))
            values: list = [None] * 5
            if cell:
                bounds = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
                values = [cell.summary.mean, cell.summary.deviation, cell.summary.n, *bounds]
            notes = "; ".join(cell.notes) if cell else MISSING
            writer.writerow([model, column.task, column.metric, *map(ten_decimals, values), table.how[column], notes])
    return out.getvalue()


FORMATS: dict[str, Callable[..., str]] = {"md": markdown, "csv": comma_separated, "tex": latex}


def ten_decimals(value: Any) -> Any:
    """A number for files that are compared byte for byte: the last bits of a sum depend on the processor."""
    return round(value, 10) if isinstance(value, float) else value


def score(summary: Summary, plus_minus: str, mark: str = "") -> str:
    """Mean, deviation and number of seeds, with a mark where one is wanted."""
    deviation = f" {plus_minus} {summary.deviation:.2f}" if summary.deviation is not None else ""
    return f"{summary.mean:.2f}{deviation} ({summary.n}){mark}"


def legend_of_scores(plus_minus: str, mark: str) -> str:
    """What `score` shows."""
    return (
        f"Mean {plus_minus} standard deviation over seeds (number of seeds); "
        f"{mark} fewer than {FEWEST_SEEDS} seeds, or not all folds."
    )


def _cells(table: Table, model: str, columns: Sequence[Column], plus_minus: str, mark: str) -> list[str]:
    """A measured row; under columns of published scores alone it is empty."""
    found = []
    for column in columns:
        cell = table.cells.get((model, column))
        missing = MISSING if column in table.columns else ""
        found.append(score(cell.summary, plus_minus, mark if cell.marked else "") if cell else missing)
    return found


def _published(row: published_Row, columns: Sequence[Column]) -> list[str]:
    return [f"{row.scores[column][0]:.2f}" if column in row.scores else "" for column in columns]


def _notes(cell: Cell) -> list[str]:
    said = [f"95 % interval {cell.interval.low:.2f} to {cell.interval.high:.2f}"] if cell.interval else []
    return [*said, *cell.notes]


def _legend(table: Table, plus_minus: str, mark: str) -> str:
    if not any(cell.interval for cell in table.cells.values()):
        return legend_of_scores(plus_minus, mark)
    below = "Below: 95 % bootstrap intervals (BCa) over test examples, the seeds fixed."
    return f"{legend_of_scores(plus_minus, mark)} {below}"


def latex_escape(text: str) -> str:
    return "".join(_LATEX.get(sign, "\\" + sign if sign in "&%$#_{}" else sign) for sign in text)


# ----------------------------------------------------------------------------------------------------
# Places in a document that are filled from records, between `<!-- table:NAME -->` and `<!-- end -->`.


END = "<!-- end -->"


def begin(name: str) -> str:
    """The marker before a place."""
    return f"<!-- table:{name} -->"


def put_between_markers(document: Path, name: str, text: str) -> None:
    """Replace what stands at a place, and nothing else.

    Args:
        text: with the end of its last line.

    Raises:
        UserError: the document has no such place, or several.
    """
    marker = begin(name)
    whole = document.read_text(encoding="utf-8")
    before, _, rest = whole.partition(marker)
    if whole.count(marker) != 1 or END not in rest or "<!-- table:" in rest.partition(END)[0]:
        raise UserError("no place for the table", where=document, remedy=f"one line {marker} and one {END} after it")
    write_text(document, f"{before}{marker}\n{text}{rest[rest.index(END) :]}")


# ----------------------------------------------------------------------------------------------------
# Pieces of LaTeX: text, tables that float, tables that run over pages.


Row = Sequence[str] | str
"""Cells, or the heading of the rows that follow. Cells are LaTeX already."""
RAGGED = ">{{\\raggedright\\arraybackslash}}p{{{}}}"
"""A column of that width, for `format`."""


def text(plain: str) -> str:
    """Plain text as LaTeX: percent signs stand off by a thin space, 4e-05 is a power of ten, -1 has a minus."""
    escaped = latex_escape(plain).replace(" \\%", "\\,\\%").replace("±", "$\\pm$")
    escaped = re.sub(r"(?<![\w.)-])-(?=\d)", "$-$", escaped)
    return re.sub(r"\b(\d(?:\.\d+)?)e-0?(\d+)", r"$\1\\cdot10^{-\2}$", escaped)


def code(plain: str) -> str:
    """A command or a file's name in typewriter letters, which may break behind its slashes and commas."""
    escaped = latex_escape(plain).replace("--", "-{}-")  # no ligature
    for sign in "/,=":
        escaped = escaped.replace(sign, sign + "\\allowbreak{}")
    return f"\\texttt{{{escaped}}}"


_TIGHT = "\\setlength{\\tabcolsep}{2pt}"


def table(
    name: str,
    caption: str,
    align: str,
    head: Sequence[str],
    rows: Sequence[Row],
    *,
    place: str = "tbp",
    tight: bool = False,
) -> str:
    """A table that floats to `place`, `\\label{tab:NAME}`; head and cells LaTeX; `tight`: columns close together."""
    align = f"@{{}}{align}@{{}}" if tight else align
    body = [f"\\begin{{tabular}}{{{align}}}", "\\toprule", _line(head), "\\midrule", *_body(rows, len(head))]
    inside = "\n".join([*body, "\\bottomrule", "\\end{tabular}"])
    return (
        f"\\begin{{table}}[{place}]\n"
        f"\\centering\\footnotesize{_TIGHT if tight else ''}\n"
        f"\\caption{{{caption}}}\\label{{tab:{name}}}\n{inside}\n\\end{{table}}\n"
    )


def long_table(name: str, caption: str, align: str, head: Sequence[str], rows: Sequence[Row]) -> str:
    """The same for a table of several pages, with its head on each."""
    top = ["\\toprule", _line(head), "\\midrule"]
    first = [f"\\caption{{{caption}}}\\label{{tab:{name}}}\\\\", *top, "\\endfirsthead"]
    return "\n".join(
        [
            "{\\footnotesize", f"\\begin{{longtable}}{{{align}}}", *first, *top, "\\endhead", "\\bottomrule",
            "\\endlastfoot", *_body(rows, len(head)), "\\end{longtable}}", "",
        ]
    )  # fmt: skip


def _line(cells: Sequence[str]) -> str:
    return " & ".join(cells) + " \\\\"


def _body(rows: Sequence[Row], columns: int) -> list[str]:
    lines = []
    for number, row in enumerate(rows):
        if isinstance(row, str):
            lines += ["\\addlinespace"] if number else []
            lines.append(f"\\multicolumn{{{columns}}}{{@{{}}l}}{{\\textit{{{row}}}}} \\\\*")
        else:
            lines.append(_line(row))
    return lines
