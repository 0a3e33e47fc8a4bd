"""Tasks of one kind: their columns side by side, and each model's mean over them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.report.measured import Cell, Column, Table, protocol_of
from compact_biomed.report.statistics import FEWEST_SEEDS, summarize

TEACHER = "BioMiniLM"
DISTILLED = ("DistilBioBERT", "CompactBioBERT", "TinyBioBERT")
CONTINUAL = ("BioDistilBERT", "BioMobileBERT", "BioTinyBERT")
GENERAL = "MiniLM"
FAMILY = (TEACHER, *CONTINUAL, *DISTILLED)


# Kinds of tasks as records name them, in the order of pages.
_TITLES = {
    "ner": "Entities",
    "relation": "Relations",
    "qa": "Questions",
    "classification": "Classes of texts",
    "multilabel": "Several classes a text",
    "regression": "Similarity of sentences",
}


@dataclass(frozen=True)
class Family:
    """Columns that belong together.

    Args:
        title: for people.
        columns: of one kind of task, one metric and one scale.
    """

    title: str
    columns: tuple[Column, ...]

    @property
    def heading(self) -> str:
        """Title and, where there are two, scale."""
        scale = "word-pieces" if self.columns[0].on_pieces else "words"
        return f"{self.title}, on {scale}" if self.title == _TITLES["ner"] else self.title

    @property
    def mean(self) -> Column:
        """The column of the means."""
        return Column(f"{self.title}, mean of {len(self.columns)} tasks", self.columns[0].metric)


def families(table: Table) -> list[Family]:
    """The table's columns by kind of task; words and word-pieces apart."""
    found: dict[tuple[int, str, bool, str], list[Column]] = {}
    for column in table.columns:
        kind = _kind(table, column)
        place = list(_TITLES).index(kind) if kind in _TITLES else len(_TITLES)
        found.setdefault((place, kind, column.on_pieces, column.metric), []).append(column)
    return [Family(_TITLES.get(kind, kind), tuple(columns)) for (_, kind, *_), columns in sorted(found.items())]


def family_table(table: Table) -> Table:
    """One column a family of two or more tasks: each model's mean over its tasks.

    The mean is taken within a seed first, over the seeds that all of the tasks have. A model that lacks a
    task has no cell: means over different tasks do not compare.

    Raises:
        UserError: no family of two tasks, or one whose tasks were run by different protocols.
    """
    several = [family for family in families(table) if len(family.columns) > 1]
    if not several:
        raise UserError("no two tasks of one kind to average", where="--records", remedy="evaluate more tasks")
    cells = {(model, f.mean): cell for f in several for model, cell in family_means(table, f).items()}
    how = {family.mean: f"{', '.join(c.task for c in family.columns)}; {shared(table, family)}" for family in several}
    return Table(table.models, tuple(family.mean for family in several), cells, how)


def family_means(table: Table, family: Family) -> dict[str, Cell]:
    """The mean of each model that has all of the family's tasks.

    Raises:
        UserError: the tasks were run by different protocols.
    """
    shared(table, family)
    means = {}
    for model in table.models:
        own = [table.cells[model, column] for column in family.columns if (model, column) in table.cells]
        if len(own) == len(family.columns) and (cell := mean_cell(own)):
            means[model] = cell
    return means


def shared(table: Table, family: Family) -> str:
    """By which protocol the scores of a family were made.

    Raises:
        UserError: by several.
    """
    said: dict[str, Column] = {}
    for (_, column), cell in sorted(table.cells.items()):
        if column in family.columns:
            said.setdefault(protocol_of(cell.lines[0].record), column)
    if len(said) > 1:
        (one, a), (other, b), *_ = said.items()
        raise UserError(
            f"a mean would mix {a.title} ({one}) and {b.title} ({other})",
            where=family.title,
            remedy="choose by --protocol, or name other files of records",
        )
    return next(iter(said), "")


def mean_cell(cells: Sequence[Cell]) -> Cell | None:
    """The mean of one model's cells, seed by seed; None where they have no seed in common."""
    seeds = sorted(set.intersection(*(set(cell.by_seed) for cell in cells)))
    if not seeds:
        return None
    by_seed = {seed: float(np.mean([cell.by_seed[seed] for cell in cells])) for seed in seeds}
    lines = tuple(line for cell in cells for line in cell.lines if line.record["seed"] in by_seed)
    notes = []
    if any(len(cell.by_seed) > len(seeds) for cell in cells):
        notes.append(f"over the seeds that all tasks have: {', '.join(map(str, seeds))}")
    if len(seeds) < FEWEST_SEEDS:
        notes.append(f"fewer than {FEWEST_SEEDS} seeds")
    marked = len(seeds) < FEWEST_SEEDS or any(cell.marked for cell in cells)
    return Cell(summarize(list(by_seed.values())), None, lines, tuple(notes), marked, by_seed)


def _kind(table: Table, column: Column) -> str:
    cells = (cell for (_, each), cell in table.cells.items() if each == column)
    return next((cell.lines[0].record["task"].get("kind", "other") for cell in cells), "other")


# ----------------------------------------------------------------------------------------------------
# The models by kind, in the order of tables; kinds are told by name, as recipes/reproduce.toml gives them.


_GROUPS = (
    ("-start", "Start weights, unadapted"),
    ("-mlm", "The students without a teacher"),
    ("-random", "From random weights"),
)


def groups_of(models: Sequence[str]) -> dict[str, list[str]]:
    """Title -> the models of each kind, in the order of the paper's table; kinds without any are left out."""
    found: dict[str, list[str]] = {"Teacher": [], "Distilled": [], "Continually pretrained": [], "General": []}
    found |= {title: [] for _, title in _GROUPS}
    for model in sorted(models, key=lambda name: _place(name)):
        found[_title(model)].append(model)
    return {title: names for title, names in found.items() if names}


def _title(model: str) -> str:
    if model == TEACHER:
        return "Teacher"
    if model in DISTILLED:
        return "Distilled"
    if model in CONTINUAL:
        return "Continually pretrained"
    return next((title for suffix, title in _GROUPS if model.endswith(suffix)), "General")


def _place(model: str) -> tuple[int, str]:
    order = [*DISTILLED, *CONTINUAL]
    base = model.rpartition("-")[0] or model
    return (order.index(base) if base in order else len(order), model)
