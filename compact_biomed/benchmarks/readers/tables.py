"""Read tables of one's own: rows with texts and labels, or with questions, into examples."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from compact_biomed.benchmarks.examples import Part, TextExample
from compact_biomed.benchmarks.readers.annotated import entities_of_rows
from compact_biomed.benchmarks.readers.columns import KNOWN, check_splits, layout_of, split_of
from compact_biomed.benchmarks.readers.labels import has_decimal_comma, is_flag, split_labels
from compact_biomed.benchmarks.readers.rows import Rows, read_rows
from compact_biomed.benchmarks.readers.squad import questions_of_rows
from compact_biomed.benchmarks.tasks import InMemory, Task
from compact_biomed.errors import UserError

_NEEDED = {"ner": ("tokens", "tags"), "qa": ("question", "context", "answers")}  # of other kinds: text and label
_YES = ("1", "1.0", "true")


def table_of(task: Task, place: str | InMemory, form: str, split: str, repairs: dict[str, int]) -> Part:
    """Read the examples of a table.

    Args:
        form: of the table, see `rows.read_rows`.
        repairs: description of what was left out -> how often; added to.
    """
    rows = read_rows(place, split, form, KNOWN | {name.lower() for _, name in task.files.columns})
    columns = _columns(task, rows, place)
    if "split" in columns and (task.test_alone or place == task.files.train) and form != "hub":
        rows = _of_split(rows, columns["split"], split)
    if task.kind == "qa":
        questions = questions_of_rows(rows, columns, split, repairs)
        return Part(questions, [None] * len(questions))
    if task.kind == "ner":
        return entities_of_rows(rows, columns, split, repairs)
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


def _of_split(rows: Rows, column: str, split: str) -> Rows:
    check_splits(rows, column)
    chosen = [number for number, value in enumerate(rows.values(column)) if split_of(value) == split]
    return Rows(rows.columns, [rows.rows[number] for number in chosen], [rows.where[number] for number in chosen])


def _columns(task: Task, rows: Rows, place: object) -> dict[str, str]:
    """Return role -> column as in train; if this split has other names, what they are by themselves."""
    columns = dict(task.files.columns)
    if not columns.keys() >= {*_NEEDED.get(task.kind, ("text", "label"))}:  # train is no table
        return layout_of(rows, task.kind, {}, place).columns
    listed = [name for role, name in columns.items() if role not in ("separator", "split")]
    if all(name in rows.columns or set(name.split(",")) <= {*rows.columns} for name in listed):
        return columns
    flags = columns.get("label", "").split(",")
    if len(flags) > 1 and (lacking := [name for name in flags if name not in rows.columns]):
        what = f"no column {lacking[0]!r}, which is a label in train"  # else each example would count as without it
        raise UserError(what, where=place, remedy="add the column, of 0 and 1")
    try:
        again = layout_of(rows, task.kind, {}, place).columns
    except UserError:
        again = {}
    if missing := columns.keys() - again.keys() - {"id", "document", "separator", "split"}:
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
        comma = has_decimal_comma(str(value).strip())
        remedy = "write a decimal point, not a comma" if comma else "write a number such as 3.5, or remove the example"
        raise UserError(what, where=where, remedy=remedy) from None
    return number


_LABELS: dict[str, Callable[[Mapping[str, Any], Mapping[str, str], str], Any]] = {
    "classification": _class,
    "relation": _class,
    "multilabel": _several,
    "regression": _number,
}
