"""Make a task of a user's own data: files, folders, hub data sets, or objects of a Python program.

`own_task` finds out what the data are, as far as they leave no doubt, and says it in one line. The reader is
`readers.own`; docs/own-data.md shows an example of each format.
"""

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from compact_biomed.benchmarks.readers.annotated import OfTrain, entities_of
from compact_biomed.benchmarks.readers.columns import KNOWN, SPLIT_NAMES, Layout, layout_of
from compact_biomed.benchmarks.readers.detect import (
    ENTITY_FORMATS,
    FORMATS,
    detect_format,
    is_brat,
    splits_in,
)
from compact_biomed.benchmarks.readers.rows import hub_splits, named_splits, plain_rows, read_rows
from compact_biomed.benchmarks.standoff.formats import PAGE, WORD_FORMATS, read_documents
from compact_biomed.benchmarks.tasks import MEMORY, TASKS, Files, InMemory, Task, ner_task_from_folder, task_named
from compact_biomed.console import listed, say, shortened
from compact_biomed.errors import UsageError, UserError, no_file

_SHORTEST = 8  # word pieces of an example, special tokens included
# Kind of task -> its primary metric, and the most word pieces of an example.
_SCORED_BY = {
    "ner": ("f1", 512),
    "classification": ("accuracy", 512),
    "multilabel": ("f1", 512),
    "regression": ("pearson", 512),
    "qa": ("mrr", 384),
    "relation": ("f1", 512),
}
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
        max_length: word pieces per example (default: 512, of a question and a part of its context 384).
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
    max_length: int | None
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
    max_length: int | None = None,
    split_seed: int | None = None,
) -> Task:
    """Return the task of a user's own data; see `OwnData` for the arguments.

    Raises:
        UsageError: no training data, or a value that is impossible whatever the data are.
        UserError: files that cannot be read, or that leave kind, format or columns open.
    """
    if train is None:
        raise UsageError("no training data", where="--train", remedy=f"name a file or folder; see {PAGE}")
    if kind is not None and kind not in OWN_KINDS:
        raise UsageError(f"no kind {kind!r}", where="--kind", remedy=f"one of {', '.join(OWN_KINDS)}")
    if format is not None and format not in FORMATS:
        raise UsageError(f"no format {format!r}", where="--format", remedy=f"one of {', '.join(FORMATS)}; see {PAGE}")
    if max_length is not None and not _SHORTEST <= max_length:
        raise UsageError(f"{max_length} pieces", where="--max-length", remedy=f"give at least {_SHORTEST}")
    roles = {"text": text_column, "pair": pair_column, "label": label_column}
    given = {role: name for role, name in (roles | {"id": id_column, "document": document_column}).items() if name}
    places = _places(train, dev, test)
    form = "memory" if isinstance(places["train"], InMemory) else format or detect_format(places["train"])
    layout = _layout(places["train"], form, kind, given)
    places = {split: places["train"] for split in layout.splits} | places
    name = task_name or _name(train)
    say(f"{shortened(name)}: {layout.described} ({_where(places)})")
    files = Files(**places, format=form, columns=tuple(sorted(layout.columns.items())), split_seed=split_seed or 0)
    metric, length = _SCORED_BY[layout.kind]
    pairs = "pair" in layout.columns
    return Task(name, layout.kind, 1, str(files.train), metric, max_length or length, "own", files=files, pairs=pairs)


def _places(train: Data, dev: Data, test: Data) -> dict[str, str | InMemory]:
    """Return where each split is; those to hold out are left out."""
    given = {"train": train, "dev": dev, "test": test}
    if isinstance(train, str | Path):
        if str(train).startswith("hub:"):
            given = {split: str(train) for split in hub_splits(str(train))} | _without_none(given)
        elif (folder := _path(train)).is_dir() and not is_brat(folder):
            given = splits_in(folder) | _without_none({"dev": dev, "test": test})
    elif isinstance(train, Mapping) and all(hasattr(part, "features") for part in train.values()):  # a DatasetDict
        given = named_splits(train) | _without_none({"dev": dev, "test": test})
    return {split: _place(data, split) for split, data in _without_none(given).items()}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _place(data: Data, split: str) -> str | InMemory:
    if isinstance(data, str | Path):
        if str(data).startswith("hub:"):
            return str(data)
        path = _path(data)
        if not path.exists():
            raise no_file(data, f"check the path of --{split}")
        return str(path)
    return InMemory(plain_rows(data))


def _path(place: str | Path) -> Path:
    return Path(os.path.realpath(Path(place).expanduser()))  # Path.resolve fails on a link to itself


def _layout(train: str | InMemory, form: str, kind: str | None, given: dict[str, str]) -> Layout:
    """Return kind and columns of the training data."""
    if form == "squad":
        _refuse_other(kind, "qa", form, train)
        _refuse_columns(given)
        return Layout("qa", {}, "qa: questions in SQuAD's format")
    if form in ENTITY_FORMATS:
        _refuse_columns({role: name for role, name in given.items() if role != "label" or form != "conll"})
        return _layout_of_entities(str(train), form, kind, given)
    known = KNOWN | {name.lower() for name in given.values()}
    return layout_of(read_rows(train, "train", form, known), kind, given, train)


def _layout_of_entities(train: str, form: str, kind: str | None, columns: dict[str, str]) -> Layout:
    if kind not in (None, "ner", "relation") or (kind == "relation" and form in WORD_FORMATS):
        _refuse_other(kind, "ner" if form in WORD_FORMATS else "ner or relation", form, train)
    if "label" in columns and not columns["label"].lstrip("-").isdigit():
        what = f"{columns['label']!r} is no number of a column"
        raise UsageError(
            what, where="--label-column", remedy="columns have no names here: 2 is the second, -1 the last"
        )
    if form in WORD_FORMATS:
        examples = entities_of(train, form, "train", {}, OfTrain(), int(columns.get("label", -1))).examples
        types = {tag[2:] for example in examples for tag in example.tags if tag != "O"} - {""}
        return Layout("ner", columns, f"ner: {_types(types)} in {len(examples):,} sentences ({form})")
    documents = read_documents(train, form)
    relations = {relation.type for document in documents for relation in document.relations}
    if relations and kind is None:
        what = f"entities, and relations of {len(relations)} types ({', '.join(sorted(relations)[:5])})"
        raise UserError(what, where=train, remedy=f"say which to learn by --kind ner or --kind relation; see {PAGE}")
    if kind == "relation":
        return Layout("relation", {}, f"relation: {_types(relations)} in {len(documents):,} documents ({form})")
    types = {mention.type for document in documents for mention in document.mentions}
    return Layout("ner", {}, f"ner: {_types(types)} in {len(documents):,} documents ({form})")


def _types(names: Collection[str]) -> str:
    types = sorted(names)
    if len(types) > 1:
        return f"{len(types)} types ({listed(types[:5])}{', ...' if len(types) > 5 else ''})"
    return listed(types) or "entities"


def _refuse_other(kind: str | None, needed: str, form: str, train: object) -> None:
    if kind is not None and kind != needed:
        remedy = f"leave --kind out, name the format by --format, or see {PAGE}"
        raise UserError(
            f"a file of this format ({form}) is for --kind {needed}, not {kind}", where=train, remedy=remedy
        )


def _refuse_columns(given: Mapping[str, str]) -> None:
    if given:
        role = next(iter(given))
        raise UsageError("this format has no names of columns", where=f"--{role}-column", remedy="leave it out")


def _name(train: Data) -> str:
    """Return the name of a task: that of the file, or of its folder if the file is called train."""
    if not isinstance(train, str | Path):
        return "own data"
    if str(train).startswith("hub:"):
        return str(train).removeprefix("hub:")
    path = _path(train)
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    for word in SPLIT_NAMES["train"]:
        stem = re.sub(rf"^{word}(?:[-_ ]|$)|[-_ ]{word}(?=[-_ ]|$)", "", stem, flags=re.IGNORECASE)
    return stem or path.parent.name or "own data"


def _where(places: Mapping[str, str | InMemory]) -> str:
    missing = [split for split in ("dev", "test") if split not in places]
    return f"{' and '.join(missing)} held out of train" if missing else "train, dev and test"


def own_tasks(own: OwnData) -> list[Task]:
    """Return the task of these keywords, as a list; an empty one if none of them was given."""
    given = {name: value for name, value in own.items() if value is not None}
    return [own_task(**given)] if given else []


def files_fields(task: Task) -> dict[str, Any]:
    """Return what a record says about where the data of a task are: nothing for a benchmark.

    `task_of_record` makes the task again from it.
    """
    if task.files is not None:
        return {"files": task.files.recorded() | {"max_length": task.max_length}}
    if Path(task.place).is_absolute():  # `ner_task_from_folder`
        return {"files": {"train": task.place, "format": "columns"}}
    return {"files": {"train": task.place, "format": "columns"}} if task.place.startswith("hub:") else {}


def task_of_record(recorded: Mapping[str, Any], own: OwnData, *, where: object) -> Task:
    """Return the task that a record of scores is about: a benchmark, or own data where the record says they are.

    Args:
        recorded: the part "task" of the record.
        own: where the data are now, in place of what the record says; may be empty.
        where: what has the record, for errors.

    Raises:
        UserError: the data are not where they were; the message names the flag to say where.
    """
    files = recorded.get("files")
    if not files:
        if own:
            return own_task(**own)
        if recorded["name"] not in TASKS:
            what = f"it was fine-tuned on a set of your own, {recorded['name']}"
            raise UserError(what, where=where, remedy="add --train PATH")
        return task_named(recorded["name"])
    keywords = _keywords(recorded, files, own) | own
    _require_places(keywords, where)
    if files.get("format") == "columns" and not own:  # of --ner-dir
        return ner_task_from_folder(files["train"])
    return own_task(**keywords)


def has_pairs(recorded: Mapping[str, Any]) -> bool | None:
    """Return whether the examples of a task are pairs of texts; None if neither its record nor its name says so.

    Args:
        recorded: the part "task" of a record of scores; may be empty.
    """
    if files := recorded.get("files"):
        return "pair" in files.get("columns", {})
    task = TASKS.get(recorded.get("name", ""))
    return None if task is None else task.pairs


def _keywords(recorded: Mapping[str, Any], files: Mapping[str, Any], own: OwnData) -> OwnData:
    """Return what a record says about data, in place of what the user would have to say again."""
    columns = files.get("columns", {})
    roles = ("text", "pair", "label", "id", "document")
    keywords = {f"{role}_column": columns[role] for role in roles if role in columns}
    keywords |= {"kind": recorded.get("kind"), "task_name": recorded["name"]}
    keywords |= {name: files.get(name) for name in ("max_length", "split_seed")}
    moved = own.get("train")
    if not (isinstance(moved, str | Path) and _path(moved).is_dir()):  # a folder has all splits
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
        if isinstance(place, str | Path) and not str(place).startswith("hub:") and not _path(place).exists():
            what = f"its {split} data are no longer at {place}"
            raise UserError(what, where=where, remedy=f"say where they are by --{split} PATH")
