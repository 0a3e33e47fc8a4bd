"""Make a task of a user's own data: files, folders, hub data sets, or objects of a Python program.

`own_task` finds out what the data are, as far as they leave no doubt, and says it in one line. The reader is
`readers.own`; docs/own-data.md shows an example of each format.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from compact_biomed.benchmarks.tasks import TASKS, Task, ner_task_from_folder, task_named
from compact_biomed.errors import UsageError, UserError

PAGE = "docs/own-data.md"
OWN_KINDS = ("ner", "classification", "multilabel", "pairs", "regression", "qa", "relation")
Data: TypeAlias = Any


class OwnData(TypedDict, total=False):
    """The keywords that describe a task of one's own, equal to the flags of `cli.data`.

    Args:
        train: a file, a folder that holds train, dev and test, a BRAT folder, `hub:OWNER/NAME`; in Python also a list
            of dictionaries, a pair (texts, labels), a pandas DataFrame or a `datasets.Dataset`.
        dev, test: likewise (default: files of these names beside train in its folder, else held out of train).
        kind: one of `OWN_KINDS` (default: what the data leave no doubt about).
        format: a key of `readers.own.FORMATS` (default: by name and content of the file).
        text_column, pair_column, label_column, id_column, document_column: names of columns; several labels, each
            with a column of 0 and 1, are separated by commas.
        task_name: in records and tables (default: that of the folder or file).
        split_seed: of the draw that holds out dev or test (default: 0).
    """

    train: Data
    dev: Data
    test: Data
    kind: str | None
    format: str | None
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    id_column: str | None
    document_column: str | None
    task_name: str | None
    split_seed: int | None


def own_task(
    train: Data = None,
    dev: Data = None,
    test: Data = None,
    *,
    kind: str | None = None,
    format: str | None = None,
    text_column: str | None = None,
    pair_column: str | None = None,
    label_column: str | None = None,
    id_column: str | None = None,
    document_column: str | None = None,
    task_name: str | None = None,
    split_seed: int | None = None,
) -> Task:
    """Return the task of a user's own data; see `OwnData` for the arguments.

    Raises:
        UsageError: no training data, or a kind that does not exist.
        UserError: files that cannot be read, or that leave kind, format or columns open.
    """
    if train is None:
        raise UsageError("no training data", where="--train", remedy=f"name a file or folder; see {PAGE}")
    if kind is not None and kind not in OWN_KINDS:
        raise UsageError(f"no kind {kind!r}", where="--kind", remedy=f"one of {', '.join(OWN_KINDS)}")
    if isinstance(train, str | Path) and kind in (None, "ner") and Path(train).expanduser().is_dir():
        return ner_task_from_folder(train)
    raise UserError("this format cannot be read yet", where=train, remedy=f"see {PAGE}")


def own_tasks(own: OwnData) -> list[Task]:
    """Return the task of these keywords, as a list; an empty one if none of them was given."""
    given = {name: value for name, value in own.items() if value is not None}
    return [own_task(**given)] if given else []


def files_fields(task: Task) -> dict[str, Any]:
    """Return what a record says about where the data of a task are: nothing for a benchmark.

    `task_of_record` makes the task again from it.
    """
    if task.files is not None:
        return {"files": task.files.recorded()}
    if Path(task.place).is_absolute():  # `ner_task_from_folder`
        return {"files": {"train": task.place, "format": "columns"}}
    return {"files": {"train": task.place, "format": "hub"}} if task.place.startswith("hub:") else {}


def task_of_record(recorded: Mapping[str, Any], own: OwnData, *, where: object) -> Task:
    """Return the task that a record of scores is about: a benchmark, or own data where the record says they are.

    Args:
        recorded: the part "task" of the record.
        own: where the data are now, in place of what the record says; may be empty.
        where: what has the record, for errors.

    Raises:
        UserError: the data are not where they were; the message names the flag to say where.
    """
    if given := own_tasks(own):
        return given[0]
    if files := recorded.get("files"):
        if not files["train"].startswith("hub:") and not Path(files["train"]).exists():
            what = f"its data are no longer at {files['train']}"
            raise UserError(what, where=where, remedy="say where they are by --train PATH")
        return ner_task_from_folder(files["train"])
    if recorded["name"] not in TASKS:
        what = f"it was fine-tuned on a set of your own, {recorded['name']}"
        raise UserError(what, where=where, remedy="add --train PATH")
    return task_named(recorded["name"])
