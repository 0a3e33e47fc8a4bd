"""Read the labels in a column: one, several, flags or numbers, and the kind of task that they leave no doubt about."""

import ast
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any

from compact_biomed.benchmarks.readers.rows import Rows
from compact_biomed.benchmarks.standoff.formats import PAGE
from compact_biomed.corpus.pieces import MASK
from compact_biomed.errors import UserError

SEPARATORS = (";", "|", ",")  # of several labels in one cell
_MOST_CLASSES = 100
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")


def split_labels(value: Any, separator: str | None) -> tuple[str, ...]:
    """Return the labels of one cell: a list, written out or not, or a text with a separator; sorted, each once."""
    if value is None:
        return ()
    parts = listed(value)
    if parts is None:
        parts = str(value).split(separator) if separator else [value]
    return tuple(sorted({str(part).strip() for part in parts} - {""}))


def listed(value: Any) -> list[Any] | None:
    """Return a list, or the list that a cell of text spells (pandas writes "['a', 'b']"); None for other values."""
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str) and value[:1] == "[" and value[-1:] == "]":
        try:
            return list(ast.literal_eval(value))
        except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
            return None
    return None


def holds_spans(value: Any) -> bool:
    """Return whether a cell lists mentions, [START, END, TYPE] or objects, in place of labels."""
    return any(isinstance(part, list | tuple | dict) for part in listed(value) or ())


def is_blank(value: Any) -> bool:
    """Return whether a cell is empty, or is white space alone."""
    return value is None or not str(value).strip()


def is_flag(value: Any) -> bool:
    """Return whether a value says that a label applies or not: 0, 1, true, false, or nothing."""
    return value is None or str(value).strip().lower() in ("0", "1", "0.0", "1.0", "true", "false", "")


def kind_of(rows: Rows, found: dict[str, str], where: object) -> str:
    """Return the kind of task that the labels leave no doubt about."""
    label = found["label"]
    values = [value for value in rows.values(label) if value is not None and value != ""]
    if any(listed(value) is not None for value in values):
        return "multilabel"
    distinct = {str(value).strip() for value in values}
    numbers = [number for value in distinct if (number := _number(value)) is not None]
    _check_numbers(rows, label)
    if len(numbers) == len(distinct) and distinct:
        if any(number != int(number) for number in numbers):
            return "regression"
        whole = all(value.lstrip("+-").isdigit() for value in distinct)
        if whole and len(distinct) <= 20:
            return "relation" if _is_relation(rows, found) else "classification"
        raise _two_kinds(f"{label} holds {len(distinct)} numbers", "regression", "classification", where)
    if (separator := separator_of(values)) and _recur(values, separator):
        what = f"{label} holds several labels with {separator!r} between them, or one"
        raise _two_kinds(what, "multilabel", "classification", where)
    if len(distinct) > _MOST_CLASSES or len(distinct) * 2 > max(len(values), 8):
        if len(numbers) * 2 > len(distinct):
            raise _no_number(rows, label)
        what = f"column {label} has {len(distinct)} values in {len(values)} rows: are these classes?"
        raise UserError(what, where=where, remedy=f"then add --kind classification, else --label-column; see {PAGE}")
    return "relation" if _is_relation(rows, found) else "classification"


def _check_numbers(rows: Rows, label: str) -> None:
    """Raise a `UserError` for the first value that is no finite number in a column of numbers to learn.

    Such a column has numbers with a decimal comma, alone or beside other numbers; or numbers of which some are not
    finite; or, in more than half of its cells, numbers of which some are not whole. Whole numbers may be classes,
    beside words too.
    """
    cells = [cell for cell, _ in _cells(rows, label)]
    numbers = [number for cell in cells if (number := _number(cell)) is not None]
    others = [cell for cell in cells if _number(cell) is None]
    if not others:
        return
    most = len(numbers) > len(others) and any(number != int(number) for number in numbers)
    if most or all(map(has_decimal_comma, others)) or (numbers and all(map(_is_not_finite, others))):
        raise _no_number(rows, label)


def _no_number(rows: Rows, label: str) -> UserError:
    """Return the error about the first cell that is no finite number."""
    cells = _cells(rows, label)
    other, where = next(each for each in cells if _number(each[0]) is None)
    if has_decimal_comma(other):
        what = f"column {label} has {other[:40]!r}: a number with a decimal comma, or two labels"
        return UserError(what, where=where, remedy=f"write a decimal point, or add --kind multilabel; see {PAGE}")
    numbers = sum(_number(cell) is not None for cell, _ in cells)
    what = f"column {label} has {numbers} numbers, and {other[:40]!r}"
    remedy = f"if these are classes, add --kind classification; else write a number, or remove the row; see {PAGE}"
    return UserError(what, where=where, remedy=remedy)


def _cells(rows: Rows, label: str) -> list[tuple[str, str]]:
    """Return text and place of each cell of a column that is not empty."""
    cells = zip(rows.values(label), rows.where, strict=True)
    return [(str(value).strip(), where) for value, where in cells if value is not None and value != ""]


def _two_kinds(what: str, one: str, other: str, where: object) -> UserError:
    return UserError(what, where=where, remedy=f"say which by --kind {one} or --kind {other}; see {PAGE}")


def _is_relation(rows: Rows, found: dict[str, str]) -> bool:
    """Return whether nearly every text has a placeholder of an entity, such as @GENE$."""
    texts = rows.values(found["text"])
    return "pair" not in found and sum(bool(MASK.search(str(text))) for text in texts) >= 0.9 * len(texts)


def separator_of(values: Iterable[Any]) -> str | None:
    """Return the letter between several labels in one cell; None if there is none, or cells are lists."""
    texts = [value for value in values if isinstance(value, str) and listed(value) is None]
    return next((each for each in SEPARATORS if any(each in text.strip(each) for text in texts)), None)


def _recur(values: Sequence[Any], separator: str) -> bool:
    """Return whether the parts of cells with a separator occur in other cells too: these are labels."""
    cells = {value for value in values if isinstance(value, str)}
    joined = {cell for cell in cells if separator in cell}
    parts = [part for cell in joined for part in split_labels(cell, separator)]
    others = {part for cell in cells - joined for part in split_labels(cell, separator)}
    return any(part in others or parts.count(part) > 1 for part in parts)


def has_decimal_comma(text: str) -> bool:
    """Return whether a text is a number with a comma in place of the decimal point, such as 0,5."""
    return _DECIMAL_COMMA.fullmatch(text) is not None


def _is_not_finite(text: str) -> bool:
    try:
        return not math.isfinite(float(text))
    except ValueError:
        return False


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
