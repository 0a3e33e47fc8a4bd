"""The table of benchmarks, and what the picture of size against score shows."""

from dataclasses import replace

from compact_biomed.report.claims import CONTINUAL, DISTILLED, TEACHER
from compact_biomed.report.manuscript.inputs import Inputs, field
from compact_biomed.report.manuscript.kinds_of_models import groups_of
from compact_biomed.report.manuscript.latex import table, text
from compact_biomed.report.manuscript.score_tables import sources
from compact_biomed.report.tables import Table

_KINDS = {"ner": "entities", "relation": "relations", "qa": "questions"}


def benchmarks(found: Inputs) -> str:
    """Which sets were used, on how many examples, by how many models."""
    tasks = dict.fromkeys(column.task for column in found.table.columns)
    caption = "The benchmarks. Trained on: examples used, of those that the training set has. " + sources(found)
    head = ("set", "kind", "split", "trained on", "test", "models", "runs")
    return table("benchmarks", caption, "lllrrrr", head, [_row(found, task) for task in tasks])


def for_picture(found: Inputs) -> tuple[Table, list[str]]:
    """The table of family, teacher and general models on words, and the tasks that all of the family have."""
    family = [model for model in found.table.models if model in (TEACHER, *DISTILLED, *CONTINUAL)]
    general = groups_of(found.table.models).get("General", [])
    columns = [
        column
        for column in found.table.columns
        if not column.on_pieces and all((model, column) in found.table.cells for model in family)
    ]
    return replace(found.table, models=(*family, *general), columns=tuple(columns)), [each.task for each in columns]


def _row(found: Inputs, task: str) -> list[str]:
    lines = [line for line in found.scores if line.task == task]
    first = lines[0]
    in_train = field(first, "task.examples.train")
    used = min(field(first, "protocol.overrides").get("max_train_examples", in_train), in_train)
    folds = ", ".join(map(str, sorted({line.fold for line in lines} - {None})))
    split = f"fold {folds} of {field(first, 'task.folds')}" if folds else "fixed"
    kind = field(first, "task.kind")
    sizes = (f"{used:,} of {in_train:,}", f"{field(first, 'task.examples.test'):,}")
    counts = (len({line.model for line in lines}), len(lines))
    return [text(str(cell)) for cell in (task, _KINDS.get(kind, kind), split, *sizes, *counts)]
