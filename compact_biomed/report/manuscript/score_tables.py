"""Tables of models in rows by kind: scores, their intervals, and what is retained of the teacher."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from compact_biomed.report.claims import SIGNIFICANCE, TEACHER
from compact_biomed.report.comparison import Comparison
from compact_biomed.report.manuscript.inputs import REPRODUCE, Inputs
from compact_biomed.report.manuscript.kinds_of_models import groups_of
from compact_biomed.report.manuscript.latex import Row, code, long_table, table, text
from compact_biomed.report.measured import Column, protocol_of
from compact_biomed.report.records import encoder_parameters
from compact_biomed.report.resampling import Interval
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.tables import Cell

_MOST_COLUMNS = 4
_NONE = "--"
_METRICS = {"f1": "F1", "mrr": "MRR"}
_SCALES = {False: "words", True: "word-pieces"}


def scores(found: Inputs) -> str:
    """Every model on every task: on words and other scales, then on word-pieces."""
    parts = []
    for on_pieces, label in ((False, "scores"), (True, "pieces")):
        for number, columns in enumerate(_portions(found, on_pieces)):
            caption = _as_first(label, number) or (
                f"Scores in percent, entities on {_SCALES[on_pieces]}: mean $\\pm$ standard deviation over seeds; in "
                "brackets the number of seeds where it is not the column's. M: parameters of the encoder in millions. "
                f"$^*$ fewer than {FEWEST_SEEDS} seeds, or not all folds."
            )
            caption += f" {_how(found, columns)} {sources(found)}"
            head = ["model", "M", *(_head(found, column) for column in columns)]
            rows = _rows(found, columns, lambda model, columns=columns: [
                _size(found, model), *(_score(found, model, column) for column in columns)])  # fmt: skip
            parts.append(table(_label(label, number), caption, "lr" + "r" * len(columns), head, rows))
    return "\n".join(parts)


def intervals(found: Inputs) -> str:
    """The interval of every score over test examples."""
    parts = []
    for on_pieces, label in ((False, "intervals"), (True, "intervals-pieces")):
        for number, columns in enumerate(_portions(found, on_pieces)):
            caption = _as_first(label, number) or (
                f"Mean scores, entities on {_SCALES[on_pieces]}, with their 95\\,\\% intervals over test examples (BCa "
                f"bootstrap, the seeds fixed). {sources(found)}"
            )
            rows = _rows(found, columns, lambda model, columns=columns: [
                _with_interval(found.table.cells.get((model, column))) for column in columns])  # fmt: skip
            head = ["model", *(_head(found, column) for column in columns)]
            parts.append(table(_label(label, number), caption, "l" + "r" * len(columns), head, rows, place="!ht"))
    return "\n".join(parts)


def retained(found: Inputs) -> str:
    """The ratios to the teacher's scores on words, and their mean over the tasks that every model has."""
    parts = []
    for number, columns in enumerate(_portions(found, on_pieces=False)):
        with_mean = bool(found.ratios) and number == 0
        caption = _as_first("retained", number) or (
            f"What is retained of {TEACHER}'s score, in percent, with its 95\\,\\% bootstrap interval over test "
            "examples and seeds. $^\\dagger$ the two differ over examples (approximate randomization, "
            f"$p < {SIGNIFICANCE}$ after Holm's correction).{_of_mean(found) if with_mean else ''} {sources(found)}"
        )
        rows = _rows(found, columns, lambda model, columns=columns, with_mean=with_mean: [
            *(_ratio(found.compared.get((model, column))) for column in columns),
            *([_mean(found, model)] if with_mean else []),
        ], leave_out=(TEACHER,))  # fmt: skip
        head = ["model", *(_head(found, column) for column in columns), *(["mean"] if with_mean else [])]
        align = "l" + "r" * (len(head) - 1)
        parts.append(table(_label("retained", number), caption, align, head, rows, tight=with_mean))
    return "\n".join(parts)


def all_comparisons(found: Inputs) -> str:
    """Each comparison with the teacher and its p-values, as it stands in `compact-biomed tables compare`."""
    rows: list[Row] = []
    for column in sorted({column for _, column in found.compared}):
        rows.append(text(column.title))
        models = [model for model, of in found.compared if of == column]
        rows += [_p_values(found.compared[name, column]) for names in groups_of(models).values() for name in names]
    command = code(f"compact-biomed tables compare --records results/evaluation.jsonl --teacher {TEACHER}")
    caption = (
        f"Every comparison with {TEACHER}: ratio with its 95\\,\\% interval; two-sided $p$ over examples and over "
        f"seeds, in brackets after Holm's correction for all comparisons of the same scale. Made by {command}."
    )
    head = ("model", "retained, \\%", "$p$, examples", "$p$, $t$-test", "$p$, Wilcoxon")
    return long_table("comparisons", caption, "lrrrr", head, rows)


def sources(found: Inputs) -> str:
    """The files of the scores, and what makes them."""
    files = ", ".join(code(str(file)) for file in dict.fromkeys(line.file for line in found.scores))
    return f"Records: {files}, made by {code(REPRODUCE)}."


def _portions(found: Inputs, on_pieces: bool) -> list[list[Column]]:
    """Columns for one table each; those that only some of the models have come last, apart."""
    models = found.table.models
    columns = [column for column in found.table.columns if column.on_pieces == on_pieces]
    whole = [column for column in columns if all((model, column) in found.table.cells for model in models)]
    parts = [column for column in columns if column not in whole]
    return [some[k : k + _MOST_COLUMNS] for some in (whole, parts) for k in range(0, len(some), _MOST_COLUMNS)]


def _rows(
    found: Inputs, columns: Sequence[Column], cells: Callable[[str], list[str]], leave_out: Sequence[str] = ()
) -> list[Row]:
    """One row a model that has any of the columns."""
    measured = [name for name in found.table.models if any((name, column) in found.table.cells for column in columns)]
    rows: list[Row] = []
    for title, names in groups_of([name for name in measured if name not in leave_out]).items():
        rows += [title, *([text(name), *cells(name)] for name in names)]
    return rows


def _head(found: Inputs, column: Column) -> str:
    metric = column.metric.removeprefix("piece_")
    n = _usual_seeds(found, column)
    return f"\\shortstack[r]{{{text(column.task)}\\\\{_METRICS.get(metric, metric)}, {n} seed{'s' * (n > 1)}}}"


def _usual_seeds(found: Inputs, column: Column) -> int:
    return max(cell.summary.n for (_, of), cell in found.table.cells.items() if of == column)


def _size(found: Inputs, model: str) -> str:
    size = encoder_parameters(found.scores).get(model)
    return f"{size / 1e6:.1f}" if size else _NONE


def _score(found: Inputs, model: str, column: Column) -> str:
    cell = found.table.cells.get((model, column))
    if cell is None:
        return _NONE
    deviation = f"\\,$\\pm$\\,{cell.summary.deviation:.2f}" if cell.summary.deviation is not None else ""
    seeds = f" ({cell.summary.n})" if cell.summary.n != _usual_seeds(found, column) else ""
    return f"{cell.summary.mean:.2f}{deviation}{seeds}{'$^*$' if cell.marked else ''}"


def _with_interval(cell: Cell | None) -> str:
    if cell is None:
        return _NONE
    bounds = f" [{cell.interval.low:.1f}, {cell.interval.high:.1f}]" if cell.interval else ""
    return f"{cell.summary.mean:.1f}{bounds}"


def _how(found: Inputs, columns: Sequence[Column]) -> str:
    """By which protocol the columns were made, once for those made alike."""
    alike: dict[str, list[str]] = {}
    for column in columns:
        line = next(cell.lines[0] for (_, of), cell in found.table.cells.items() if of == column)
        alike.setdefault(protocol_of(line.record), []).append(column.task)
    said = [f"{', '.join(tasks)}: {how}" if len(alike) > 1 else how.capitalize() for how, tasks in alike.items()]
    return text("; ".join(said)) + "."


def _of_mean(found: Inputs) -> str:
    tasks = ", ".join(text(column.task) for column in found.shared)
    return f" Mean: over {tasks}, which every model has with at least {FEWEST_SEEDS} seeds."


def _ratio(each: Comparison | None) -> str:
    if each is None or each.retained is None:
        return _NONE
    p = each.holm.get("examples")
    mark = "$^\\dagger$" if p is not None and p < SIGNIFICANCE else ""
    return _percent(each.retained, each.interval) + mark


def _mean(found: Inputs, model: str) -> str:
    each = found.ratios.get(model)
    return _percent(each.ratio.value, each.ratio) if each else _NONE


def _percent(value: float, interval: Interval | None) -> str:
    bounds = f" [{100 * interval.low:.1f}, {100 * interval.high:.1f}]" if interval else ""
    return f"{100 * value:.1f}{bounds}"


def _p_values(each: Comparison) -> list[str]:
    tests = ["n/a" if p is None else text(f"{p:.2g} ({each.holm[test]:.2g})") for test, p in each.p.items()]
    return [text(each.model), _ratio(replace(each, holm={})), *tests]


def _as_first(name: str, number: int) -> str:
    """The caption of a table that goes on."""
    return f"As Table~\\ref{{tab:{name}}}, for more tasks, by the models that were measured on them." if number else ""


def _label(name: str, number: int) -> str:
    return f"{name}-{number + 1}" if number else name
