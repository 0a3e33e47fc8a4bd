"""The scores of each model on each task and scale, from records: what does not compare is refused."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from compact_biomed.benchmarks.metrics import FROM_COUNTS
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.data_sets import checksum_of, require_one_set
from compact_biomed.report.protocols import Way, protocol_of, telling_parts, told_apart, way_of
from compact_biomed.report.resampling import Metric
from compact_biomed.report.statistics import Summary, summarize_trainings
from compact_biomed.report.trivial import trivial_score

_PIECES = "piece_"
_APART = "evaluate one of them again on the files of the other, or name other files by --records"
_ONE_NAME = "these are two models: make two tables, or evaluate one of them with another --name in other --records"


@dataclass(frozen=True, order=True)
class Column:
    """A task and one of its metrics; words and word-pieces are two columns."""

    task: str
    metric: str

    @property
    def on_pieces(self) -> bool:
        """Whether the metric is on the published scale of word-pieces."""
        return self.metric.startswith(_PIECES)

    @property
    def detail(self) -> str:
        """The metric and, where it is not words, the scale."""
        return f"{self.metric.removeprefix(_PIECES)} on word-pieces" if self.on_pieces else self.metric

    @property
    def title(self) -> str:
        """Task, metric and scale."""
        return f"{self.task}, {self.detail}"


class RunKey(NamedTuple):
    """A run of a model: a seed of fine-tuning, nested in a training.

    Args:
        training: the pretraining seed, with the beginning of the weights' sha256 where a seed was trained twice; "" for
            a checkpoint that no run made, and for records that do not say.
    """

    training: str
    seed: int


@dataclass(frozen=True)
class Measured:
    """A model on one column, with the records behind its scores.

    Args:
        seeds: run -> fold -> record, in order, for the runs that were done on all measured folds.
        way: how the model was fine-tuned.
        how: version of the task and protocol, in words.
        notes: what a reader should know.
        whole: whether all folds of the task were measured.
    """

    model: str
    column: Column
    seeds: dict[RunKey, dict[int | None, Line]]
    way: Way
    how: str
    notes: tuple[str, ...]
    whole: bool

    @property
    def lines(self) -> tuple[Line, ...]:
        """The records of all seeds and folds."""
        return tuple(line for folds in self.seeds.values() for line in folds.values())

    @property
    def tested_on(self) -> dict[int | None, str]:
        """For each measured fold, the version of the task and the checksum of its test examples."""
        first = next(iter(self.seeds.values()))
        return {
            fold: f"version {line.record['task']['version']}, {checksum_of(line.record, line.record['split'])}"
            for fold, line in first.items()
        }

    @property
    def trivial(self) -> float | None:
        """The score of always giving the same answer, averaged over folds; None where it is not known."""
        records = [line.record for line in next(iter(self.seeds.values()), {}).values()]
        scores = [trivial_score(record) for record in records if record["task"]["metric"] == self.column.metric]
        return float(np.mean(scores)) if scores and None not in scores else None

    @property
    def untrained(self) -> bool:
        """Whether the encoder was scored as it is, so that there are no seeds."""
        return any(line.record["task"].get("kind") == "similarity" for line in self.lines)

    @property
    def metric(self) -> Metric:
        """The function from summed counts to the score."""
        return FROM_COUNTS[self.column.metric][1]

    def has(self, metric: str) -> bool:
        """Return whether all records have a metric."""
        return all(metric in line.record["metrics"] for line in self.lines)

    @property
    def groups(self) -> list[int]:
        """The number of runs of each training, in order."""
        return list(Counter(key.training for key in self.seeds).values())

    @property
    def trainings(self) -> int:
        """How many trainings are known to be behind it; 0 for a checkpoint that no run made."""
        return len({key.training for key in self.seeds if key.training})

    def summary(self, name: str | None = None) -> Summary:
        """Return mean and deviation: over seeds and, if there are several trainings, over these.

        Args:
            name: of another metric than the column's.
        """
        scores, ends = self.scores(name=name), np.cumsum(self.groups)
        return summarize_trainings([list(group) for group in np.split(scores, ends[:-1])])

    def scores(self, seeds: Sequence[RunKey] | None = None, *, name: str | None = None) -> list[float]:
        """Return one score per run, of all runs or of those named; folds are averaged within a run.

        Args:
            name: of another metric than the column's.
        """
        name = name or self.column.metric
        chosen = self.seeds if seeds is None else seeds
        return [float(np.mean([line.record["metrics"][name] for line in self.seeds[seed].values()])) for seed in chosen]

    def example_counts(self, seeds: Sequence[RunKey] | None = None) -> list[np.ndarray] | None:
        """Return per-example counts, one array [seeds, examples, columns] per fold; None where some record keeps none.

        See `resampling` for what is made from them.

        Raises:
            UserError: counts that do not give the recorded score, or different numbers of examples.
        """
        chosen = list(self.seeds if seeds is None else seeds)
        if self.column.metric not in FROM_COUNTS:
            return None
        folds = []
        for fold in self.seeds[chosen[0]]:
            tables = [self._checked_counts(self.seeds[seed][fold]) for seed in chosen]
            if any(table is None for table in tables):
                return None
            if len({len(table) for table in tables}) > 1:
                where = self.seeds[chosen[0]][fold].where
                raise UserError("the seeds were tested on different numbers of examples", where=where)
            folds.append(np.stack(tables))
        return folds

    def _checked_counts(self, line: Line) -> np.ndarray | None:
        columns, metric = FROM_COUNTS[self.column.metric]
        table = line.per_example_counts(columns)
        if table is not None:
            counted, recorded = float(metric(table.sum(0))), line.record["metrics"][self.column.metric]
            if not abs(counted - recorded) <= 1e-6:
                raise UserError(
                    f"the counts give {counted:.4f}, the record says {recorded:.4f}",
                    where=line.where,
                    remedy=f"the counts or the record of {self.model} on {self.column.task} were changed: remove the "
                    "record's line and run it again",
                )
        return table


def encoder_parameters(lines: Iterable[Line]) -> dict[str, int]:
    """Return the parameters of each model's encoder, where they were recorded: the fewest.

    Records of tasks on whole texts used to count the pooler, which other tasks do without.
    """
    sizes: dict[str, int] = {}
    for line in lines:
        if size := line.record["model"].get("encoder_parameters"):
            sizes[line.model] = min(size, sizes.get(line.model, size))
    return sizes


def measure(lines: Sequence[Line], *, split: str = "test") -> list[Measured]:
    """Return what was measured on one split, by column and model; the order of the records changes nothing.

    Models may have been fine-tuned in different ways; see `protocols.told_apart` for one that was in several.

    Raises:
        UserError: no score on the split; a column that would mix versions of a task or test examples; different
            weights under one name; two records of one seed and fold.
    """
    by_column: dict[Column, list[Line]] = {}
    lines = told_apart(lines)
    for line in lines:
        if line.record["split"] == split:
            primary, metrics = line.record["task"]["metric"], line.record["metrics"]
            for metric in (primary, _PIECES + primary):
                if metric in metrics:
                    by_column.setdefault(Column(line.task, metric), []).append(line)
    require_scores([line for by in by_column.values() for line in by], split)
    trained = _trainings(lines)
    return [each for column in sorted(by_column) for each in _of_column(column, by_column[column], split, trained)]


def require_scores(lines: Sequence[Line], split: str = "test") -> None:
    """Raise a `UserError` that names the command if there is nothing to make a table from."""
    if not lines:
        remedy = "compact-biomed evaluate --model M --records FILE"
        raise UserError(f"no scores on {split} in these records", where="--records", remedy=remedy)


def require_one_protocol(measured: Iterable[Measured]) -> None:
    """Raise a `UserError` if two models were fine-tuned in different ways on one column: for what judges models."""
    first: dict[Column, Measured] = {}
    for each in measured:
        other = first.setdefault(each.column, each)
        if each.seeds and other.seeds and each.way != other.way:
            raise UserError(
                f"{each.column.title} would mix {other.model} ({other.how}) and {each.model} ({each.how})",
                where=f"{other.lines[0].where} and {each.lines[0].where}",
                remedy="choose by --protocol, or name other files of records",
            )


Trained = Mapping[tuple[str, str], tuple[str, str]]
"""(model, weights) -> `RunKey.training` and the configuration, for the weights whose training is recorded."""


def _trainings(lines: Iterable[Line]) -> Trained:
    found: dict[tuple[str, str], tuple[int, str]] = {}
    for line in lines:
        if training := line.record["model"].get("training"):
            found[line.model, line.record["model"]["weights_sha256"]] = training["seed"], training["configuration"]
    count = Counter((model, *training) for (model, _), training in found.items())
    return {
        (model, weights): (f"{seed} ({weights[:6]})" if count[model, seed, how] > 1 else str(seed), how)
        for (model, weights), (seed, how) in found.items()
    }


def _of_column(column: Column, lines: Sequence[Line], split: str, trained: Trained) -> list[Measured]:
    _refuse_mixture(lines, lambda r: f"version {r['task']['version']}", column.title)
    folds = sorted({line.fold for line in lines}, key=lambda fold: fold or 0)
    for fold in folds:
        same = [line for line in lines if line.fold == fold]
        for part in [split] if fold is None else dict.fromkeys([split, "train", "dev"]):
            require_one_set(same, part, column.title)
    by_model: dict[str, list[Line]] = {}
    for line in lines:
        by_model.setdefault(line.model, []).append(line)
    telling = telling_parts([{way_of(line.record) for line in lines}])
    return [_of_model(model, column, by_model[model], folds, trained, telling) for model in sorted(by_model)]


def _of_model(
    model: str,
    column: Column,
    lines: Sequence[Line],
    folds: Sequence[int | None],
    trained: Trained,
    telling: Sequence[str],
) -> Measured:
    _refuse_mixture(lines, partial(_training, trained=trained), f"{model} on {column.task}, weights", _ONE_NAME)
    for part, what in (("config_sha256", "settings"), ("tokenizer_sha256", "tokenizers")):
        sums = partial(lambda record, part: record["model"].get(part, ""), part=part)
        _refuse_mixture(lines, sums, f"{model} on {column.task}, {what}", _ONE_NAME)
    seeds: dict[RunKey, dict[int | None, Line]] = {}
    for line in lines:
        label, _ = trained.get((model, line.record["model"]["weights_sha256"]), ("", ""))
        twin = seeds.setdefault(RunKey(label, line.record["seed"]), {}).setdefault(line.fold, line)
        if twin is not line:
            where = f"{twin.where} and {line.where}"
            remedy = "remove one of the lines, or make it again under another --name"
            raise UserError(f"two records of {model} on {column.task}, one seed and fold", where=where, remedy=remedy)
    trainings = sorted({key.training for key in seeds})
    notes = [f"{len(trainings)} trainings, pretraining seeds {', '.join(trainings)}"] if len(trainings) > 1 else []
    notes += [
        f"seed {key.seed} left out: {len(by_fold)} of {len(folds)} folds"
        for key, by_fold in sorted(seeds.items())
        if len(by_fold) < len(folds)
    ]
    of_task = lines[0].record["task"]["folds"]
    if len(folds) < of_task:
        notes.append(f"fold{'s' * (len(folds) > 1)} {', '.join(map(str, folds))} of {of_task} alone")
    complete = {
        key: {fold: by_fold[fold] for fold in folds}
        for key, by_fold in sorted(seeds.items())
        if len(by_fold) == len(folds)
    }
    record = lines[0].record
    how = f"version {record['task']['version']}, {protocol_of(record, telling)}"
    return Measured(model, column, complete, way_of(record), how, tuple(notes), len(folds) >= of_task)


def _training(record: dict[str, Any], trained: Trained) -> str:
    """Return what all scores of a model share: the configuration of its trainings or, if unknown, its weights."""
    name, weights = record["model"]["name"], record["model"]["weights_sha256"]
    return f"trainings of configuration {trained[name, weights][1]}" if (name, weights) in trained else weights


def _refuse_mixture(
    lines: Sequence[Line], what: Callable[[dict[str, Any]], str], of: str, remedy: str = _APART
) -> None:
    first = lines[0]
    for line in lines[1:]:
        if what(line.record) != what(first.record):
            raise UserError(
                f"{of} would mix {what(first.record)} and {what(line.record)}",
                where=f"{first.where} and {line.where}",
                remedy=remedy,
            )
