"""What each model retains of a teacher's scores, and whether the two differ."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from compact_biomed.console import counted
from compact_biomed.errors import UsageError, UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.contrasts import retained_interval
from compact_biomed.report.grid import ScoreGrid, not_counted
from compact_biomed.report.measured import Column, Measured, RunKey, measure
from compact_biomed.report.protocols import Way
from compact_biomed.report.replicates import TrainingVariance, variance_of
from compact_biomed.report.resampling import Interval, on_all_cores, randomization_test
from compact_biomed.report.scores import LEGEND, ProtocolColumn, column_head, footnotes, variant_notes
from compact_biomed.report.statistics import FEWEST_SEEDS, Summary, holm, seed_tests
from compact_biomed.report.table import MISSING, UNKNOWN, Cell, Row, Table, TableColumn, p_value, score, share, words

TESTS = ("examples", "t", "wilcoxon")
"""Approximate randomization over test examples; paired t-test and Wilcoxon's signed ranks over seeds."""


@dataclass(frozen=True)
class Comparison:
    """The comparison of a model with the teacher on one column.

    Args:
        scores, of_teacher: over all seeds of each.
        retained: ratio of the two mean scores; None where the teacher's is 0, or no model is above the score of always
            giving the same answer.
        interval: 95 %, of the ratio, over examples and seeds; None where there is none.
        p: test of `TESTS` -> p-value over the seeds that both have; None where the test is not defined.
        holm: the same, adjusted for all comparisons on the same scale.
        ways, how: (model, column) -> how each of the two was fine-tuned; the same in words.
        lines: the records of both.
        notes: what so few seeds or folds cannot show.
        marked: whether seeds or folds of one of the two are too few for a score of the task.
    """

    model: str
    column: Column
    scores: Summary
    of_teacher: Summary
    retained: float | None
    interval: Interval | None
    p: dict[str, float | None]
    holm: dict[str, float | None]
    ways: dict[tuple[str, Column], Way]
    how: dict[tuple[str, Column], str]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]
    marked: bool


def compare(
    lines: Sequence[Line], teacher: str, *, models: Sequence[str] | None = None, split: str = "test"
) -> list[Comparison]:
    """Compare each model with the teacher, on each column that both were measured on.

    Args:
        teacher: name of the model to compare the others with.
        models: names; None = all others.

    Raises:
        UserError: a name that no record has, nothing in common, or what `measure` refuses.
    """
    measured = measure(lines, split=split)
    known = {each.model for each in measured}
    for flag, name in [("--teacher", teacher), *(("--models", model) for model in models or ())]:
        if name not in known:
            raise UsageError(
                f"no scores of {name!r} on {split}", where=flag, remedy=f"one of {', '.join(sorted(known))}"
            )
    teachers = {each.column: each for each in measured if each.model == teacher and each.seeds}
    compared = [
        each
        for each in measured
        if each.seeds and each.model != teacher and each.column in teachers and (not models or each.model in models)
    ]
    if not compared:
        notes = [
            f"{each.model} on {each.column.title}: {note}" for each in measured for note in each.notes if not each.seeds
        ]
        why = f" ({'; '.join(notes)})" if notes else ""
        what = f"no model was measured whole on what {teacher} was measured on{why}"
        remedy = "evaluate both on one task: compact-biomed evaluate --model M --task NAME --records FILE"
        raise UserError(what, where="--records", remedy=remedy)
    trivial = {each.column for each in measured if each.trivial is not None}
    without = {column: why for column, why in not_counted(measured).items() if column in trivial}
    cells = {(each.model, each.column): each for each in measured if each.seeds}
    among = {column: variance_of(cells, [column]) for column in teachers}

    def one(model: Measured) -> Comparison:
        column = model.column
        return _compare(model, teachers[column], among[column], without.get(column))

    return _corrected(on_all_cores(one, compared, what="comparisons"))


def _compare(model: Measured, teacher: Measured, among: TrainingVariance | None, why_not: str | None) -> Comparison:
    """Compare two models on a column, or give their scores alone and the reason why they are not compared."""
    scores, of_teacher = model.summary(), teacher.summary()
    both = [((each.model, each.column), each) for each in (model, teacher)]
    ways, how = ({key: each.way for key, each in both}, {key: each.how for key, each in both})
    lines = (*model.lines, *teacher.lines)
    if why_not:
        notes = (*dict.fromkeys([*model.notes, *teacher.notes]), f"not compared: {why_not}")
        marked = min(scores.n, of_teacher.n) < FEWEST_SEEDS or not model.whole
        nothing = dict.fromkeys(TESTS)
        return Comparison(
            model.model, model.column, scores, of_teacher, None, None, nothing, {}, ways, how, lines, notes, marked
        )
    interval, no_interval = retained_interval(model, teacher, among)
    p, few = paired_tests(model, teacher)
    fewest = min(scores.n, of_teacher.n)
    if interval and fewest < 2:
        few.insert(0, "one seed: the interval is over examples alone")
    notes = [*dict.fromkeys([*model.notes, *teacher.notes]), *([no_interval] if no_interval else []), *few]
    return Comparison(
        model=model.model,
        column=model.column,
        scores=scores,
        of_teacher=of_teacher,
        retained=scores.mean / of_teacher.mean if of_teacher.mean > 0 else None,
        interval=interval,
        p=p,
        holm={},
        ways=ways,
        how=how,
        lines=lines,
        notes=tuple(notes),
        marked=fewest < FEWEST_SEEDS or not model.whole,
    )


def paired_tests(model: Measured, teacher: Measured) -> tuple[dict[str, float | None], list[str]]:
    """Return p-values over the seeds that both have, and what they cannot show."""
    p: dict[str, float | None] = dict.fromkeys(TESTS)
    pairs = _pairs(model, teacher)
    if not pairs:
        return p, ["no seed in common: no tests"]
    notes = []
    if len(pairs) < max(len(model.seeds), len(teacher.seeds)):
        seeds = "seed" if len(pairs) == 1 else f"{len(pairs)} seeds"
        notes.append(f"tests over the {seeds} that both have")
    if len({key.training for pair in pairs for key in pair if key.training}) > 1:
        notes.append("the tests over seeds take the trainings as they are; the interval does not")
    own, of_other = ([pair[side] for pair in pairs] for side in (0, 1))
    counts, of_teacher = model.example_counts(own), teacher.example_counts(of_other)
    if counts is not None and of_teacher is not None:
        p["examples"] = randomization_test(counts, of_teacher, model.metric)
    over_seeds = seed_tests(model.scores(own), teacher.scores(of_other))
    p |= {"t": over_seeds.t, "wilcoxon": over_seeds.wilcoxon}
    return p, [*notes, *([over_seeds.note] if over_seeds.note else [])]


def _pairs(model: Measured, teacher: Measured) -> list[tuple[RunKey, RunKey]]:
    """Return the runs of both with one seed of one training; of different trainings, those of the first of each."""
    if both := [key for key in model.seeds if key in teacher.seeds]:
        return [(key, key) for key in both]
    first = [next(iter(each.seeds)).training for each in (model, teacher)]
    own, of_teacher = (
        {key.seed: key for key in each.seeds if key.training == training}
        for each, training in zip((model, teacher), first, strict=True)
    )
    return [(own[seed], of_teacher[seed]) for seed in own if seed in of_teacher]


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Apply Holm's correction by test and by scale: words and word-pieces are two readings of the same predictions."""
    adjusted: list[dict[str, float | None]] = [dict.fromkeys(TESTS) for _ in comparisons]
    for test in TESTS:
        for on_pieces in (False, True):
            family = [
                (number, each.p[test])
                for number, each in enumerate(comparisons)
                if each.column.on_pieces == on_pieces and each.p[test] is not None
            ]
            for (number, _), value in zip(family, holm([p for _, p in family]), strict=True):
                adjusted[number][test] = value
    return [replace(each, holm=values) for each, values in zip(comparisons, adjusted, strict=True)]


# ---- Tables


_TEST_NAMES = dict(zip(TESTS, ("over examples", "over seeds, t-test", "over seeds, Wilcoxon"), strict=True))
_TEST_HEADS = dict(zip(TESTS, ("p, examples", "p, t-test", "p, Wilcoxon"), strict=True))


def comparison_table(comparisons: Sequence[Comparison], teacher: str) -> Table:
    """Return one row per model and column: both scores, what is retained, and three tests."""
    rows = []
    protocols = ProtocolColumn({key: way for each in comparisons for key, way in each.ways.items()})
    for each in comparisons:
        tests = [p_value(each.p[test], each.holm.get(test)) for test in TESTS]
        names = (words(each.model), *protocols.cell(each.model), words(teacher))
        names += (words(each.column.task), words(each.column.metric))
        scores = (score(each.scores, marked=each.marked), score(each.of_teacher))
        texts = (words(each.how[each.model, each.column]), words("; ".join(each.notes)))
        retained = share(each.retained, each.interval)
        rows.append(Row((*names, words(each.column.title), *scores, retained, *tests, *texts)))
    parts = {"value": "mean", "deviation": "deviation", "n": "seeds"}
    of_teacher = {part: f"teacher_{name}" for part, name in parts.items()}
    heads = [TableColumn("model", "model", left=True), *protocols.head]
    heads += [TableColumn(name, name, shown=False) for name in ("teacher", "task", "metric")]
    heads += [TableColumn("column", "task, metric", left=True, fields={})]
    heads += [TableColumn("score", "score", fields=parts), TableColumn("of_teacher", "teacher", fields=of_teacher)]
    heads += [TableColumn("retained", "retained", fields={"value": "retained", "low": "low", "high": "high"})]
    heads += [
        TableColumn(test, title, fields={"value": f"p_{test}", "adjusted": f"p_{test}_holm"})
        for test, title in _TEST_HEADS.items()
    ]
    heads += [TableColumn(name, name, shown=False) for name in ("how", "notes")]
    notes = footnotes({key: text for each in comparisons for key, text in each.how.items()})
    notes += variant_notes(line for each in comparisons for line in each.lines)
    notes += _notes_by_row(comparisons)
    legend = " ".join([_legend(comparisons, teacher), *protocols.legend])
    return Table("compare", tuple(heads), tuple(rows), legend=legend, notes=tuple(notes))


def _notes_by_row(comparisons: Sequence[Comparison]) -> list[str]:
    """Return each note once, with the rows that it is about: all, those of some columns, or single ones."""
    about: dict[str, list[Comparison]] = {}
    for each in comparisons:
        for note in each.notes:
            about.setdefault(note, []).append(each)
    notes: dict[str, list[str]] = {}
    for note, rows in about.items():
        columns = dict.fromkeys(each.column for each in rows)
        if len(rows) == len(comparisons) > 1:
            where = "All"
        elif len(rows) > 1 and len(rows) == sum(each.column in columns for each in comparisons):
            where = "; ".join(column.title for column in columns)
        else:
            where = "; ".join(f"{each.model}, {each.column.title}" for each in rows)
        notes.setdefault(where, []).append(note)
    return [f"{where}: {'; '.join(of)}" for where, of in notes.items()]


def retention_table(
    comparisons: Sequence[Comparison],
    columns: Sequence[Column],
    grid: ScoreGrid,
    teacher: str,
    *,
    mark: Callable[[Comparison], str] = lambda each: "*" if each.marked else "",
) -> Table:
    """Return what each model retains of the teacher, one column per task.

    Args:
        columns: of which those are shown on which something was compared.
        grid: the scores of all models, for the records behind each cell.
        mark: what is written behind a ratio.
    """
    by_cell = {(each.model, each.column): each for each in comparisons}
    shown = [column for column in columns if any(column == each.column for each in comparisons)]
    rows = []
    for model in sorted({each.model for each in comparisons if each.column in shown}):
        row = [by_cell.get((model, column)) for column in shown]
        retained = [_retained(each, grid, teacher, mark(each)) if each else words(MISSING) for each in row]
        rows.append(Row((words(model), *retained)))
    return Table("retained", (TableColumn("model", "model", left=True), *map(column_head, shown)), tuple(rows))


def _retained(each: Comparison, grid: ScoreGrid, teacher: str, mark: str) -> Cell:
    title = f"{each.model}: {each.column.title}, retained of {teacher}"
    if each.retained is None:
        return Cell(UNKNOWN, title=title, notes=each.notes)
    interval = each.interval
    notes = [f"{each.scores.mean:.2f} over {teacher}'s {each.of_teacher.mean:.2f}"]
    if interval:
        notes.append(f"95 % interval over examples and seeds: {100 * interval.low:.1f} to {100 * interval.high:.1f} %")
    notes += [
        f"p, {name}: {each.p[test]:.2g} (corrected {each.holm[test]:.2g})"
        for test, name in _TEST_NAMES.items()
        if each.p[test] is not None
    ]
    lines = (*grid.cells[each.model, each.column].lines, *grid.cells[teacher, each.column].lines)
    return share(each.retained, interval, mark=mark, title=title, notes=(*notes, *each.notes), lines=lines)


def _legend(comparisons: Sequence[Comparison], teacher: str) -> str:
    sizes = [sum(each.column.on_pieces == on_pieces for each in comparisons) for on_pieces in (False, True)]
    apart = f" (separately for {sizes[1]} on word-pieces)" if sizes[1] else ""
    return (
        f"{LEGEND} The teacher is {teacher}. Retained: the model's mean over the teacher's on the same test examples "
        "(95 % bootstrap interval over examples and seeds). p: two-sided, that the two score alike; over examples by "
        "approximate randomization, over seeds by the paired t-test and by Wilcoxon's signed ranks. In brackets after "
        f"Holm's correction for {counted(sizes[0], 'comparison')}{apart}."
    )
