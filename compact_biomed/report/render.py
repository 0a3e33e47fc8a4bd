"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from compact_biomed.report.measured import Column
from compact_biomed.report.published import Row, columns_apart, sources_of
from compact_biomed.report.statistics import FEWEST_SEEDS, Summary
from compact_biomed.report.tables import Cell, Table

MISSING = "not measured"
_LATEX = {"^": "\\^{}", "~": "\\textasciitilde{}", "\\": "\\textbackslash{}"}


def markdown(table: Table, published: Sequence[Row] = ()) -> str:
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


def latex(table: Table, published: Sequence[Row] = ()) -> str:
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


def _published(row: Row, columns: Sequence[Column]) -> list[str]:
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
