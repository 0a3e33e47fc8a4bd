"""Tables of scores and of what is retained of the teacher, models in rows by kind, and the benchmarks."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from compact_biomed.report.claims import CONTINUAL, DISTILLED, TEACHER
from compact_biomed.report.comparison import Comparison, compare
from compact_biomed.report.contrast import Contrast, contrast
from compact_biomed.report.manuscript.inputs import REPRODUCE, Inputs, field, groups_of
from compact_biomed.report.manuscript.latex import Row, code, long_table, table, text
from compact_biomed.report.measured import Column, protocol_of
from compact_biomed.report.render import MISSING
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.tables import Cell, Table

_MOST_COLUMNS = 5
_DASH = "--"


def benchmarks(found: Inputs) -> str:
    """Which sets were used, by whom they were measured, and how many examples they have."""
    rows = []
    for task in dict.fromkeys(column.task for column in found.table.columns):
        lines = [line for line in found.scores if line.task == task]
        first = lines[0]
        used = first.record["protocol"]["overrides"].get("max_train_examples")
        sizes = {part: field(first, f"task.examples.{part}") for part in ("train", "dev", "test")}
        folds = sorted({line.fold for line in lines} - {None})
        split = f"fold {', '.join(map(str, folds))} of {field(first, 'task.folds')}" if folds else "fixed"
        train = f"{min(used or sizes['train'], sizes['train']):,} of {sizes['train']:,}"
        columns = [column for column in found.table.columns if column.task == task and not column.on_pieces]
        cells = (task, field(first, "task.kind"), ", ".join(column.metric for column in columns), split, train)
        count = (f"{sizes['test']:,}", f"{len({line.model for line in lines})}", f"{len({line.record['run'] for line in lines})}")
        rows.append([text(cell) for cell in (*cells, *count)])
    head = ("set", "kind", "score", "split", "trained on", "test", "models", "runs")
    caption = "The benchmarks. Trained on: examples used, of those that the training set has. " + sources(found)
    return table("benchmarks", caption, "lllllrrr", head, rows)


def scores(found: Inputs) -> str:
    """Every model on every task: on words and other scales, then on word-pieces."""
    parts = []
    for name, title, on_pieces in (("scores", "on words", False), ("pieces", "on word-pieces", True)):
        columns = [column for column in found.table.columns if column.on_pieces == on_pieces]
        for number, some in enumerate(_portions(columns)):
            rows = _rows(found.table, lambda model, some=some: _score_cells(found.table, model, some))
            said = f"Scores, entities counted {title}, in percent" if number == 0 else f"Scores, entities {title}, on"
            caption = (
                f"{said}: mean $\\pm$ standard deviation over seeds; in brackets the number of seeds where it is not "
                f"the column's. $^*$ fewer than {FEWEST_SEEDS} seeds, or not all folds. {text(_how(found.table, some))} "
                + sources(found)
            )
            label = name if number == 0 else f"{name}-{number + 1}"
            head = ["model", "M", *(_head(found.table, column) for column in some)]
            parts.append(table(label, caption, "lr" + "r" * len(some), head, rows))
    return "\n".join(parts)


def retained(found: Inputs) -> str:
    """The ratios to the teacher's scores on words, and their mean over the tasks that every model has."""
    columns = [column for column in found.table.columns if not column.on_pieces]
    compared = {(each.model, each.column): each for each in compare(found.scores, TEACHER)}
    means = mean_ratios(found)
    parts = []
    for number, some in enumerate(_portions(columns, _MOST_COLUMNS - 1)):
        rows = _rows(
            found.table,
            lambda model, some=some: [_ratio_cell(compared.get((model, c))) for c in some] + [_mean_cell(means.get(model))],
            leave_out=(TEACHER,),
        )
        caption = (
            f"What is retained of {TEACHER}'s score, in percent, with its 95\\,\\% bootstrap interval over test examples "
            "and seeds. $^\\dagger$ the two differ over examples (approximate randomization, $p < 0.05$ after Holm's "
            f"correction). Mean: over {_named(shared_columns(found))}, the tasks that every model has with at least "
            f"{FEWEST_SEEDS} seeds. " + sources(found)
        )
        head = ["model", *(f"\\shortstack[r]{{{text(c.task)}\\\\{text(c.metric)}}}" for c in some), "mean"]
        label = "retained" if number == 0 else f"retained-{number + 1}"
        parts.append(table(label, caption, "l" + "r" * (len(some) + 1), head, rows))
    return "\n".join(parts)


def all_comparisons(found: Inputs) -> str:
    """Each comparison with the teacher and its p-values, as it stands in `compact-biomed tables compare`."""
    rows: list[Row] = []
    compared = compare(found.scores, TEACHER)
    for column in sorted({each.column for each in compared}):
        rows.append(text(column.title))
        of_model = {each.model: each for each in compared if each.column == column}
        rows += [_p_row(of_model[model]) for names in groups_of(list(of_model)).values() for model in names]
    head = ("model", "retained, \\%", "$p$, examples", "$p$, $t$-test", "$p$, Wilcoxon")
    command = code(f"compact-biomed tables compare --records results/evaluation.jsonl --teacher {TEACHER}")
    caption = (
        f"Every comparison with {TEACHER}: ratio with its 95\\,\\% interval; two-sided $p$ over examples and over seeds, in "
        f"brackets after Holm's correction for all comparisons of the same scale. Made by {command}."
    )
    return long_table("comparisons", caption, "lrrrr", head, rows)


def mean_ratios(found: Inputs) -> dict[str, Contrast]:
    """Model -> its scores over the teacher's, averaged over `shared_columns`; models that lack one have none."""
    shared = shared_columns(found)
    scored = {key: each for key, each in found.measured.items() if key[1] in shared}
    models = {model for model, _ in scored} - {TEACHER}
    made = {model: contrast(scored, model, TEACHER, 1.0) for model in sorted(models)}
    return {model: each for model, each in made.items() if isinstance(each, Contrast)}


def shared_columns(found: Inputs) -> list[Column]:
    """The columns on words that every model has with enough seeds."""
    models = {model for model, _ in found.measured}
    return [
        column
        for column in sorted({column for _, column in found.measured})
        if all(len(each.seeds) >= FEWEST_SEEDS if (each := found.measured.get((m, column))) else False for m in models)
    ]


def sources(found: Inputs) -> str:
    """The files of the scores, and what makes them."""
    files = ", ".join(code(str(file)) for file in dict.fromkeys(line.file for line in found.scores))
    return f"Records: {files}, made by {code(REPRODUCE)}."


def for_picture(found: Inputs) -> tuple[Table, list[str]]:
    """The table of the family on words, and the tasks that all of it was measured on."""
    family = [model for model in found.table.models if model in (TEACHER, *DISTILLED, *CONTINUAL)]
    general = [model for title, names in groups_of(found.table.models).items() if title == "General" for model in names]
    columns = [column for column in found.table.columns if not column.on_pieces]
    whole = [column for column in columns if all((model, column) in found.table.cells for model in family)]
    chosen = replace(found.table, models=tuple(family + general), columns=tuple(whole))
    return chosen, [column.task for column in whole]


def _portions(columns: Sequence[Column], most: int = _MOST_COLUMNS) -> Iterator[Sequence[Column]]:
    for start in range(0, len(columns), most):
        yield columns[start : start + most]


def _rows(of: Table, cells: Callable[[str], list[str]], leave_out: Sequence[str] = ()) -> list[Row]:
    rows: list[Row] = []
    for title, names in groups_of([model for model in of.models if model not in leave_out]).items():
        rows += [title, *([text(model), *cells(model)] for model in names)]
    return rows


def _score_cells(of: Table, model: str, columns: Sequence[Column]) -> list[str]:
    size = next((cell.lines[0].record["model"].get("encoder_parameters") for (m, _), cell in of.cells.items() if m == model), None)
    cells = [f"{size / 1e6:.1f}" if size else _DASH]
    for column in columns:
        cell = of.cells.get((model, column))
        cells.append(_score(cell, _usual_seeds(of, column)) if cell else _DASH)
    return cells


def _score(cell: Cell, usual: int) -> str:
    deviation = f"\\,$\\pm$\\,{cell.summary.deviation:.2f}" if cell.summary.deviation is not None else ""
    seeds = f" ({cell.summary.n})" if cell.summary.n != usual else ""
    return f"{cell.summary.mean:.2f}{deviation}{seeds}{'$^*$' if cell.marked else ''}"


def _usual_seeds(of: Table, column: Column) -> int:
    return max(cell.summary.n for (_, c), cell in of.cells.items() if c == column)


def _head(of: Table, column: Column) -> str:
    n = _usual_seeds(of, column)
    metric = column.metric.removeprefix("piece_")
    return f"\\shortstack[r]{{{text(column.task)}\\\\{text(metric)}; {n} seed{'s' * (n > 1)}}}"


def _how(of: Table, columns: Sequence[Column]) -> str:
    """By which protocol the columns were made, once for those made alike."""
    alike: dict[str, list[str]] = {}
    for column in columns:
        line = next(cell.lines[0] for (_, c), cell in of.cells.items() if c == column)
        alike.setdefault(protocol_of(line.record), []).append(column.task)
    return "; ".join(f"{', '.join(tasks)}: {said}" if len(alike) > 1 else said for said, tasks in alike.items()).capitalize() + "."


def _ratio_cell(each: Comparison | None) -> str:
    if each is None or each.retained is None:
        return _DASH
    p = each.holm.get("examples")
    mark = "$^\\dagger$" if p is not None and p < 0.05 else ""
    bounds = f" [{100 * each.interval.low:.1f}, {100 * each.interval.high:.1f}]" if each.interval else ""
    return f"{100 * each.retained:.1f}{bounds}{mark}"


def _mean_cell(each: Contrast | None) -> str:
    if each is None:
        return _DASH
    return f"{100 * each.ratio.value:.1f} [{100 * each.ratio.low:.1f}, {100 * each.ratio.high:.1f}]"


def _p_row(each: Comparison) -> list[str]:
    tests = ["n/a" if p is None else f"{p:.2g} ({each.holm[test]:.2g})" for test, p in each.p.items()]
    return [text(each.model), _ratio_cell(replace(each, holm={})), *tests]


def _named(columns: Sequence[Column]) -> str:
    return ", ".join(text(column.task) for column in columns) or "no task"
