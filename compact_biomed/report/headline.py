"""The table that a reader sees first: the family of models, on the tasks that all of it was measured on."""

from collections.abc import Sequence

from compact_biomed.console import count
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report import table as cells
from compact_biomed.report.contrasts import Contrast, MeasuredByCell, by_model_and_column, contrast
from compact_biomed.report.family import FAMILY, GENERAL, TEACHER, mean_score
from compact_biomed.report.grid import Score, ScoreGrid
from compact_biomed.report.measured import Column, measure
from compact_biomed.report.scores import LEGEND, column_head, not_counted_notes
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.table import UNKNOWN, Cell, Row, Table, TableColumn, share, words


def headline_table(grid: ScoreGrid, lines: Sequence[Line], scale: str = "") -> Table:
    """Return size, mean, retention and each task of the paper's family and of the general model.

    Scores are on words. The legend names the tasks that some of the models were not measured on; how models were
    fine-tuned is in the table of all scores.

    Args:
        grid: the scores of `lines`.
        scale: in words, which reproduction these are the scores of.

    Raises:
        UserError: no model of the family was measured, or they have no task in common.
    """
    on_words = [column for column in grid.columns if not column.on_pieces]
    models = [name for name in (*FAMILY, GENERAL) if any((name, column) in grid.cells for column in on_words)]
    columns = [column for column in on_words if all((name, column) in grid.cells for name in models)]
    counted = [column for column in columns if column not in grid.not_counted]
    if not columns or not set(FAMILY) & set(models):
        raise UserError("no task that all measured models of the family have", where="--records")
    measured = by_model_and_column(measure(lines), on_pieces=False)
    compared = {(name, column): each for (name, column), each in measured.items() if column in counted}
    sizes = grid.encoder_parameters
    rows = []
    for name in models:
        mean = mean_score([grid.cells[name, column] for column in counted]) if counted else None
        scores = [grid.cells[name, column] for column in columns]
        rows.append(_row(name, sizes.get(name), mean, scores, compared))
    heads = [
        TableColumn("model", "model", left=True),
        TableColumn("parameters", "parameters"),
        TableColumn("mean", "mean"),
    ]
    heads += [TableColumn("retained", f"retained of {TEACHER}"), *map(column_head, columns)]
    left_out = [column.title for column in on_words if column not in columns]
    below = not_counted_notes(grid, columns)
    if left_out:
        below.append(f"Not shown, because not all of these models were measured on it: {'; '.join(left_out)}.")
    legend = " ".join([_legend(models, counted, scale), *below])
    return Table("headline", tuple(heads), tuple(rows), legend=legend)


def _row(model: str, size: int | None, mean: Score | None, scores: Sequence[Score], compared: MeasuredByCell) -> Row:
    return Row(
        (
            words(model),
            words(count(size) if size else UNKNOWN),
            _score(mean) if mean else words(UNKNOWN),
            _retained(model, compared),
            *map(_score, scores),
        )
    )


def _score(score: Score) -> Cell:
    return cells.score(score.summary, marked=score.marked, lines=score.lines)


def _retained(model: str, compared: MeasuredByCell) -> Cell:
    if model == TEACHER:
        return words("100 %")
    ratio = contrast(compared, model, TEACHER, 1.0)
    if not isinstance(ratio, Contrast):
        return words(UNKNOWN)
    shown = sum(name == model for name, _ in compared)
    part = "" if len(ratio.columns) == shown else f", on {len(ratio.columns)} of {shown} tasks"
    return share(ratio.ratio.value, ratio.ratio, text=part)


def _legend(models: Sequence[str], columns: Sequence[Column], scale: str) -> str:
    over = "the task" if len(columns) == 1 else f"the {len(columns)} tasks"
    sentences = [
        f"Test scores on words after fine-tuning, in percent. {LEGEND}",
        f"Parameters: of the encoder. Mean: over {over}, seed by seed.",
        f"Retained: the score over the teacher's ({TEACHER}), averaged over tasks (95 % bootstrap interval over test "
        f"examples and seeds), without those that have fewer than {FEWEST_SEEDS} seeds.",
        f"The family is a miniature of the paper's{f', {scale}' if scale else ''}.",
    ]
    if GENERAL in models:
        sentences.append(f"{GENERAL} is the general model that the teacher starts from.")
    return " ".join(sentences)
