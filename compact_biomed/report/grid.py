"""The scores of models by columns, with their intervals: what tables, figures and pages show."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.measured import Column, Measured, RunKey, encoder_parameters, measure
from compact_biomed.report.protocols import Way
from compact_biomed.report.resampling import Interval, example_interval, on_all_cores, spearman_interval
from compact_biomed.report.statistics import FEWEST_SEEDS, Summary


@dataclass(frozen=True)
class Score:
    """A model's score on a column.

    Args:
        summary: over seeds; folds are averaged within a seed first.
        interval: 95 %, over test examples with the seeds fixed; None where the records keep no counts of examples.
        lines: the records behind it.
        notes: what a reader should know.
        marked: whether there are too few seeds or folds for a score of the task.
        by_seed: run -> score.
    """

    summary: Summary
    interval: Interval | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    marked: bool = False
    by_seed: dict[RunKey, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ScoreGrid:
    """The scores of some models on some columns.

    Args:
        models, columns: in order.
        cells: (model, column) -> score; a missing one was not measured.
        ways, how: (model, column) -> how the model was fine-tuned; the same in words, with the version of the task.
        left_out: (model, column) -> why an incomplete measurement has no score.
        trivial: the score of always giving the same answer, where it is known.
        not_counted: column -> why it is part of no mean over tasks, retained share or claim.
    """

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, Column], Score] = field(default_factory=dict)
    ways: dict[tuple[str, Column], Way] = field(default_factory=dict)
    how: dict[tuple[str, Column], str] = field(default_factory=dict)
    left_out: dict[tuple[str, Column], tuple[str, ...]] = field(default_factory=dict)
    trivial: dict[Column, float] = field(default_factory=dict)
    not_counted: dict[Column, str] = field(default_factory=dict)

    def how_on(self, columns: Collection[Column]) -> dict[tuple[str, Column], str]:
        """Return `how` for some of the columns."""
        return {(model, column): text for (model, column), text in self.how.items() if column in columns}

    @cached_property
    def encoder_parameters(self) -> dict[str, int]:
        """Model -> parameters of its encoder, where they were recorded."""
        return encoder_parameters(line for score in self.cells.values() for line in score.lines)


def score_grid(lines: Sequence[Line], *, split: str = "test", intervals: bool = True) -> ScoreGrid:
    """Return all scores on one split; the order of the records changes nothing.

    Raises:
        UserError: see `measure`; or counts per example that do not give the recorded score.
    """
    measured = measure(lines, split=split)
    complete = [each for each in measured if each.seeds]
    if not complete:
        notes = "; ".join(f"{each.model} on {each.column.title}: {', '.join(each.notes)}" for each in measured)
        remedy = "repeat the evaluation without --folds: what is recorded is skipped"
        raise UserError(f"no model was measured on all folds ({notes})", where="--records", remedy=remedy)
    scores = on_all_cores(partial(_score, intervals=intervals), complete, what="scores")
    return ScoreGrid(
        models=tuple(sorted({each.model for each in measured})),
        columns=tuple(sorted({each.column for each in measured})),
        cells={(each.model, each.column): score for each, score in zip(complete, scores, strict=True)},
        ways={(each.model, each.column): each.way for each in measured},
        how={(each.model, each.column): each.how for each in measured},
        left_out={(each.model, each.column): each.notes for each in measured if not each.seeds},
        trivial={each.column: each.trivial for each in complete if each.trivial is not None},
        not_counted=not_counted(measured),
    )


def not_counted(measured: Sequence[Measured]) -> dict[Column, str]:
    """Return the columns that say nothing of a difference between models, and why.

    On some sets no model is above the score of always giving the same answer, with its whole 95 % interval over
    examples. Where nothing is trained, there are no seeds to average over or to test with.
    """
    reasons = {each.column: "nothing is trained, so there are no seeds" for each in measured if each.untrained}
    by_column: dict[Column, list[Measured]] = {}
    for each in measured:
        if each.trivial is not None:
            by_column.setdefault(each.column, []).append(each)
    for column, models in by_column.items():
        if not any(map(_above_trivial, models)):
            score = models[0].trivial
            reasons[column] = f"no model is above {score:.2f}, the score of always giving the same answer"
    return reasons


def _above_trivial(measured: Measured) -> bool:
    if measured.summary().mean <= measured.trivial:
        return False
    counts = measured.example_counts()
    return counts is None or example_interval(counts, measured.metric, groups=measured.groups).low > measured.trivial


def _score(measured: Measured, *, intervals: bool) -> Score:
    by_seed = dict(zip(measured.seeds, measured.scores(), strict=True))
    summary = measured.summary()
    counts = measured.example_counts() if intervals else None
    interval = None if counts is None else example_interval(counts, measured.metric, groups=measured.groups)
    few = summary.n < FEWEST_SEEDS and not measured.untrained
    notes = (*_beside(measured), *measured.notes, *([f"fewer than {FEWEST_SEEDS} seeds"] if few else []))
    return Score(summary, interval, measured.lines, notes, few or not measured.whole, by_seed)


def _beside(measured: Measured) -> Iterator[str]:
    """Yield what the primary metric alone would hide: macro-F1 and the trivial baseline, or Spearman's correlation."""
    if measured.trivial is not None:
        macro = [measured.summary("macro_f1")] if measured.has("macro_f1") else []
        yield from (f"macro-F1 {each.mean:.2f}" + (f" ± {each.deviation:.2f}" if each.n > 1 else "") for each in macro)
        yield f"always the same answer: {measured.trivial:.2f}"
    if measured.untrained and measured.has("spearman"):
        (line,) = measured.lines
        text, counts = f"Spearman {line.record['metrics']['spearman']:.2f}", line.per_example_counts(("x", "y"))
        if counts is not None:
            interval = spearman_interval(*counts.T)
            text += f" (95 % interval {interval.low:.2f} to {interval.high:.2f})"
        yield text
