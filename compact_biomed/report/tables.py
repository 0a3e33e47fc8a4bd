"""Records of evaluations -> a table of models by tasks, each cell with what stands behind it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.evaluation.scoring.scores import f1_of_sums, pearson_of_sums, ratio_of_sums
from compact_biomed.report.records import Line
from compact_biomed.report.resampling import Interval, example_interval
from compact_biomed.report.statistics import Summary, summarize

# Metric -> the columns of the units that it is computed from, and how.
_FROM_UNITS = {
    "f1": (("tp", "fp", "fn"), f1_of_sums),
    "piece_f1": (("piece_tp", "piece_fp", "piece_fn"), f1_of_sums),
    "accuracy": (("correct", "examples"), ratio_of_sums),
    "mrr": (("reciprocal_rank", "questions"), ratio_of_sums),
    "pearson": (("x", "y", "xx", "yy", "xy", "n"), pearson_of_sums),
}
_PIECES = "piece_"
FEWEST_SEEDS = 3


@dataclass(frozen=True, order=True)
class Column:
    """A task and one metric of it: words and word-pieces are two columns."""

    task: str
    metric: str

    @property
    def title(self) -> str:
        if self.metric.startswith(_PIECES):
            return f"{self.task}, {self.metric.removeprefix(_PIECES)} on word-pieces"
        return f"{self.task}, {self.metric}"


@dataclass(frozen=True)
class Cell:
    """A model's score.

    Args:
        summary: over seeds; folds are averaged within a seed first.
        interval: 95 %, over test examples, seeds fixed; None where the records keep no units.
        lines: the records behind it.
        notes: what a reader should know.
    """

    summary: Summary
    interval: Interval | None
    lines: tuple[Line, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Args:
    models, columns: in order.
    cells: by (model, column); a missing one was not measured.
    """

    models: tuple[str, ...]
    columns: tuple[Column, ...]
    cells: dict[tuple[str, Column], Cell] = field(default_factory=dict)


def build_table(lines: Sequence[Line], *, split: str = "test", intervals: bool = True) -> Table:
    """The table of all scores on one split; rows, columns and cells don't depend on the order of the records.

    Raises:
        UserError: a column that would mix versions of a task, protocols or label levels; a cell that
            would mix different weights under one name, or two records of one seed and fold; units
            that don't give the recorded score.
    """
    chosen = [line for line in lines if line.record["split"] == split]
    if not chosen:
        raise UserError(f"no scores on {split} in {len(lines)} records", where="--records")
    by_column: dict[Column, list[Line]] = {}
    for line in chosen:
        primary, metrics = line.record["task"]["metric"], line.record["metrics"]
        for metric in (primary, _PIECES + primary):
            if metric in metrics:
                by_column.setdefault(Column(line.task, metric), []).append(line)
    cells = {}
    for column, of_task in by_column.items():
        _refuse_mixture(of_task, _how, column.title)
        folds = {line.fold for line in of_task}
        for fold in folds:
            same = [line for line in of_task if line.fold == fold]
            _refuse_mixture(same, lambda r: _examples(r, split), f"{column.title}, {split} examples")
        by_model: dict[str, list[Line]] = {}
        for line in of_task:
            by_model.setdefault(line.model, []).append(line)
        for model, of_model in by_model.items():
            cell = _cell(of_model, column, folds, intervals=intervals)
            if cell is not None:
                cells[model, column] = cell
    models = tuple(sorted({line.model for line in chosen}))
    return Table(models, tuple(sorted(by_column)), cells)


def _cell(lines: Sequence[Line], column: Column, folds: set, *, intervals: bool) -> Cell | None:
    name = lines[0].model
    _refuse_mixture(lines, lambda r: r["model"]["weights_sha256"], f"{name} on {column.task}, weights")
    seeds: dict[Any, dict[Any, Line]] = {}
    for line in lines:
        of_seed = seeds.setdefault(line.record["seed"], {})
        if twin := of_seed.setdefault(line.fold, line):
            if twin is not line:
                where = f"{twin.where} and {line.where}"
                raise UserError(f"two records of {name} on {column.task}, one seed and fold", where=where)
    whole = {seed: found for seed, found in sorted(seeds.items()) if found.keys() == folds}
    notes = tuple(
        f"seed {seed} left out: {len(found)} of {len(folds)} folds"
        for seed, found in sorted(seeds.items())
        if seed not in whole
    )
    if not whole:
        return None
    summary = summarize([np.mean([f.record["metrics"][column.metric] for f in s.values()]) for s in whole.values()])
    if summary.n < FEWEST_SEEDS:
        notes = (*notes, f"fewer than {FEWEST_SEEDS} seeds")
    behind = tuple(found[fold] for found in whole.values() for fold in sorted(found, key=str))
    interval = _interval(whole, column, folds) if intervals else None
    if interval is not None and abs(interval.value - summary.mean) > 1e-6:
        raise UserError(
            f"the units give {interval.value:.4f}, the records {summary.mean:.4f}",
            where=behind[0].where,
            remedy=f"units or records of {name} on {column.task} were changed; run it again",
        )
    return Cell(summary, interval, behind, notes)


def _interval(seeds: dict[Any, dict[Any, Line]], column: Column, folds: set) -> Interval | None:
    if column.metric not in _FROM_UNITS:
        return None
    columns, metric = _FROM_UNITS[column.metric]
    units = []
    for fold in sorted(folds, key=str):
        of_seeds = [found[fold].units(columns) for found in seeds.values()]
        if any(table is None for table in of_seeds):
            return None
        if len({len(table) for table in of_seeds}) > 1:
            where = next(iter(seeds.values()))[fold].where
            raise UserError("the seeds were tested on different numbers of examples", where=where)
        units.append(np.stack(of_seeds))
    return example_interval(units, metric)


def _how(record: dict[str, Any]) -> str:
    """What all scores of a column share."""
    protocol = record["protocol"]
    overrides = "".join(f", {name} {value}" for name, value in sorted(protocol["overrides"].items()))
    return f"version {record['task']['version']}, protocol {protocol['name']}, labels {protocol['level']}{overrides}"


def _examples(record: dict[str, Any], split: str) -> str:
    return f"sha256 {record['task']['data_sha256'][split][:12]}"


def _refuse_mixture(lines: Sequence[Line], what: Callable[[dict[str, Any]], str], of: str) -> None:
    first = lines[0]
    for line in lines[1:]:
        if what(line.record) != what(first.record):
            raise UserError(
                f"{of} would mix {what(first.record)} and {what(line.record)}",
                where=f"{first.where} and {line.where}",
                remedy="make two tables: --protocol, or other files of records",
            )
