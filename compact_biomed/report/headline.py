"""Scores -> the one table that a reader sees first: the family, on the tasks that all of it was measured on."""

from collections.abc import Sequence

from compact_biomed.console import count
from compact_biomed.errors import UserError
from compact_biomed.report.claims import FAMILY, GENERAL, TEACHER
from compact_biomed.report.contrast import Contrast, Scores, by_model_and_column, contrast
from compact_biomed.report.families import mean_cell
from compact_biomed.report.measured import Column, measure
from compact_biomed.report.records import Line, encoder_parameters
from compact_biomed.report.render import footnotes, legend_of_scores, markdown_rows, score
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.tables import Cell, Table

_MARK = "\\*"


def headline(table: Table, lines: Sequence[Line]) -> str:
    """Models of the paper's family and the general model, with size, mean, what is retained, and each task; Markdown.

    Scores are on words. Tasks that some of the models were not measured on are left out, and named.

    Args:
        table: of `lines`.

    Raises:
        UserError: no model of the family was measured, or they have no task in common.
    """
    on_words = [column for column in table.columns if not column.on_pieces]
    models = [name for name in (*FAMILY, GENERAL) if any((name, column) in table.cells for column in on_words)]
    columns = [column for column in on_words if all((name, column) in table.cells for name in models)]
    if not columns or not set(FAMILY) & set(models):
        raise UserError("no task that all measured models of the family have", where="--records")
    scores = by_model_and_column(measure(lines), on_pieces=False)
    shown = {(name, column): found for (name, column), found in scores.items() if column in columns}
    rows = [_row(name, [table.cells[name, column] for column in columns], shown) for name in models]
    head = ["model", "parameters", "mean", f"retained of {TEACHER}", *(column.title for column in columns)]
    below = [*footnotes({column: table.how[column] for column in columns}), *_left_out(on_words, columns)]
    return f"{markdown_rows(head, rows)}\n{_legend(models, columns)}\n\n" + "".join(f"- {note}\n" for note in below)


def _row(name: str, cells: Sequence[Cell], scores: Scores) -> list[str]:
    size = encoder_parameters(line for cell in cells for line in cell.lines).get(name)
    mean = mean_cell(cells)
    return [
        name,
        count(size) if size else "n/a",
        _score(mean) if mean else "n/a",
        _retained(name, scores),
        *map(_score, cells),
    ]


def _score(cell: Cell) -> str:
    return score(cell.summary, "±", _MARK if cell.marked else "")


def _retained(name: str, scores: Scores) -> str:
    if name == TEACHER:
        return "100 %"
    found = contrast(scores, name, TEACHER, 1.0)
    if not isinstance(found, Contrast):
        return "n/a"
    shown = sum(of == name for of, _ in scores)
    part = "" if len(found.columns) == shown else f", on {len(found.columns)} of {shown} tasks"
    return f"{100 * found.ratio.value:.1f} % ({100 * found.ratio.low:.1f} to {100 * found.ratio.high:.1f}){part}"


def _legend(models: Sequence[str], columns: Sequence[Column]) -> str:
    over = "the task" if len(columns) == 1 else f"the {len(columns)} tasks"
    said = [
        f"Test scores on words after fine-tuning, in percent. {legend_of_scores('±', _MARK)}",
        f"Parameters: of the encoder. Mean: over {over}, seed by seed.",
        f"Retained: the score over the teacher's ({TEACHER}), averaged over tasks",
        "(95 % bootstrap interval over test examples and seeds), without those that have fewer than "
        f"{FEWEST_SEEDS} seeds. The family is a miniature of the paper's.",
    ]
    if GENERAL in models:
        said.append(f"{GENERAL} is the general model that the teacher starts from.")
    return " ".join(said)


def _left_out(on_words: Sequence[Column], columns: Sequence[Column]) -> list[str]:
    names = [column.title for column in on_words if column not in columns]
    return [f"Not shown, because not all of these models were measured on it: {'; '.join(names)}."] if names else []
