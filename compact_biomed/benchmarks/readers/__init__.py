"""Read the files of a benchmark into examples: every repair is counted, every broken line is named.

To add a format, write a function (task, folder, fold) -> Splits and add it to `READERS`.
"""

from collections.abc import Callable
from pathlib import Path

from compact_biomed.benchmarks.examples import Example, Splits, WordsExample
from compact_biomed.benchmarks.readers.entities import read_hub_words, read_words
from compact_biomed.benchmarks.readers.index_terms import read_index_terms
from compact_biomed.benchmarks.readers.own import read_own
from compact_biomed.benchmarks.readers.questions import read_bioasq, read_other_editions
from compact_biomed.benchmarks.readers.texts import (
    read_biosses,
    read_chemprot,
    read_fold,
    read_hoc,
    read_pubmedqa,
    read_sections,
)
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UsageError, UserError

# `Task.reader` -> function (task, folder, fold).
READERS: dict[str, Callable[[Task, Path | None, int | None], Splits]] = {
    "ner": read_words,
    "hub_words": read_hub_words,
    "folds": read_fold,
    "chemprot": read_chemprot,
    "bioasq": read_bioasq,
    "pubmedqa": read_pubmedqa,
    "hoc": read_hoc,
    "biosses": read_biosses,
    "sections": read_sections,
    "index_terms": read_index_terms,
    "own": read_own,
}
# `Task.reader` -> function (task, folder, splits): examples to train on before the task's own, none of them in its dev
# or test set.
INTERMEDIATE: dict[str, Callable[[Task, Path | None, Splits], list[Example]]] = {"bioasq": read_other_editions}


def read_intermediate(task: Task, folder: Path | None, splits: Splits) -> list[Example]:
    """Read examples of the task's kind to train on before its own.

    Args:
        folder: as returned by `tasks.find`.
        splits: of the task; no example has anything of its dev and test set.

    Raises:
        UserError: there are none for this task, or a broken file.
    """
    read_them = INTERMEDIATE.get(task.reader)
    examples = read_them(task, folder, splits) if read_them else []
    if not examples:
        remedy = "leave it out, or add other editions of BioASQ to the folder"
        raise UserError(f"nothing to train on before {task.name}", where="--intermediate-epochs", remedy=remedy)
    return examples


def read(task: Task, folder: Path | None, fold: int | None = None) -> Splits:
    """Read the examples of a task.

    Args:
        folder: as returned by `tasks.find`.
        fold: from 1 to `task.folds` for cross-validation sets, else None.

    Raises:
        UserError: a broken line (with file and line), a missing file, a fold that does not exist, a split
            without examples, or labels that cannot be scored.
    """
    if bool(task.folds) != (fold is not None) or (fold is not None and not 1 <= fold <= task.folds):
        remedy = f"use a fold from 1 to {task.folds}" if task.folds else "leave --folds out; this task has none"
        raise UsageError(f"fold {fold} of {task.name}", where="--folds", remedy=remedy)
    splits = READERS[task.reader](task, folder, fold)
    where = folder or task.place
    for name, count in splits.counts().items():
        if count == 0 and (name == "test" or not (task.untrained or task.test_alone)):
            raise UserError(f"no {name} example in {task.name}", where=where, remedy=_remedy(task, name))
    if task.kind == "ner":
        _require_entities(task, splits, where)
    _require_two_labels(task, splits, where)
    if task.test_alone:  # what the model knows decides which of its labels are new
        return splits
    if unseen := _count_unseen(splits):
        splits.repairs["test examples with a label that train and dev lack"] = unseen
    return splits


def _remedy(task: Task, split: str, of_benchmark: str = "get the complete files") -> str:
    """Return how to get other examples of a split."""
    if task.files is None:
        return of_benchmark
    if getattr(task.files, split) is not None:
        return f"name another file by --{split}"
    return f"--split-seed {task.files.split_seed + 1} draws others, or name a --{split} file"


def _require_entities(task: Task, splits: Splits, where: object) -> None:
    """Reject a split without entities, which cannot be scored, and splits of which only some name entity types."""
    names = ("train", "test") if splits.dev_of_train else ("train", "test", "dev")
    names = ("test",) if task.test_alone else names
    tags = {name: {tag for e in getattr(splits, name) for tag in e.tags} - {"O"} for name in names}
    for name, entity_tags in tags.items():
        if not entity_tags:
            remedy = _remedy(task, name, "use the labeled file")
            raise UserError(f"no entity in {name}: every tag is O", where=where, remedy=remedy)
    bare = {name: any("-" not in tag for tag in entity_tags) for name, entity_tags in tags.items()}
    for name in names[1:]:
        if bare["train"] != bare[name]:
            typed, other = ("train", name) if bare[name] else (name, "train")
            what = f"{typed} names types of entities, {other} does not"
            raise UserError(what, where=where, remedy="write B-TYPE in all files, or B in all")


def _require_two_labels(task: Task, splits: Splits, where: object) -> None:
    """Reject train or test with a single label: a constant prediction would always be right.

    With a single score, there is no correlation. Of a test set alone, a single class can be scored: the model knows
    more of them.
    """
    what, types = ("score", int | float) if task.kind in ("regression", "similarity") else ("label", str)
    names = ("train", "test") if not task.test_alone else ("test",) if what == "score" else ()
    for name in names:
        labels = {getattr(example, "label", None) for example in getattr(splits, name)}
        if len(labels) == 1 and isinstance(label := labels.pop(), types):
            raise UserError(f"every {what} of {name} is {label}", where=where, remedy=_remedy(task, name))


def _count_unseen(splits: Splits) -> int:
    """Return the number of test examples with a label that neither train nor dev has."""
    known = set().union(*(_labels(example) for example in [*splits.train, *splits.dev]))
    return sum(not _labels(example) <= known for example in splits.test)


def _labels(example: Example) -> frozenset[str]:
    if isinstance(example, WordsExample):
        return frozenset(example.tags)
    label = getattr(example, "label", None)
    if isinstance(label, tuple):
        return frozenset(label)
    return frozenset([label] if isinstance(label, str) else [])
