"""Tasks and models by kind: the columns that belong together, each model's mean over them, and the paper's models."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.report.grid import Score, ScoreGrid
from compact_biomed.report.measured import Column
from compact_biomed.report.protocols import protocol_of
from compact_biomed.report.statistics import FEWEST_SEEDS, summarize_trainings

TEACHER = "BioMiniLM"
DISTILLED = ("DistilBioBERT", "CompactBioBERT", "TinyBioBERT")
CONTINUAL = ("BioDistilBERT", "BioMobileBERT", "BioTinyBERT")
BEYOND = ("RelationBioBERT",)  # students that the paper does not have: no claim of its is about them
GENERAL = "MiniLM"
FAMILY = (TEACHER, *CONTINUAL, *DISTILLED, *BEYOND)

# Kinds of tasks as records name them, in the order of the page.
_KINDS_OF_TASKS = {
    "ner": "Entities",
    "relation": "Relations",
    "qa": "Questions",
    "classification": "Text classification",
    "multilabel": "Multi-label classification",
    "regression": "Sentence similarity",
    "similarity": "Sentence similarity without fine-tuning",
}
# Models that are not named above are recognized by the end of their names, as recipes/reproduce.toml gives them.
_KINDS_OF_MODELS = {
    "-start": "Start weights, unadapted",
    "-mlm": "The students without a teacher",
    "-random": "From random weights",
}


@dataclass(frozen=True)
class Family:
    """Columns of one kind of task, one metric and one scale.

    Args:
        title: the kind of task.
        columns: in order.
    """

    title: str
    columns: tuple[Column, ...]

    @property
    def heading(self) -> str:
        """Title and, where there are two, scale."""
        scale = "word-pieces" if self.columns[0].on_pieces else "words"
        return f"{self.title}, on {scale}" if self.title == _KINDS_OF_TASKS["ner"] else self.title

    @property
    def mean(self) -> Column:
        """The column of the means."""
        return Column(f"{self.title}, mean of {len(self.columns)} tasks", self.columns[0].metric)


def families(grid: ScoreGrid) -> list[Family]:
    """Return the columns by kind of task, words and word-pieces apart."""
    by_kind: dict[tuple[int, str, bool, str], list[Column]] = {}
    for column in grid.columns:
        kind = _kind(grid, column)
        position = list(_KINDS_OF_TASKS).index(kind) if kind in _KINDS_OF_TASKS else len(_KINDS_OF_TASKS)
        by_kind.setdefault((position, kind, column.on_pieces, column.metric), []).append(column)
    return [
        Family(_KINDS_OF_TASKS.get(kind, kind), tuple(columns)) for (_, kind, *_), columns in sorted(by_kind.items())
    ]


def family_grid(grid: ScoreGrid) -> ScoreGrid:
    """Return one column per family of two or more tasks: each model's mean over its tasks.

    The mean is taken within a seed first, over the seeds that all of the tasks have. A model that lacks a
    task has no score: means over different tasks do not compare.

    Raises:
        UserError: no family of two tasks, no model that has all tasks of one, or a model whose scores were made by
            different protocols.
    """
    several = [family for family in families(grid) if len(family.columns) > 1]
    if not several:
        remedy = "evaluate more tasks: compact-biomed evaluate --model M --task LIST --records FILE"
        raise UserError("no two tasks of one kind to average", where="--records", remedy=remedy)
    scores, how, ways = {}, {}, {}
    for family in several:
        tasks = ", ".join(column.task for column in family.columns)
        for model, score in family_means(grid, family).items():
            key, protocol = (model, family.mean), common_protocol(grid, family, model)
            scores[key], how[key], ways[key] = score, f"{tasks}; {protocol}", grid.ways[model, family.columns[0]]
    if not scores:
        kinds = "; ".join(f"{f.title}: {', '.join(column.task for column in f.columns)}" for f in several)
        raise UserError(
            f"no model has all tasks of a kind, with one seed in common ({kinds})",
            where="--records",
            remedy="compact-biomed evaluate --model M --task LIST --seeds LIST --records FILE",
        )
    return ScoreGrid(grid.models, tuple(family.mean for family in several), scores, ways, how)


def family_means(grid: ScoreGrid, family: Family) -> dict[str, Score]:
    """Return the mean of each model that has all of the family's tasks.

    Raises:
        UserError: a model's scores were made by different protocols.
    """
    means = {}
    for model in grid.models:
        common_protocol(grid, family, model)
        own = [grid.cells[model, column] for column in family.columns if (model, column) in grid.cells]
        if len(own) == len(family.columns) and (mean := mean_score(own)):
            means[model] = mean
    return means


def common_protocol(grid: ScoreGrid, family: Family, model: str) -> str:
    """Return the protocol by which a model's scores on a family were made.

    Raises:
        UserError: there are several.
    """
    protocols: dict[str, Column] = {}
    for (name, column), score in sorted(grid.cells.items()):
        if column in family.columns and name == model:
            protocols.setdefault(protocol_of(score.lines[0].record), column)
    if len(protocols) > 1:
        (one, a), (other, b), *_ = protocols.items()
        raise UserError(
            f"a mean would mix {a.title} ({one}) and {b.title} ({other})",
            where=family.title,
            remedy="choose by --protocol, or name other files of records",
        )
    return next(iter(protocols), "")


def mean_score(scores: Sequence[Score]) -> Score | None:
    """Return the mean of one model's scores, seed by seed; None where they have no seed in common."""
    seeds = sorted(set.intersection(*(set(score.by_seed) for score in scores)))
    if not seeds:
        return None
    numbers = sorted({key.seed for key in seeds})
    by_seed = {seed: float(np.mean([score.by_seed[seed] for score in scores])) for seed in seeds}
    lines = tuple(line for score in scores for line in score.lines if line.record["seed"] in numbers)
    notes = []
    if any(len(score.by_seed) > len(seeds) for score in scores):
        notes.append(f"over the seeds that all tasks have: {', '.join(map(str, numbers))}")
    if len(seeds) < FEWEST_SEEDS:
        notes.append(f"fewer than {FEWEST_SEEDS} seeds")
    marked = len(seeds) < FEWEST_SEEDS or any(score.marked for score in scores)
    by_training = [[by_seed[key] for key in group] for _, group in groupby(seeds, key=lambda key: key.training)]
    return Score(summarize_trainings(by_training), None, lines, tuple(notes), marked, by_seed)


def _kind(grid: ScoreGrid, column: Column) -> str:
    scores = (score for (_, each), score in grid.cells.items() if each == column)
    return next((score.lines[0].record["task"].get("kind", "other") for score in scores), "other")


def groups_of(models: Sequence[str]) -> dict[str, list[str]]:
    """Return the models by kind, in the order of the paper's table; kinds without any are left out."""
    titles = ("Teacher", "Distilled", "Continually pretrained", "Distilled, beyond the paper", "General")
    groups: dict[str, list[str]] = {title: [] for title in titles}
    groups |= {title: [] for title in _KINDS_OF_MODELS.values()}
    for model in sorted(models, key=_order):
        groups[_kind_of_model(model)].append(model)
    return {title: names for title, names in groups.items() if names}


def is_control(model: str) -> bool:
    """Return whether a model is a control of one of the family: by the end of its name."""
    return model.endswith(tuple(_KINDS_OF_MODELS))


def _kind_of_model(model: str) -> str:
    if model == TEACHER:
        return "Teacher"
    if model in DISTILLED:
        return "Distilled"
    if model in CONTINUAL:
        return "Continually pretrained"
    if model in BEYOND:
        return "Distilled, beyond the paper"
    return next((title for ending, title in _KINDS_OF_MODELS.items() if model.endswith(ending)), "General")


def _order(model: str) -> tuple[int, str]:
    order = [*DISTILLED, *CONTINUAL, *BEYOND]
    base = model.rpartition("-")[0] or model
    return (order.index(base) if base in order else len(order), model)
