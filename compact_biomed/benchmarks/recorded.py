"""What records say about data: where a user's own are, and how to find them, or others like them, again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.expected import expected_of
from compact_biomed.benchmarks.own import OwnData, own_task, path_of
from compact_biomed.benchmarks.tasks import MEMORY, TASKS, Task, ner_task_from_folder, task_named
from compact_biomed.errors import UserError


def files_fields(task: Task) -> dict[str, Any]:
    """Return what a record says about where the data of a task are: nothing for a benchmark.

    `task_of_record` makes the task again from it.
    """
    if task.files is not None:
        return {"files": task.files.recorded() | {"max_length": task.max_length}}
    if Path(task.place).is_absolute():  # `ner_task_from_folder`
        return {"files": {"train": task.place, "format": "columns"}}
    return {"files": {"train": task.place, "format": "columns"}} if task.place.startswith("hub:") else {}


def task_of_record(recorded: Mapping[str, Any], own: OwnData, *, where: object, quiet: bool = False) -> Task:
    """Return the task that a record of scores is about: a benchmark, or own data where the record says they are.

    Args:
        recorded: the part "task" of the record.
        own: where the data are now, in place of what the record says; may be empty.
        where: what has the record, for errors.
        quiet: do not say what own data are.

    Raises:
        UserError: the data are not where they were; the message names the flag to say where.
    """
    files = recorded.get("files")
    if not files:
        if own:
            return own_task(**own, quiet=quiet)
        if recorded["name"] not in TASKS:
            what = f"it was fine-tuned on a set of your own, {recorded['name']}"
            raise UserError(what, where=where, remedy="add --train PATH")
        return task_named(recorded["name"])
    keywords = _keywords(recorded, files, own) | own
    _require_places(keywords, where)
    if files.get("format") == "columns" and not own:  # of --ner-dir
        return ner_task_from_folder(files["train"])
    return own_task(**keywords, quiet=quiet)


def other_task(recorded: Mapping[str, Any], own: OwnData, *, split: str) -> Task:
    """Return the task of data other than those of a record, to distill its model with them or to score it on them.

    They are of the record's kind, and read by its columns where they have them; see `own.own_task`.

    Args:
        recorded: the part "task" of the record of a fine-tuning.
        own: where the data are.
        split: "train", or "test" for test examples alone.

    Raises:
        UserError: data of another kind, or that leave it open how they are to be read.
    """
    return own_task(**own, like=expected_of(recorded), first=split)


def _keywords(recorded: Mapping[str, Any], files: Mapping[str, Any], own: OwnData) -> OwnData:
    """Return what a record says about data, in place of what the user would have to say again."""
    columns = files.get("columns", {})
    roles = ("text", "pair", "label", "id", "document")
    keywords = {f"{role}_column": columns[role] for role in roles if role in columns}
    keywords |= {"kind": recorded.get("kind"), "task_name": recorded["name"]}
    keywords |= {name: files.get(name) for name in ("max_length", "split_seed")}
    moved = own.get("train")
    if not (isinstance(moved, str | Path) and path_of(moved).is_dir()):  # a folder has all splits
        keywords |= {split: files[split] for split in ("train", "dev", "test") if files.get(split)}
    if moved is None and files.get("format") != "columns":
        keywords["format"] = files.get("format")
    return keywords


def _require_places(keywords: OwnData, where: object) -> None:
    """Reject data that were in memory or are no longer where they were."""
    for split in ("train", "dev", "test"):
        place = keywords.get(split)
        if place == MEMORY:
            remedy = f"hand them over as {split}=, or write them to a file and name it by --{split}"
            raise UserError(f"its {split} data were in memory, not in a file", where=where, remedy=remedy)
        if isinstance(place, str | Path) and not str(place).startswith("hub:") and not path_of(place).exists():
            what = f"its {split} data are no longer at {place}"
            raise UserError(what, where=where, remedy=f"say where they are by --{split} PATH")
