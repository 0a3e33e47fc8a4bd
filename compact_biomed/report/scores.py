"""Tables of scores: models by tasks, with published rows, and with what the page shows beside each cell."""

from collections.abc import Iterable, Mapping, Sequence

from compact_biomed.errors import UsageError, UserError
from compact_biomed.machine import PRECISIONS
from compact_biomed.records.lines import Line
from compact_biomed.report import table as cells
from compact_biomed.report.family import Family, family_means
from compact_biomed.report.grid import Score, ScoreGrid
from compact_biomed.report.measured import Column
from compact_biomed.report.protocols import MIXED, Way, protocols_by_model
from compact_biomed.report.published import PublishedFigure, PublishedRow, columns_apart, sources_of
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.table import MISSING, Cell, Row, Table, TableColumn, words

LEGEND = f"Mean ± standard deviation over seeds (number of seeds); * fewer than {FEWEST_SEEDS} seeds, or not all folds."
_INTERVALS = "Below: 95 % bootstrap intervals (BCa) over test examples, the seeds fixed."


def scores_table(grid: ScoreGrid, published: Sequence[PublishedRow] = ()) -> Table:
    """Return the scores of all models on all columns.

    Args:
        published: rows of published scores, which come last.
    """
    columns = [*grid.columns, *columns_apart(grid.columns, published)]
    protocols = ProtocolColumn(grid.ways)
    rows = [
        Row((words(model), *protocols.cell(model), _size(grid, model), *(score_cell(grid, model, c) for c in columns)))
        for model in grid.models
    ]
    order = [None, *protocols.blank, None, *columns]
    rows += trivial_row(grid, order)
    rows += [published_row(row, order) for row in published]
    notes = [*footnotes(grid.how), *not_counted_notes(grid, grid.columns), *sources_of(published)]
    for model in grid.models:
        for column in grid.columns:
            score = grid.cells.get((model, column))
            of_score = score_notes(score) if score else ()
            notes += [f"{model}, {column.title}: {'; '.join(of_score)}"] if of_score else []
    notes += [f"{model}, {column.title}: {'; '.join(why)}" for (model, column), why in sorted(grid.left_out.items())]
    any_interval = any(score.interval for score in grid.cells.values())
    notes += variant_notes(line for score in grid.cells.values() for line in score.lines)
    legend = [LEGEND, *([_INTERVALS] if any_interval else []), *protocols.legend]
    sizes = TableColumn("parameters", "parameters", shown=False)
    heads = (TableColumn("model", "model", left=True), *protocols.head, sizes, *map(column_head, columns))
    return Table("scores", heads, tuple(rows), legend=" ".join(legend), notes=tuple(notes))


def scores_by_row(grid: ScoreGrid) -> Table:
    """Return one row for each model and column, to compute with; scores that were not measured are empty."""
    rows = []
    for model in grid.models:
        for column in grid.columns:
            score = grid.cells.get((model, column))
            notes = "; ".join(score.notes) if score else MISSING
            cell = score_cell(grid, model, column)
            of_column = set(grid.how_on([column]).values())
            how = grid.how.get((model, column), of_column.pop() if len(of_column) == 1 else "")
            about = (words(how), words(notes))
            rows.append(Row((words(model), words(column.task), words(column.metric), cell, *about)))
    fields = {"value": "mean", "deviation": "deviation", "n": "seeds", "low": "low", "high": "high"}
    texts = {name: TableColumn(name, name, left=True) for name in ("model", "task", "metric", "how", "notes")}
    heads = (*(texts[name] for name in ("model", "task", "metric")), TableColumn("score", "score", fields=fields))
    return Table("scores", (*heads, texts["how"], texts["notes"]), tuple(rows))


def trace(grid: ScoreGrid, cell: str) -> str:
    """Return where the score in a cell comes from: its records, with what decided them and the commands that made them.

    Args:
        cell: "MODEL,TASK", on all scales of the task.

    Raises:
        UserError: there is no such cell.
    """
    # Names may contain commas: any of them can be the one between model and task.
    halves = [(cell[:i].strip(), cell[i + 1 :].strip()) for i, character in enumerate(cell) if character == ","]
    scores = [score for (model, column), score in grid.cells.items() if (model, column.task) in halves]
    lines = {line.where: line for score in scores for line in score.lines}
    if not lines:
        known = "; ".join(sorted({f"{m},{c.task}" for m, c in grid.cells}))
        raise UsageError("no such cell", where=f"--trace {cell}", remedy=f"one of {known}")
    return "\n".join(map(_origin, lines.values()))


def _origin(line: Line) -> str:
    record, source = line.record, line.record.get("from", {})
    task, settings, overrides = record["task"], record.get("settings", {}), record["protocol"]["overrides"]
    fold = "" if task["fold"] is None else f", fold {task['fold']} of {task['folds']}"
    shown = {name: settings[name] for name in ("learning_rate", "epochs", "batch_size") if name in settings} | overrides
    decided = [f"protocol {record['protocol']['name']}", *(f"{name} {value}" for name, value in shown.items())]
    revision = f"commit {source['revision']}" if source.get("revision") else "an installed package"
    changed = ", with changes" if source.get("clean") is False else ""
    parts = {
        "scores": ", ".join(f"{name} {value:.2f}" for name, value in record["metrics"].items()),
        "settings": ", ".join(decided),
        "weights": f"sha256 {record['model']['weights_sha256']}",
        "code": f"{revision}{changed}, {source.get('date', 'no date')[:10]}",
        "command": source.get("command", "not recorded"),
    }
    head = f"{line.where}: {line.model} on {line.task}, {record['split']}{fold}, seed {record['seed']}\n"
    return head + "".join(f"  {name:<9} {text}\n" for name, text in parts.items())


def family_table(grid: ScoreGrid, family: Family, published: Sequence[PublishedRow] = ()) -> Table:
    """Return the scores on one kind of tasks with the models' sizes and, over several tasks, the mean.

    Where no mean can be taken, a note says why.
    """
    means, no_mean = _means(grid, family)
    apart = columns_apart(family.columns, published)
    protocols = ProtocolColumn({key: way for key, way in grid.ways.items() if key[1] in family.columns})
    rows = []
    for model in grid.models:
        own = [grid.cells[model, column] for column in family.columns if (model, column) in grid.cells]
        if own:
            about = [
                *protocols.cell(model),
                _size(grid, model),
                words(own[0].lines[0].record["model"].get("architecture", "")),
            ]
            scores = [score_cell(grid, model, column) for column in family.columns]
            if means:
                mean = means.get(model)
                scores.append(_cell(model, family.mean, mean) if mean else words("not all tasks"))
            rows.append(Row((words(model), *about, *scores, *(words("") for _ in apart))))
    heads = [TableColumn("model", "model", left=True), *protocols.head, TableColumn("parameters", "parameters")]
    heads += [TableColumn("architecture", "architecture", left=True), *map(column_head, family.columns)]
    heads += [TableColumn("mean", "mean", f"of {len(family.columns)} tasks")] if means else []
    heads += map(column_head, apart)
    order = [None, *protocols.blank, None, None, *family.columns, *([None] if means else []), *apart]
    rows += [*trivial_row(grid, order), *(published_row(row, order) for row in published)]
    notes = [*protocols.legend, *footnotes(grid.how_on(family.columns)), *no_mean]
    notes += [*not_counted_notes(grid, family.columns), *sources_of(published)]
    return Table(family.heading, tuple(heads), tuple(rows), notes=tuple(notes))


def _size(grid: ScoreGrid, model: str) -> Cell:
    size = grid.encoder_parameters.get(model)
    return cells.number(size, ".1f", "M", scale=1e-6) if size else words("")


def _means(grid: ScoreGrid, family: Family) -> tuple[Mapping[str, Score], list[str]]:
    """Return each model's mean over several tasks, or why there is none."""
    if len(family.columns) < 2:
        return {}, []
    try:
        return family_means(grid, family), []
    except UserError as error:
        return {}, [f"No mean over the tasks: {error.what}."]


def column_head(column: Column) -> TableColumn:
    """Return the head over the scores on a column."""
    return TableColumn(column.title, column.task, column.detail, bounds=False)


def score_cell(grid: ScoreGrid, model: str, column: Column) -> Cell:
    """Return a model's score; empty in columns that have published scores only."""
    if column not in grid.columns:
        return words("")
    score = grid.cells.get((model, column))
    return _cell(model, column, score) if score else words(MISSING)


def _cell(model: str, column: Column, score: Score) -> Cell:
    return cells.score(
        score.summary,
        marked=score.marked,
        interval=score.interval,
        title=cell_title(model, column),
        notes=score_notes(score, "over test examples: "),
        lines=score.lines,
    )


def cell_title(model: str, column: Column) -> str:
    """Return the heading of what the page shows beside a score; the points of figures find the score by it."""
    return f"{model}: {column.title}"


def score_notes(score: Score, of_interval: str = "") -> tuple[str, ...]:
    """Return the interval of a score and what a reader should know of it, one line each."""
    interval = score.interval
    bounds = [f"95 % interval {of_interval}{interval.low:.2f} to {interval.high:.2f}"] if interval else []
    return (*bounds, *score.notes)


def trivial_row(grid: ScoreGrid, columns: Sequence[Column | None]) -> list[Row]:
    """Return a row with the score of always giving the same answer, if one of the columns has such a score.

    Args:
        columns: of the table; None is a column without scores.
    """
    if not any(column in grid.trivial for column in columns):
        return []
    shown = [cells.number(grid.trivial[column]) if column in grid.trivial else words("") for column in columns]
    return [Row((words("always the same answer"), *shown[1:]), published=True)]


def not_counted_notes(grid: ScoreGrid, columns: Sequence[Column]) -> list[str]:
    """Return a line for each of the columns that is in no mean over tasks, retained share or claim: why not."""
    reasons: dict[str, list[str]] = {}
    for column in columns:
        if column in grid.not_counted:
            reasons.setdefault(grid.not_counted[column], []).append(column.task)
    return [
        f"{', '.join(tasks)}: in no mean over tasks, retained share or claim, because {why}."
        for why, tasks in reasons.items()
    ]


def published_row(row: PublishedRow, columns: Sequence[Column | None]) -> Row:
    """Return the scores that a source gives for a model.

    Args:
        columns: of the table; None is a column without published scores.
    """
    shown = [_published_cell(row, *row.scores[column]) if column in row.scores else words("") for column in columns]
    shown[0] = words(row.model, detail=f"published ({row.source.name})")
    return Row(tuple(shown), published=True)


def _published_cell(row: PublishedRow, value: float, figure: PublishedFigure) -> Cell:
    scores = ", ".join(f"{metric} {score:.2f}" for metric, score in figure.metrics.items())
    notes = (
        "published, not measured here",
        f"scale: {figure.scale}" + (" (see the source)" if figure.scale == "word-pieces" else ""),
        f"as published: {scores}",
        f"source: {row.source.reference}" + (f", read in: {figure.read_in}" if figure.read_in else ""),
        row.source.about,
    )
    return Cell(value=value, title=f"{row.model}: {figure.task}", notes=notes)


def footnotes(how: Mapping[tuple[str, Column], str]) -> list[str]:
    """Return by which protocol the scores were made, one line for all of which the same is true.

    Args:
        how: (model, column) -> version of the task and protocol. Models are named where they differ on a column.
    """
    by_column: dict[Column, dict[str, list[str]]] = {}
    for (model, column), text in sorted(how.items(), key=lambda each: (each[0][1], each[0][0])):
        by_column.setdefault(column, {}).setdefault(text, []).append(model)
    tasks: dict[tuple[str, str], list[str]] = {}
    for column, texts in by_column.items():
        for text, models in texts.items():
            of_whom = f" ({', '.join(models)})" if len(texts) > 1 else ""
            tasks.setdefault((of_whom, text), []).append(column.task)
    return [f"{', '.join(dict.fromkeys(names))}{whom}: {text}" for (whom, text), names in tasks.items()]


def variant_notes(lines: Iterable[Line]) -> list[str]:
    """Return which models are others that were scored again without training, and why their scores differ.

    Args:
        lines: the records of all models of a table.
    """
    by_run = {line.record["run"]: line for line in lines}
    models = {line.model for line in by_run.values()}
    variants: dict[str, set[str]] = {}
    trained_in: dict[str, str] = {}
    for line in by_run.values():
        if of := line.record.get("of"):
            engine, source = line.record.get("how", {}).get("engine", ""), by_run.get(of)
            name = source.model if source else line.model.removesuffix(f" {engine}")
            variants.setdefault(name, set()).add(line.model)
            if source and (precision := source.record.get("how", {}).get("precision")):
                trained_in[name] = f", in {PRECISIONS.get(precision, precision)}"
    return [
        f"{', '.join(sorted(names))}: the fine-tuned weights of {source}, scored again without training. "
        + (f"{source}: at the end of its fine-tuning{trained_in.get(source, '')}. " if source in models else "")
        + "Between precisions scores differ by rounding, in int8 by quantization too."
        for source, names in sorted(variants.items())
    ]


class ProtocolColumn:
    """A column that names each model's protocol; no column at all where all were fine-tuned alike.

    Args:
        ways: (model, column) -> how the model was fine-tuned.
    """

    def __init__(self, ways: Mapping[tuple[str, Column], Way]):
        self._by_model = protocols_by_model(ways)
        self.head = [TableColumn("protocol", "protocol", left=True)] if self._by_model else []
        self.blank = [None] * len(self.head)
        self.legend = [MIXED] if self._by_model else []

    def cell(self, model: str) -> list[Cell]:
        """Return the model's entry, in a list that is empty if there is no such column."""
        return [words(self._by_model.get(model, ""))] if self._by_model else []
