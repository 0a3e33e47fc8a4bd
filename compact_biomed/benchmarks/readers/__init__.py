"""Files of a benchmark -> examples, with every repair counted and every broken line named."""

from importlib import import_module
from pathlib import Path

from compact_biomed.benchmarks.examples import Splits, WordsExample
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UserError

# Name in a `Task` -> module and function (task, folder, fold) -> Splits.
READERS = {
    "ner": ("entities", "read_words"),
    "hub_words": ("entities", "read_hub_words"),
    "folds": ("texts", "read_fold"),
    "chemprot": ("texts", "read_chemprot"),
    "bioasq": ("questions", "read_bioasq"),
    "pubmedqa": ("texts", "read_pubmedqa"),
    "hoc": ("texts", "read_hoc"),
    "biosses": ("texts", "read_biosses"),
    "sections": ("texts", "read_sections"),
}


def read(task: Task, folder: Path | None, fold: int | None = None) -> Splits:
    """The examples of a task.

    Args:
        folder: as `tasks.find` gives it.
        fold: from 1 to `task.folds` for cross-validation sets, else None.

    Raises:
        UserError: a broken line (file and line named), a missing file, a fold that does not
            exist, a split without examples.
    """
    if bool(task.folds) != (fold is not None) or (fold is not None and not 1 <= fold <= task.folds):
        wanted = f"one from 1 to {task.folds}" if task.folds else "none"
        raise UserError(f"fold {fold} of {task.name}", where="--folds", remedy=wanted)
    module, function = READERS[task.reader]
    splits = getattr(import_module(f"{__name__}.{module}"), function)(task, folder, fold)
    for name, count in splits.counts().items():
        if count == 0:
            raise UserError(
                f"no {name} example in {task.name}", where=folder or task.place, remedy="is the file whole?"
            )
    if task.kind == "ner":
        _require_entities(splits, folder or task.place)
    _require_two_labels(splits, folder or task.place)
    if unseen := _unseen_labels(splits):
        splits.repairs["test examples with a label that train and dev lack"] = unseen
    return splits


def _require_entities(splits: Splits, where: object) -> None:
    """A set whose answers can't be right or wrong is no test."""
    names = ("train", "test") if splits.dev_of_train else ("train", "test", "dev")
    tags = {name: {tag for e in getattr(splits, name) for tag in e.tags} - {"O"} for name in names}
    for name, found in tags.items():
        if not found:
            raise UserError(f"no entity in {name}: every tag is O", where=where, remedy="is it the labeled file?")
    bare = {name: any("-" not in tag for tag in found) for name, found in tags.items()}
    for name in names[1:]:
        if bare["train"] != bare[name]:
            typed, other = ("train", name) if bare[name] else (name, "train")
            what = f"{typed} names types of entities, {other} does not"
            raise UserError(what, where=where, remedy="tag both alike")


def _require_two_labels(splits: Splits, where: object) -> None:
    """Whoever always gives the same answer would be right, or has learned nothing else."""
    for name in ("train", "test"):
        found = {getattr(example, "label", None) for example in getattr(splits, name)}
        if len(found) == 1 and isinstance(label := found.pop(), str):
            raise UserError(f"every label of {name} is {label}", where=where, remedy="is the file whole?")


def _unseen_labels(splits: Splits) -> int:
    known = set().union(*(_labels_of(example) for example in [*splits.train, *splits.dev]))
    return sum(not _labels_of(example) <= known for example in splits.test)


def _labels_of(example) -> frozenset:
    if isinstance(example, WordsExample):
        return frozenset(example.tags)
    label = getattr(example, "label", None)
    if isinstance(label, tuple):
        return frozenset(label)
    return frozenset([label] if isinstance(label, str) else [])
