"""The manuscript's tables of scores: those of `report.scores` and `report.compare` with fewer columns, in sections."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from compact_biomed.console import counted
from compact_biomed.report.claims import SIGNIFICANCE
from compact_biomed.report.compare import TESTS, Comparison, comparison_table, retention_table
from compact_biomed.report.family import FAMILY, TEACHER, groups_of
from compact_biomed.report.grid import ScoreGrid
from compact_biomed.report.latex import latex_code, latex_float, latex_long, latex_text
from compact_biomed.report.manuscript.inputs import REPRODUCE, STUDY, Inputs
from compact_biomed.report.measured import Column
from compact_biomed.report.protocols import protocol_of
from compact_biomed.report.scores import scores_table
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.table import MISSING, UNKNOWN, Cell, Table, TableColumn, share, words

NONE = "--"
_MOST_COLUMNS = 4
_METRICS = {"f1": "F1", "mrr": "MRR"}
_SCALES = {False: "words", True: "word-pieces"}


def scores(inputs: Inputs) -> str:
    """Return every model on every task: on words and other scales, then on word-pieces."""
    caption = (
        "Scores in percent, entities on {scale}: mean $\\pm$ standard deviation over seeds; in brackets the number of "
        f"seeds where it is not the column's. M: parameters of the encoder in millions. $^*$ fewer than {FEWEST_SEEDS} "
        "seeds, or not all folds."
    )
    parts = []
    for on_pieces, label in ((False, "scores"), (True, "pieces")):
        for part, columns in enumerate(_portions(inputs, on_pieces)):
            table = _of_columns(inputs, columns, "parameters")
            table = table.map(without_unit, "parameters", title="M")
            for column in columns:
                usual = _usual_seeds(inputs, column)
                table = table.map(_without_n(usual), column.title, detail=_metric_and_seeds(column, usual))
            first = caption.format(scale=_SCALES[on_pieces])
            text = f"{_as_first(label, part) or first} {_protocols(inputs, columns)} {sources(inputs)}"
            parts.append(latex_float(replace(table, name=_label(label, part)), text))
    return "\n".join(parts)


def intervals(inputs: Inputs) -> str:
    """Return the interval of every score over test examples."""
    caption = (
        "Mean scores, entities on {scale}, with their 95\\,\\% intervals over test examples (BCa bootstrap, the seeds "
        "fixed)."
    )
    parts = []
    for on_pieces, label in ((False, "intervals"), (True, "intervals-pieces")):
        for part, columns in enumerate(_portions(inputs, on_pieces)):
            table = _of_columns(inputs, columns)
            for column in columns:
                detail = _metric_and_seeds(column, _usual_seeds(inputs, column))
                table = table.map(_mean_alone, column.title, detail=detail, bounds=True)
            text = _as_first(label, part) or f"{caption.format(scale=_SCALES[on_pieces])} {sources(inputs)}"
            parts.append(latex_float(replace(table, name=_label(label, part)), text, place="!ht"))
    return "\n".join(parts)


def retained(inputs: Inputs) -> str:
    """Return the ratios to the teacher's scores on words, and their mean over the tasks that every model has."""
    parts = []
    for part, columns in enumerate(_portions(inputs, on_pieces=False)):
        table = retention_table(list(inputs.compared.values()), columns, inputs.grid, TEACHER, mark=_dagger)
        for column in columns:
            detail = _metric_and_seeds(column, _usual_seeds(inputs, column))
            table = table.map(without_unit, column.title, detail=detail, bounds=True)
        with_mean = bool(inputs.ratios) and part == 0
        if with_mean:
            table = table.add(TableColumn("mean", "mean"), lambda model: _mean_ratio(inputs, model))
        caption = _as_first("retained", part) or (
            f"What is retained of {TEACHER}'s score, in percent, with its 95\\,\\% bootstrap interval over test "
            "examples and seeds. $^\\dagger$ the two differ over examples (approximate randomization, "
            f"$p < {SIGNIFICANCE}$ after Holm's correction).{_of_mean(inputs) if with_mean else ''} {sources(inputs)}"
        )
        table = by_kind(replace(table, name=_label("retained", part)))
        parts.append(latex_float(table, caption, tight=with_mean))
    return "\n".join(parts)


def all_comparisons(inputs: Inputs) -> str:
    """Return each comparison with the teacher and its p-values, as `compact-biomed tables compare` shows it."""
    columns = sorted({column for _, column in inputs.compared})
    models = [name for names in groups_of({model for model, _ in inputs.compared}).values() for name in names]
    ordered = [
        inputs.compared[name, column] for column in columns for name in models if (name, column) in inputs.compared
    ]
    table = comparison_table(ordered, TEACHER).select("model", "retained", *TESTS)
    table = table.map(without_unit, "retained", title="retained, %")
    rows = [replace(row, section=each.column.title) for row, each in zip(table.rows, ordered, strict=True)]
    command = latex_code(f"compact-biomed tables compare --records {STUDY}/evaluation.jsonl --teacher {TEACHER}")
    caption = (
        f"Every comparison with {TEACHER}: ratio with its 95\\,\\% interval; two-sided $p$ over examples and over "
        f"seeds, in brackets after Holm's correction for all comparisons of the same scale. Made by {command}."
    )
    return latex_long(replace(table, name="comparisons", rows=tuple(rows)), caption)


def sources(inputs: Inputs) -> str:
    """Return the files of the scores, and the command that makes them."""
    files = ", ".join(latex_code(str(file)) for file in dict.fromkeys(line.file for line in inputs.scores))
    return f"Records: {files}, made by {latex_code(REPRODUCE)}."


def for_picture(inputs: Inputs) -> tuple[ScoreGrid, list[str]]:
    """Return the scores of family, teacher and general models on words, and the tasks that all of the family have."""
    grid = inputs.grid
    family = [model for model in grid.models if model in FAMILY]
    general = groups_of(grid.models).get("General", [])
    columns = [
        column
        for column in grid.columns
        if not column.on_pieces and all((model, column) in grid.cells for model in family)
    ]
    return replace(grid, models=(*family, *general), columns=tuple(columns)), [each.task for each in columns]


def _portions(inputs: Inputs, on_pieces: bool) -> list[list[Column]]:
    """Return the columns of each table; columns that only some of the models have are last, in tables of their own."""
    grid = inputs.grid
    columns = [column for column in grid.columns if column.on_pieces == on_pieces]
    complete = [column for column in columns if all((model, column) in grid.cells for model in grid.models)]
    parts = [column for column in columns if column not in complete]
    return [some[k : k + _MOST_COLUMNS] for some in (complete, parts) for k in range(0, len(some), _MOST_COLUMNS)]


def _of_columns(inputs: Inputs, columns: Sequence[Column], *before: str) -> Table:
    """Return the scores on some columns, of the models that have any of them, by kind of model."""
    table = scores_table(inputs.grid).select("model", *before, *(column.title for column in columns))
    rows = [row for row in table.rows if any(cell.value is not None for cell in row.cells[1 + len(before) :])]
    return by_kind(replace(table, rows=tuple(rows)))


def by_kind(table: Table) -> Table:
    """Group the rows of a table by kind of model; missing values are dashes."""
    return dashes(table.in_sections(groups_of([row.cells[0].text for row in table.rows])))


def dashes(table: Table) -> Table:
    """Write dashes for missing values."""
    missing = (MISSING, UNKNOWN, "")
    return table.map(lambda cell: words(NONE) if cell.value is None and cell.text in missing else cell)


def _metric_and_seeds(column: Column, n: int) -> str:
    metric = column.metric.removeprefix("piece_")
    return f"{_METRICS.get(metric, metric)}, {counted(n, 'seed')}"


def _usual_seeds(inputs: Inputs, column: Column) -> int:
    return max(score.summary.n for (_, of), score in inputs.grid.cells.items() if of == column)


def _without_n(usual: int) -> Callable[[Cell], Cell]:
    return lambda cell: replace(cell, n=None) if cell.n == usual else cell


def without_unit(cell: Cell) -> Cell:
    """Return a cell whose unit is in the heading."""
    return replace(cell, unit="")


def _mean_alone(cell: Cell) -> Cell:
    return replace(cell, form=".1f", deviation=None, n=None, mark="")


def _dagger(each: Comparison) -> str:
    p = each.holm.get("examples")
    return "†" if p is not None and p < SIGNIFICANCE else ""


def _mean_ratio(inputs: Inputs, model: str) -> Cell:
    each = inputs.ratios.get(model)
    return without_unit(share(each.ratio.value, each.ratio)) if each else words(NONE)


def _protocols(inputs: Inputs, columns: Sequence[Column]) -> str:
    """Return the protocol of the columns, one sentence for all that share it."""
    tasks: dict[str, list[str]] = {}
    for column in columns:
        line = next(score.lines[0] for (_, of), score in inputs.grid.cells.items() if of == column)
        tasks.setdefault(protocol_of(line.record), []).append(column.task)
    if len(tasks) == 1:
        return f"{latex_text(next(iter(tasks)).capitalize())}."
    return latex_text("; ".join(f"{', '.join(names)}: {protocol}" for protocol, names in tasks.items())) + "."


def _of_mean(inputs: Inputs) -> str:
    tasks = ", ".join(latex_text(column.task) for column in inputs.common)
    return f" Mean: over {tasks}, which every model has with at least {FEWEST_SEEDS} seeds."


def _as_first(name: str, part: int) -> str:
    """Return the caption of a table that continues another."""
    return f"As Table~\\ref{{tab:{name}}}, for more tasks, by the models that were measured on them." if part else ""


def _label(name: str, part: int) -> str:
    return f"{name}-{part + 1}" if part else name
