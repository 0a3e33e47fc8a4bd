"""Tables as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Sequence

from compact_biomed.report.tables import FEWEST_SEEDS, Cell, Table

MISSING = "not measured"


def markdown(table: Table) -> str:
    """A table of models by columns, with the intervals and notes below."""
    rows = [[model, *(_cell(table.cells.get((model, c)), "±", "\\*") for c in table.columns)] for model in table.models]
    text = markdown_rows(["model", *(column.title for column in table.columns)], rows)
    notes = [
        f"- {model}, {column.title}: {'; '.join(said)}"
        for model in table.models
        for column in table.columns
        if (cell := table.cells.get((model, column))) and (said := _notes(cell))
    ]
    return text + "\n" + _legend("±", "\\*") + "\n\n" + "\n".join(notes) + "\n"


def markdown_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Head and rows in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(text.replace("|", "\\|") for text in line) + " |\n" for line in lines)


def latex(table: Table) -> str:
    """A booktabs tabular, with the notes as comments."""
    lines = ["\\begin{tabular}{l" + "r" * len(table.columns) + "}", "\\toprule"]
    lines.append(" & ".join(["model", *(_escape(column.title) for column in table.columns)]) + " \\\\")
    lines.append("\\midrule")
    for model in table.models:
        cells = [_cell(table.cells.get((model, column)), "$\\pm$", "$^*$") for column in table.columns]
        lines.append(" & ".join([_escape(model), *cells]) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}", "% " + _legend("+-", "*")]
    for (model, column), cell in sorted(table.cells.items()):
        lines.append(f"% {model}, {column.title}: {'; '.join(_notes(cell))}")
    return "\n".join(lines) + "\n"


def comma_separated(table: Table) -> str:
    """One line a cell, numbers unrounded; cells that were not measured have no numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["model", "task", "metric", "mean", "deviation", "seeds", "low", "high", "notes"])
    for model in table.models:
        for column in table.columns:
            cell = table.cells.get((model, column))
            values: list = [None] * 5 + [MISSING]
            if cell:
                bounds = (cell.interval.low, cell.interval.high) if cell.interval else (None, None)
                values = [cell.summary.mean, cell.summary.deviation, cell.summary.n, *bounds, "; ".join(cell.notes)]
            writer.writerow([model, column.task, column.metric, *values])
    return out.getvalue()


FORMATS: dict[str, Callable[[Table], str]] = {"md": markdown, "csv": comma_separated, "tex": latex}


def _cell(cell: Cell | None, plus_minus: str, few: str) -> str:
    if cell is None:
        return MISSING
    deviation = f" {plus_minus} {cell.summary.deviation:.2f}" if cell.summary.deviation is not None else ""
    return f"{cell.summary.mean:.2f}{deviation} ({cell.summary.n}){few if cell.summary.n < FEWEST_SEEDS else ''}"


def _notes(cell: Cell) -> list[str]:
    said = [f"95 % interval {cell.interval.low:.2f} to {cell.interval.high:.2f}"] if cell.interval else []
    return [*said, *cell.notes]


def _legend(plus_minus: str, few: str) -> str:
    return (
        f"Mean {plus_minus} standard deviation over seeds (number of seeds); {few} fewer than {FEWEST_SEEDS}. "
        "Below: 95 % bootstrap intervals (BCa) over test examples, the seeds fixed."
    )


def _escape(text: str) -> str:
    return "".join("\\" + sign if sign in "&%$#_{}" else sign for sign in text)
