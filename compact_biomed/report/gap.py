"""The gain over a baseline, and the share of the gap to the teacher that it closes."""

import re
import shlex
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.errors import UsageError, UserError
from compact_biomed.records.lines import Line, score_lines
from compact_biomed.report.compare import paired_tests
from compact_biomed.report.family import TEACHER
from compact_biomed.report.measured import Column, Measured, measure, require_scores
from compact_biomed.report.protocols import protocols_by_model, told_apart
from compact_biomed.report.resampling import Interval, joint_draws
from compact_biomed.report.scores import footnotes, variant_notes
from compact_biomed.report.statistics import Summary
from compact_biomed.report.table import Cell, Row, Table, TableColumn, gain, p_value, score, share, words

_LEGEND = (
    "Mean ± standard deviation over seeds (number of seeds). Gain: points above the baseline. In brackets 95 % "
    "intervals over test examples and seeds (bootstrap, the same examples for all). p: approximate randomization over "
    "examples and paired t-test over seeds, of model and baseline; not corrected for the number of rows."
)
_LEGEND_OF_GAP = "Gap closed: the gain over the distance from the baseline to the teacher."


@dataclass(frozen=True)
class Gap:
    """The gain of a model over a baseline, and its gap to a teacher if there is one, on one column.

    Args:
        scores: summaries of model, baseline and, where there is one, teacher.
        gain: model - baseline, in points.
        closed: gain / (teacher - baseline); None where no teacher is above the baseline. Its bounds are infinite where
            the teacher is not above the baseline in every resample.
        p_examples, p_seeds: that model and baseline score alike; None where the test is not defined.
        measured: model, baseline and, where there is one, teacher.
    """

    model: str
    column: Column
    scores: tuple[Summary, ...]
    gain: Interval
    closed: Interval | None
    p_examples: float | None
    p_seeds: float | None
    measured: tuple[Measured, ...]


def gaps(
    lines: Sequence[Line], baseline: str, *, teacher: str | None = None, models: Sequence[str] | None = None
) -> list[Gap]:
    """Return each model on each column that baseline and teacher were measured on, too.

    Models may have been trained with different settings: their effect is what is measured.

    Args:
        baseline: name of the model to measure gains from.
        teacher: name of the model that the gap leads to; None = gains alone.
        models: names; None = all others.

    Raises:
        UserError: a name that no record has, no task that all were measured on, records without counts of single
            examples, or models that were not tested on the same folds and examples of the same version of a task.
    """
    require_scores(lines)
    lines = told_apart(lines)
    names = list(dict.fromkeys(line.record["model"]["name"] for line in lines))
    references = [("--baseline", baseline), *([("--teacher", teacher)] if teacher else [])]
    for flag, name in [*references, *(("--models", model) for model in models or ())]:
        if name not in names:
            raise UsageError(f"no scores of {name!r}", where=flag, remedy=f"one of {', '.join(sorted(names))}")
    compared = models or [name for name in names if name not in (teacher, baseline)]
    needed = dict.fromkeys([*compared, *(name for _, name in references)])
    measured = {name: _measured([line for line in lines if line.model == name]) for name in needed}
    of_references = [measured[name] for _, name in references]
    found = [
        _gap(measured[name][column], *(reference[column] for reference in of_references))
        for name in compared
        for column in measured[name]
        if all(column in reference for reference in of_references)
    ]
    if not found:
        raise _nothing_in_common(measured, compared)
    return found


def _nothing_in_common(measured: Mapping[str, Mapping[Column, Measured]], compared: Sequence[str]) -> UserError:
    """Return the error that says what was measured, and which command makes what is missing."""
    if not compared:
        what = f"no model beside {' and '.join(measured)}"
        remedy = "make one: compact-biomed distill --task NAME --teacher KEPT --student N --records FILE"
        return UserError(what, where="--records", remedy=remedy)
    tasks = {name: dict.fromkeys(column.task for column in columns) for name, columns in measured.items()}
    shown = "; ".join(f"{name}: {', '.join(of_model) or 'nothing whole'}" for name, of_model in tasks.items())
    wanted = next((task for name in compared for task in tasks[name]), "NAME")
    lacking = next((name for name, of_model in tasks.items() if wanted not in of_model), "M")
    remedy = f"compact-biomed evaluate --model CHECKPOINT --name {shlex.quote(lacking)} --task {wanted} --records FILE"
    return UserError(f"no task on which all of them were measured ({shown})", where="--records", remedy=remedy)


def _measured(lines: Sequence[Line]) -> dict[Column, Measured]:
    return {each.column: each for each in measure(lines, split="test") if each.seeds}


def _gap(model: Measured, baseline: Measured, teacher: Measured | None = None) -> Gap:
    together = [each for each in (model, baseline, teacher) if each]
    for other in together[1:]:
        _require_same_test(model, other)
    counts = [each.example_counts() for each in together]
    if any(of is None for of in counts):
        remedy = "evaluate the model again, which keeps them: compact-biomed evaluate --model M --records OTHER"
        raise UserError("no counts of single examples", where=model.column.title, remedy=remedy)
    groups = [each.groups for each in together]
    gain = _interval(counts[:2], groups[:2], model.metric, lambda m, b: m - b)
    closed = None
    if teacher:
        with np.errstate(divide="ignore", invalid="ignore"):
            closed = _interval(counts, groups, model.metric, _share)
    p, _ = paired_tests(model, baseline)
    scores = tuple(each.summary() for each in together)
    return Gap(model.model, model.column, scores, gain, closed, p["examples"], p["t"], tuple(together))


def _require_same_test(a: Measured, b: Measured) -> None:
    """Refuse models that were tested on different examples; their settings may differ."""
    if a.tested_on != b.tested_on:
        one, two = (f"{each.model} (folds or test: {_tests(each)})" for each in (a, b))
        raise UserError(
            f"{a.column.title} was not measured on the same test examples: {one}, {two}",
            where=f"{a.lines[0].where} and {b.lines[0].where}",
            remedy="run one of them again, or leave its records out",
        )


def _tests(measured: Measured) -> str:
    of_fold = (f"{'' if fold is None else f'{fold}: '}{test}" for fold, test in measured.tested_on.items())
    return "; ".join(of_fold)


def _share(model: np.ndarray, baseline: np.ndarray, teacher: np.ndarray) -> np.ndarray:
    """Return the share of the gap that is closed; infinite where the teacher is not above the baseline."""
    gain, whole = model - baseline, teacher - baseline
    return np.where(whole > 0, gain / whole, np.where(gain > 0, np.inf, -np.inf))


def _interval(counts: Sequence, groups: Sequence[Sequence[int]], metric, statistic) -> Interval | None:
    value, drawn = joint_draws(counts, metric, statistic, groups=groups)
    if not np.isfinite(value):
        return None
    # A bound among infinite values is infinite: there is nothing between them to interpolate.
    low, high = np.quantile(drawn, [0.025, 0.975], method="inverted_cdf")
    return Interval(value, float(low), float(high))


def gap_table(gains: Sequence[Gap]) -> Table:
    """Return one row per model and column."""
    with_teacher = any(len(each.scores) > 2 for each in gains)
    heads = [TableColumn("column", "task, metric", left=True), TableColumn("task", "task", left=True, shown=False)]
    heads += [
        TableColumn("model", "model", left=True),
        TableColumn("score", "score"),
        TableColumn("baseline", "baseline"),
        TableColumn("gain", "gain"),
    ]
    heads += [TableColumn("p_examples", "p, examples"), TableColumn("p_seeds", "p, t-test")]
    heads += [TableColumn("teacher", "teacher"), TableColumn("closed", "gap closed")] if with_teacher else []
    rows = []
    for each in sorted(gains, key=lambda each: (each.column.on_pieces, each.column.task)):
        scores = [score(summary) for summary in each.scores]
        tests = (p_value(each.p_examples), p_value(each.p_seeds))
        closed = [scores[2], _closed(each.closed)] if with_teacher else []
        names = (words(each.column.title), words(each.column.task), words(each.model))
        rows.append(Row((*names, *scores[:2], gain(each.gain), *tests, *closed)))
    legend = f"{_LEGEND} {_LEGEND_OF_GAP}" if with_teacher else _LEGEND
    return Table("gap", tuple(heads), tuple(rows), legend=legend, notes=tuple(_notes(gains)))


def _notes(gains: Sequence[Gap]) -> list[str]:
    """Return the protocols where models of one row were fine-tuned in different ways, and what was scored again."""
    measured = {(each.model, each.column): each for gain in gains for each in gain.measured}
    is_mixed = protocols_by_model({key: each.way for key, each in measured.items()})
    protocols = footnotes({key: each.how for key, each in measured.items()}) if is_mixed else []
    return [*protocols, *variant_notes(line for each in measured.values() for line in each.lines)]


def _closed(closed: Interval | None) -> Cell:
    if closed is None:
        return words("the teacher is not above the baseline")
    return share(closed.value, closed, form=".0f")


# ---- Compression: what task distillation gains, what int8 and pruning cost


FOLDER = "compression"
STUDENT = "DistilBioBERT"
_PRUNED = re.compile(r"-(weights|heads|units)[0-9][-+.e0-9]*(-|$)")  # as `recipes/pruning.py` names what it makes
FP32, AGAIN = " fp32", "-again"  # ends of the names of baselines, by `compact-biomed score` and `recipes/pruning.py`


def is_of_compression(line: Line) -> bool:
    """Return whether a record is in results/compression/, whose scores were made with other settings."""
    return line.file.parent.name == FOLDER


def compression_gains(lines: Iterable[Line]) -> dict[str, list[Gap]]:
    """Return the gains in results/compression/ by the name with which the files of records begin."""
    by_name: dict[str, list[Line]] = {}
    for line in score_lines(line for line in lines if is_of_compression(line)):
        for name in _GAINS:
            if line.file.name.startswith(name):
                by_name.setdefault(name, []).append(line)
    return {name: gains_of(by_name[name]) for name, gains_of in _GAINS.items() if name in by_name}


def _of_distillation(lines: list[Line]) -> list[Gap]:
    return gaps(lines, STUDENT, teacher=TEACHER)


def _beside(ending: str) -> Callable[[list[Line]], list[Gap]]:
    """Return a function that compares each model with the baseline of its own, whose name has this ending."""

    def of(lines: list[Line]) -> list[Gap]:
        names = list(dict.fromkeys(line.record["model"]["name"] for line in lines))
        gains = []
        for baseline in (name for name in names if name.endswith(ending)):
            of_model = baseline.removesuffix(ending)
            if any(of_model.startswith(f"{name.removesuffix(ending)} ") for name in names if name.endswith(ending)):
                continue  # an export in float32 is itself compared with PyTorch
            own = [name for name in names if name != baseline and _is_of(name, of_model)]
            gains += gaps(lines, baseline, models=own) if own else []
        return gains

    return of


def _is_of(name: str, model: str) -> bool:
    """Return whether a name is the model's with a variant ("M ONNX int8") or with what was pruned ("M-heads30")."""
    rest = name.removeprefix(model)
    return rest != name and (rest.startswith(" ") or _PRUNED.match(rest) is not None)


_GAINS = {"task_distillation": _of_distillation, "int8": _beside(FP32), "pruning": _beside(AGAIN)}
