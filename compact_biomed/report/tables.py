"""Records of evaluations -> a table of models by tasks, each cell with what stands behind it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from compact_biomed.report.measured import Column, Measured, measure
from compact_biomed.report.parallel import on_all_cores
from compact_biomed.report.records import Line, encoder_parameters
from compact_biomed.report.resampling import Interval, example_interval
from compact_biomed.report.statistics import FEWEST_SEEDS, Summary, summarize


@dataclass(frozen=True)
class Cell:
    """A model's score.

    Args:
        summary: over seeds; folds are averaged within a seed first.
        interval: 95 %, over test examples, seeds fixed; None where the records keep no units.
        lines: the records behind it.
        notes: what a reader should know.
        marked: whether seeds or folds are too few for a score of the task.
        by_seed: seed -> score.
    """

    summary: Summary
    interval: Interval | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()
    marked: bool = False
    by_seed: dict[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Table:
    """Args:
    models, columns: in order.
    cells: by (model, column); a missing one was not measured.
    left_out: of those that were measured in part, why there is no cell.
    how: of each column, what all of its scores share (version, protocol, what was changed in it).
    """

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, Column], Cell] = field(default_factory=dict)
    how: dict[Column, str] = field(default_factory=dict)
    left_out: dict[tuple[str, Column], tuple[str, ...]] = field(default_factory=dict)

    @cached_property
    def encoder_parameters(self) -> dict[str, int]:
        """Model -> parameters of its encoder, where they were recorded."""
        return encoder_parameters(line for cell in self.cells.values() for line in cell.lines)


def build_table(lines: Sequence[Line], *, split: str = "test", intervals: bool = True) -> Table:
    """The table of all scores on one split; rows, columns and cells don't depend on the order of the records.

    Raises:
        UserError: see `measure`; and units that don't give the recorded score.
    """
    found = measure(lines, split=split)
    whole = [each for each in found if each.seeds]
    cells = on_all_cores(partial(_cell, intervals=intervals), whole)
    return Table(
        models=tuple(sorted({each.model for each in found})),
        columns=tuple(sorted({each.column for each in found})),
        cells={(each.model, each.column): cell for each, cell in zip(whole, cells, strict=True)},
        how={each.column: each.how for each in found},
        left_out={(each.model, each.column): each.notes for each in found if not each.seeds},
    )


def _cell(measured: Measured, *, intervals: bool) -> Cell:
    by_seed = dict(zip(measured.seeds, measured.scores(), strict=True))
    summary = summarize(list(by_seed.values()))
    units = measured.units() if intervals else None
    interval = example_interval(units, measured.metric) if units is not None else None
    few = summary.n < FEWEST_SEEDS
    notes = (*measured.notes, *([f"fewer than {FEWEST_SEEDS} seeds"] if few else []))
    return Cell(summary, interval, measured.lines, notes, few or not measured.whole, by_seed)
