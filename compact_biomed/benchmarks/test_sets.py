"""Collect the texts of the benchmarks' test sets, to keep them out of pretraining text."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.examples import Example, QuestionExample, WordsExample
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import DATA_VARIABLE, REGISTRY, TASKS, Task, find, task_named
from compact_biomed.corpus.decontaminate import Blocklist
from compact_biomed.errors import UserError, no_folder

ALL = "all"


def blocklist_against(against: Sequence[str], data: Path | str | None = None) -> Blocklist:
    """Return the blocklist of some benchmarks' test sets.

    Args:
        against: names of tasks, folders with benchmark data (all benchmarks in them), or "all" for the data
            folder.
        data: the data folder, by default that of `COMPACT_BIOMED_DATA`.

    Raises:
        UserError: an unknown task, missing files, a folder without benchmarks, or a broken file.
    """
    return Blocklist.from_texts(texts_of_test_sets(against, data))


def texts_of_test_sets(against: Sequence[str], data: Path | str | None = None) -> Iterator[tuple[str, str]]:
    """Yield (task, text) for every distinct text of the test sets, of all folds; see `blocklist_against`."""
    for task, folder in _select(against, data).values():
        folds = range(1, task.folds + 1) if task.folds else (None,)
        texts = {text for fold in folds for example in read(task, folder, fold).test for text in texts_of(example)}
        for text in sorted(texts):
            yield task.name, text


def _select(against: Sequence[str], data: Path | str | None) -> dict[str, tuple[Task, Path | None]]:
    selected: dict[str, tuple[Task, Path | None]] = {}
    for name in against:
        if name == ALL:
            selected |= _all_in(_data_folder(data))
        elif Path(name).expanduser().is_dir():
            selected |= _all_in(Path(name).expanduser())
        elif "/" in name:
            raise no_folder(name, f"name a task, a folder of benchmarks, or {ALL}")
        else:
            task = _task_named(name)
            selected[task.name] = (task, find(task, data))
    return selected


def _task_named(name: str) -> Task:
    try:
        return task_named(name)
    except UserError as error:  # its remedy names flags of other commands
        remedy = f"use {ALL}, a folder, or some of {', '.join(TASKS)}"
        raise type(error)("no benchmark of this name", where=name, remedy=remedy) from error


def _data_folder(data: Path | str | None) -> Path:
    folder = data if data is not None else os.environ.get(DATA_VARIABLE)
    if not folder:
        raise UserError("no data folder", where=ALL, remedy=f"name a folder of benchmarks, or set {DATA_VARIABLE}")
    return Path(folder).expanduser()


def _all_in(folder: Path) -> dict[str, tuple[Task, Path | None]]:
    # Tasks made of the package index's sample have no folder; their test documents are held out anyway.
    tasks = [task for task in TASKS.values() if task.place != REGISTRY and (folder / task.place).is_dir()]
    if not tasks:
        raise UserError(
            "no benchmark in this folder", where=folder, remedy="add NER/NCBI-disease, RE/GAD or another benchmark"
        )
    return {task.name: (task, folder / task.place) for task in tasks}


def texts_of(example: Example) -> tuple[str, ...]:
    """Return the texts of an example that a model reads, one or a pair."""
    if isinstance(example, WordsExample):
        return (" ".join(example.words),)
    if isinstance(example, QuestionExample):
        return (example.question, example.context)
    return (example.text,) if example.pair is None else (example.text, example.pair)
