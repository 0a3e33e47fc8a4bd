"""Make a task of a user's own data: files, folders, hub data sets, or objects of a Python program.

`own_task` finds out what the data are, as far as they leave no doubt, and says it in one line. The reader is
`readers.own`; docs/own-data.md shows an example of each format.
"""

import os
import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from compact_biomed.benchmarks import OWN_KINDS
from compact_biomed.benchmarks.expected import Expected
from compact_biomed.benchmarks.readers.annotated import OfTrain, entities_of
from compact_biomed.benchmarks.readers.columns import KNOWN, SPLIT_NAMES, Layout, check_splits, layout_of
from compact_biomed.benchmarks.readers.own_formats import (
    ENTITY_FORMATS,
    FORMATS,
    KINDS_OF,
    detect_format,
    is_brat,
    splits_in,
)
from compact_biomed.benchmarks.readers.rows import hub_splits, named_splits, plain_rows, read_rows
from compact_biomed.benchmarks.standoff.formats import PAGE, WORD_FORMATS, read_documents
from compact_biomed.benchmarks.tasks import Files, InMemory, Task
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
Data: TypeAlias = Any


class OwnData(TypedDict, total=False):
    """The keywords that describe a task of one's own, equal to the flags of `cli.data`.

    Args:
        train: a file, a folder that holds train, dev and test, a BRAT folder, `hub:OWNER/NAME`; in Python also a list
            of dictionaries, a pair (texts, labels), a pandas DataFrame or a `datasets.Dataset`.
        dev, test: likewise (default: files of these names beside train in its folder, else held out of train).
        kind: one of `OWN_KINDS` (default: what the data leave no doubt about).
        format: one of `readers.own_formats.FORMATS` (default: by name and content of the file).
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
    like: Expected | None = None,
    first: str = "train",
    quiet: bool = False,
) -> Task:
    """Return the task of a user's own data; see `OwnData` for the arguments.

    Args:
        like: what a model was fine-tuned on. The data are of its kind, and its columns are taken where they have them.
        first: the split by which the data are judged; "test": there are test examples alone, to score a model on.
        quiet: do not say what the data are.

    Raises:
        UsageError: no training data, or a value that is impossible whatever the data are.
        UserError: files that cannot be read, or that leave kind, format or columns open; data of another kind than
            those of `like`.
    """
    data = train if first == "train" else test
    if data is None:
        raise UsageError("no training data", where="--train", remedy=f"name a file or folder; see {PAGE}")
    if kind is not None and kind not in OWN_KINDS:
        raise UsageError(f"no kind {kind!r}", where="--kind", remedy=f"one of {', '.join(OWN_KINDS)}")
    if format is not None and format not in FORMATS:
        raise UsageError(f"no format {format!r}", where="--format", remedy=f"one of {', '.join(FORMATS)}; see {PAGE}")
    if max_length is not None and not _SHORTEST <= max_length:
        raise UsageError(f"{max_length} pieces", where="--max-length", remedy=f"give at least {_SHORTEST}")
    roles = {"text": text_column, "pair": pair_column, "label": label_column}
    named = [(role, name) for role, name in roles.items() if name]
    for (first_role, name), (role, other) in combinations(named, 2):
        if name == other:
            what = f"the same column {name!r} as --{first_role}-column"
            raise UsageError(what, where=f"--{role}-column", remedy="name another column")
    given = {role: name for role, name in (roles | {"id": id_column, "document": document_column}).items() if name}
    places = _places({"train": train, "dev": dev, "test": test}, first)
    form = "memory" if isinstance(places[first], InMemory) else format or detect_format(places[first])
    layout = _layout(places[first], form, first, kind, given, like)
    if first == "train":
        places = {split: places["train"] for split in layout.splits} | places
    elif "test" not in layout.splits:  # all of it is for the test
        layout.columns.pop("split", None)
    name = task_name or _name(data, first)
    if not quiet:
        say(f"{shortened(name)}: {layout.described} ({_where(places)})")
    files = Files(**places, format=form, columns=tuple(sorted(layout.columns.items())), split_seed=split_seed or 0)
    metric, length = _SCORED_BY[layout.kind]
    pairs = "pair" in layout.columns
    return Task(name, layout.kind, 1, str(places[first]), metric, max_length or length, "own", pairs=pairs, files=files)


def _places(given: Mapping[str, Data], first: str) -> dict[str, str | InMemory]:
    """Return where each split is; those to hold out are left out.

    Args:
        given: split -> data, or None.
        first: "train", whose place may have the others too, or "test", beside which nothing is looked for.
    """
    data, found = given[first], {}
    if isinstance(data, str | Path):
        if str(data).startswith("hub:"):
            found = dict.fromkeys(hub_splits(str(data)), str(data))
        elif (folder := path_of(data)).is_dir() and not is_brat(folder):
            found = splits_in(folder, first)
    elif isinstance(data, Mapping) and all(hasattr(part, "features") for part in data.values()):  # a DatasetDict
        found = named_splits(data)
    chosen = found | _without_none({split: each for split, each in given.items() if split != first or not found})
    if first not in chosen:
        raise UserError(f"no split {first} in these data", where=str(data), remedy="choose others")
    return {split: _place(each, split) for split, each in chosen.items() if first in ("train", split)}


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _place(data: Data, split: str) -> str | InMemory:
    if isinstance(data, str | Path):
        if str(data).startswith("hub:"):
            return str(data)
        path = path_of(data)
        if not path.exists():
            raise no_file(data, f"check the path of --{split}")
        return str(path)
    return InMemory(plain_rows(data))


def path_of(place: str | Path) -> Path:
    """Return the absolute path of a file or folder, links resolved."""
    return Path(os.path.realpath(Path(place).expanduser()))  # Path.resolve fails on a link to itself


def _layout(
    place: str | InMemory, form: str, split: str, kind: str | None, given: dict[str, str], like: Expected | None
) -> Layout:
    """Return kind and columns of the data of a split."""
    if like is not None:
        like.require_kind(kind, place)
        kind = like.kind
    if form == "squad":
        _refuse_other(kind, form, place, like)
        _refuse_columns(given)
        return Layout("qa", {}, "qa: questions in SQuAD's format")
    if form in ENTITY_FORMATS:
        _refuse_columns({role: name for role, name in given.items() if role != "label" or form != "conll"})
        if like is not None and form == "conll":
            given = like.numbered_label | given
        return _layout_of_entities(str(place), form, kind, given, like)
    names = {*given.values(), *(like.columns.values() if like else ())}
    rows = read_rows(place, split, form, KNOWN | {name.lower() for name in names})
    if like is not None:
        given = like.columns_in(rows.columns) | given
    layout = layout_of(rows, kind, given, place)
    if form == "hub":  # it has splits of its own
        layout.columns.pop("split", None)
        layout = replace(layout, splits=())
    elif "split" in layout.columns:
        check_splits(rows, layout.columns["split"])
    if like is None:
        return layout
    if layout.kind not in ("ner", "qa"):
        like.require_texts("pair" in layout.columns, place)
    if "separator" in like.columns and layout.columns.get("label") == like.columns["label"]:
        layout.columns["separator"] = like.columns["separator"]
    return layout


def _layout_of_entities(
    place: str, form: str, kind: str | None, columns: dict[str, str], like: Expected | None
) -> Layout:
    _refuse_other(kind, form, place, like)
    if "label" in columns and not columns["label"].lstrip("-").isdigit():
        what = f"{columns['label']!r} is no number of a column"
        raise UsageError(
            what, where="--label-column", remedy="columns have no names here: 2 is the second, -1 the last"
        )
    if form in WORD_FORMATS:
        examples = entities_of(place, form, "train", {}, OfTrain(), int(columns.get("label", -1))).examples
        types = {tag[2:] for example in examples for tag in example.tags if tag != "O"} - {""}
        return Layout("ner", columns, f"ner: {_types(types)} in {len(examples):,} sentences ({form})")
    documents = read_documents(place, form)
    relations = {relation.type for document in documents for relation in document.relations}
    if relations and kind is None:
        what = f"entities, and relations of {len(relations)} types ({', '.join(sorted(relations)[:5])})"
        raise UserError(what, where=place, remedy=f"say which to learn by --kind ner or --kind relation; see {PAGE}")
    if kind == "relation":
        return Layout("relation", {}, f"relation: {_types(relations)} in {len(documents):,} documents ({form})")
    types = {mention.type for document in documents for mention in document.mentions}
    return Layout("ner", {}, f"ner: {_types(types)} in {len(documents):,} documents ({form})")


def _types(names: Collection[str]) -> str:
    types = sorted(names)
    if len(types) > 1:
        return f"{len(types)} types ({listed(types, most=5)})"
    return listed(types) or "entities"


def _refuse_other(kind: str | None, form: str, where: object, like: Expected | None) -> None:
    if kind is not None and kind not in KINDS_OF[form]:
        needed = " or ".join(KINDS_OF[form])
        if like is not None:
            like.require_kind(f"{needed} ({form})", where)
        remedy = f"leave --kind out, name the format by --format, or see {PAGE}"
        raise UserError(
            f"a file of this format ({form}) is for --kind {needed}, not {kind}", where=where, remedy=remedy
        )


def _refuse_columns(given: Mapping[str, str]) -> None:
    if given:
        role = next(iter(given))
        raise UsageError("this format has no names of columns", where=f"--{role}-column", remedy="leave it out")


def _name(data: Data, split: str) -> str:
    """Return the name of a task: that of the file, or of its folder if the file is called train (or test)."""
    if not isinstance(data, str | Path):
        return "own data" if split == "train" else "other data"
    if str(data).startswith("hub:"):
        return str(data).removeprefix("hub:")
    path = path_of(data)
    stem = path.name if path.is_dir() else path.name.split(".")[0]
    for word in SPLIT_NAMES[split]:
        stem = re.sub(rf"^{word}(?:[-_ ]|$)|[-_ ]{word}(?=[-_ ]|$)", "", stem, flags=re.IGNORECASE)
    return stem or path.parent.name or "own data"


def _where(places: Mapping[str, str | InMemory]) -> str:
    if "train" not in places:
        return "a test set alone"
    missing = [split for split in ("dev", "test") if split not in places]
    return f"{' and '.join(missing)} held out of train" if missing else "train, dev and test"


def own_tasks(own: OwnData) -> list[Task]:
    """Return the task of these keywords, as a list; an empty one if none of them was given."""
    given = {name: value for name, value in own.items() if value is not None}
    return [own_task(**given)] if given else []
