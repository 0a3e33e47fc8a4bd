"""The texts of the benchmarks' test sets, for leaving them out of pretraining text."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.examples import Example, QuestionExample, WordsExample
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import DATA_VARIABLE, REGISTRY, TASKS, Task, find, task_named
from compact_biomed.corpus.decontaminate import Blocklist
from compact_biomed.errors import UserError

ALL = "all"


def blocklist_against(against: Sequence[str], data: Path | str | None = None) -> Blocklist:
    """The blocklist of some benchmarks' test sets.

    Args:
        against: names of tasks, folders that hold benchmark data (all sets that lie there), or "all":
            those in the data folder.
        data: the data folder, by default the one that `COMPACT_BIOMED_DATA` names.

    Raises:
        UserError: an unknown task, missing files, a folder without any set, a broken file.
    """
    return Blocklist.of(texts_of_test_sets(against, data))


def texts_of_test_sets(against: Sequence[str], data: Path | str | None = None) -> Iterator[tuple[str, str]]:
    """(task, text) of every distinct text of the test sets, those of all folds; arguments as above."""
    for task, folder in _chosen(against, data).values():
        folds = range(1, task.folds + 1) if task.folds else (None,)
        texts = {text for fold in folds for example in read(task, folder, fold).test for text in texts_of(example)}
        for text in sorted(texts):
            yield task.name, text


def _chosen(against: Sequence[str], data: Path | str | None) -> dict[str, tuple[Task, Path | None]]:
    chosen: dict[str, tuple[Task, Path | None]] = {}
    for name in against:
        if name == ALL:
            chosen |= _all_in(_data_folder(data))
        elif Path(name).expanduser().is_dir():
            chosen |= _all_in(Path(name).expanduser())
        elif "/" in name:
            raise UserError("no such folder", where=name, remedy="a task, a folder of tasks, or all")
        else:
            task = _task_named(name)
            chosen[task.name] = (task, find(task, data))
    return chosen


def _task_named(name: str) -> Task:
    try:
        return task_named(name)
    except UserError as error:  # which speaks of another command's flags
        remedy = f"{ALL}, a folder, or some of {', '.join(TASKS)}"
        raise type(error)("no test sets to keep clear of have this name", where=name, remedy=remedy) from error


def _data_folder(data: Path | str | None) -> Path:
    named = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not named:
        raise UserError("where the benchmarks are is not known", remedy=f"name their folder, or set {DATA_VARIABLE}")
    return Path(named).expanduser()


def _all_in(folder: Path) -> dict[str, tuple[Task, Path | None]]:
    # The set that is made of pretraining sources has no files; its test documents are held out already.
    there = [task for task in TASKS.values() if task.place != REGISTRY and (folder / task.place).is_dir()]
    if not there:
        raise UserError("no benchmark lies here", where=folder, remedy="expected NER/NCBI-disease, RE/GAD and the like")
    return {task.name: (task, folder / task.place) for task in there}


def texts_of(example: Example) -> tuple[str, ...]:
    """What a model reads of an example, by itself or as a pair."""
    if isinstance(example, WordsExample):
        return (" ".join(example.words),)
    if isinstance(example, QuestionExample):
        return (example.question, example.context)
    return (example.text,) if example.pair is None else (example.text, example.pair)
