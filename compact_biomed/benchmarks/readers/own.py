"""Read a task of a user's own into examples: every format of `FORMATS`, splits held out where files are missing.

What is left out, renamed or odd is counted in `Splits.repairs`, from where it is printed and recorded.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from compact_biomed.benchmarks.examples import DEV_SHARE, Example, QuestionExample, Splits, TextExample, WordsExample
from compact_biomed.benchmarks.examples import hold_out as divide
from compact_biomed.benchmarks.readers.columns import KNOWN, is_flag, layout_of, split_labels
from compact_biomed.benchmarks.readers.detect import detect_format, ending
from compact_biomed.benchmarks.readers.entities import read_words_file
from compact_biomed.benchmarks.readers.rows import Rows, read_rows
from compact_biomed.benchmarks.readers.squad import questions_of_rows, read_squad
from compact_biomed.benchmarks.tasks import Files, InMemory, Task
from compact_biomed.errors import UserError

SHARES = {"test": 0.2, "dev": 0.1}  # of train, where neither has a file; dev alone: `DEV_SHARE`
_YES = ("1", "1.0", "true")


class Part(NamedTuple):
    """The examples of a split, and the document of each, None where nothing says it."""

    examples: list[Example]
    documents: list[str | None]


def read_own(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """Read train, dev and test of a task of one's own; hold out what has no file.

    Raises:
        UserError: a missing file, a broken line (with file and line), or too few examples to hold out a part.
    """
    assert task.files is not None
    repairs: dict[str, int] = {}
    places = {split: getattr(task.files, split) for split in ("train", "dev", "test")}
    parts = {
        split: _named_once(_part(task, place, split, repairs), split, repairs)
        for split, place in places.items()
        if place is not None
    }
    examples = {split: part.examples for split, part in parts.items()} | _held_out(task, parts, repairs)
    _count_shared(examples, repairs)
    _count_missing(examples, repairs)
    return Splits(**examples, repairs=repairs, dev_of_train="dev" not in parts)


def _part(task: Task, place: str | InMemory, split: str, repairs: dict[str, int]) -> Part:
    form = _form(task.files, place)
    if form == "squad":
        return _without_documents(read_squad(Path(place), split, repairs))
    if form == "conll":
        return _without_documents(read_words_file(Path(place), split, repairs))
    return _of_table(task, place, form, split, repairs)


def _form(files: Files, place: str | InMemory) -> str:
    """Return the format of a split: that of train, unless its name ends otherwise."""
    if isinstance(place, InMemory):
        return "memory"
    of_train = "" if isinstance(files.train, InMemory) else files.train
    alike = ending(of_train) == ending(place) and Path(of_train).is_dir() == Path(place).is_dir()
    return files.format if alike else detect_format(place)


def _without_documents(examples: list[Example]) -> Part:
    return Part(examples, [None] * len(examples))


# ---- tables


def _of_table(task: Task, place: str | InMemory, form: str, split: str, repairs: dict[str, int]) -> Part:
    rows = read_rows(place, split, form, KNOWN | {name.lower() for _, name in task.files.columns})
    columns = _columns(task, rows, place)
    if task.kind == "qa":
        return _without_documents(questions_of_rows(rows, columns, split, repairs))
    make = _LABELS[task.kind]
    part, empty = Part([], []), 0
    for number, (row, where) in enumerate(zip(rows.rows, rows.where, strict=True)):
        texts = [_text(row, columns[role], where) for role in ("text", "pair") if role in columns]
        if not all(text.strip() for text in texts):
            empty += 1
            continue
        key, document = (_name(row, columns.get(role)) for role in ("id", "document"))
        label = make(row, columns, where)
        part.examples.append(TextExample(key or f"{split}/{number}", texts[0], (*texts, None)[1], label))
        part.documents.append(document)
    if empty:
        repairs[f"{split}: examples without text, left out"] = empty
    return part


def _columns(task: Task, rows: Rows, place: object) -> dict[str, str]:
    """Return role -> column as in train; if this split has other names, what they are by themselves."""
    columns = dict(task.files.columns)
    listed = [name for role, name in columns.items() if role != "separator"]
    if all(name in rows.columns or set(name.split(",")) <= {*rows.columns} for name in listed):
        return columns
    try:
        again = layout_of(rows, task.kind, {}, place).columns
    except UserError:
        again = {}
    if missing := columns.keys() - again.keys() - {"id", "document", "separator"}:
        role = sorted(missing)[0]
        what = f"no column {columns[role]!r}, which train has, among {', '.join(rows.columns)}"
        raise UserError(what, where=place, remedy="name the columns as in train")
    return again | {role: name for role, name in columns.items() if role == "separator"}


def _text(row: Mapping[str, Any], column: str, where: str) -> str:
    value = row.get(column)
    if value is not None and not isinstance(value, str):
        what = f"{column} is not text: {str(value)[:40]!r}"
        raise UserError(what, where=where, remedy="write a text, or name another column by --text-column")
    return value or ""


def _name(row: Mapping[str, Any], column: str | None) -> str | None:
    value = row.get(column) if column else None
    return None if value is None or value == "" else str(value)


def _class(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> str:
    value = row.get(columns["label"])
    label = "" if value is None or isinstance(value, list | dict) else str(value).strip()
    if not label:
        what = f"no class in column {columns['label']}" if value in (None, "") else f"not a class: {str(value)[:40]!r}"
        raise UserError(what, where=where, remedy="write one, or remove the example")
    return label


def _several(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> tuple[str, ...]:
    name = columns["label"]
    if name in row or "," not in name:
        return split_labels(row.get(name), columns.get("separator"))
    flags = {each: row.get(each) for each in name.split(",")}
    if wrong := next((each for each, value in flags.items() if not is_flag(value)), None):
        raise UserError(f"{wrong} is {str(flags[wrong])[:40]!r}", where=where, remedy="write 0 or 1")
    return tuple(sorted(each for each, value in flags.items() if str(value).strip().lower() in _YES))


def _number(row: Mapping[str, Any], columns: Mapping[str, str], where: str) -> float:
    value = row.get(columns["label"])
    try:
        number = float(value)
        if not math.isfinite(number) or isinstance(value, bool):
            raise ValueError
    except (TypeError, ValueError):
        what = f"not a number in column {columns['label']}: {str(value)[:40]!r}"
        raise UserError(what, where=where, remedy="write a number such as 3.5, or remove the example") from None
    return number


_LABELS: dict[str, Callable[[Mapping[str, Any], Mapping[str, str], str], Any]] = {
    "classification": _class,
    "relation": _class,
    "multilabel": _several,
    "regression": _number,
}


# ---- splits


def _named_once(part: Part, split: str, repairs: dict[str, int]) -> Part:
    """Rename examples with an id that an earlier one has: "7", "7#2". Contexts of one question keep theirs."""
    seen: Counter[str] = Counter()
    examples = []
    for example in part.examples:
        seen[example.key] += 1
        if seen[example.key] > 1:
            example = type(example)(**vars(example) | {"key": f"{example.key}#{seen[example.key]}"})
        examples.append(example)
    if twice := sum(number - 1 for number in seen.values()):
        repairs[f"{split}: examples with an id that an earlier one has, renamed"] = twice
    return Part(examples, part.documents)


def _held_out(task: Task, parts: Mapping[str, Part], repairs: dict[str, int]) -> dict[str, list[Example]]:
    """Return the parts that are held out of train, and what is left of it; nothing if each split has a file."""
    missing = [split for split in SHARES if split not in parts]
    if not missing:
        return {}
    train, seed = parts["train"], task.files.split_seed
    first: dict[Any, str] = {}
    groups = [
        document or first.setdefault(_content(example), getattr(example, "question_id", example.key))
        for example, document in zip(*train, strict=True)
    ]
    shares = {"dev": DEV_SHARE} if missing == ["dev"] else {split: SHARES[split] for split in missing}
    try:
        divided = divide(train.examples, groups, shares, seed)
    except ValueError:
        what = f"{len(train.examples)} train examples are too few to hold out {' and '.join(missing)}"
        raise UserError(
            what, where=task.place, remedy=f"add {' and '.join(f'--{split} FILE' for split in missing)}"
        ) from None
    by = "document" if any(train.documents) else "text"
    for split in missing:
        repairs[f"{split} examples held out of train, by {by}, split seed {seed}"] = len(divided[split])
    return divided


def _content(example: Example) -> Any:
    """Return what must not be on two sides of a split: the words, the texts, or the context of a question."""
    if isinstance(example, WordsExample):
        return example.words
    return example.context if isinstance(example, QuestionExample) else (example.text, example.pair)


def _count_shared(examples: Mapping[str, Sequence[Example]], repairs: dict[str, int]) -> None:
    """Count the examples of dev and test whose text is in an earlier split too."""
    known: set[Any] = set()
    for split, others in (("train", ""), ("dev", "train"), ("test", "train or dev")):
        contents = [_content(example) for example in examples[split]]
        if shared := sum(content in known for content in contents) if others else 0:
            repairs[f"{split} examples whose text is in {others} too"] = shared
        known |= set(contents)


def _count_missing(examples: Mapping[str, Sequence[Example]], repairs: dict[str, int]) -> None:
    """Count the classes of dev that train lacks; those of test are counted for every task."""
    of_train, of_dev = (set(_classes(examples[split])) for split in ("train", "dev"))
    if missing := sorted(of_dev - of_train):
        repairs[f"classes of dev that train lacks ({', '.join(missing[:5])})"] = len(missing)


def _classes(examples: Iterable[Example]) -> Iterable[str]:
    for example in examples:
        if isinstance(example, WordsExample):
            yield from (tag[2:] or "entity" for tag in example.tags if tag != "O")
        elif isinstance(label := getattr(example, "label", None), tuple):
            yield from label
        elif isinstance(label, str):
            yield label
