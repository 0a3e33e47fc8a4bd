"""TOML and JSON files that are checked against a schema, with errors that name file, line and key.

A schema is a `TypedDict`: its fields are the keys that a table may have, `Required` ones must be there, and their types
say what values are accepted: str, int, float, bool, Any, `X | None`, list[...], dict[str, ...] (a table with free keys)
and further `TypedDict`s (a table with known keys). `Annotated[float, Range(0, 1)]` also says how large. People write
TOML, so unknown keys are refused there. Programs write JSON, and may add keys.
"""

import difflib
import json
import math
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, NoReturn, Required, Union, get_args, get_origin, get_type_hints, is_typeddict

from compact_biomed.errors import UserError, shown

_NAMES = {str: "string", int: "whole number", float: "number", bool: "true or false", dict: "table", NoneType: "null"}
_LARGEST, _LARGEST_FLOAT = 2**63, 2**1023  # larger whole numbers fit neither arrays nor floating-point numbers
_DEEPEST = 100  # nested lists and objects; nothing that is read has a dozen
_STRING_OR_COMMENT = re.compile(r"""(?P<string>"(?:\\.|[^"\\\n])*"|'[^'\n]*')|#[^\n]*""")


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both included."""

    low: float
    high: float = math.inf

    def __str__(self) -> str:
        return f"of at least {self.low:g}" if math.isinf(self.high) else f"from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class SettingsFile:
    """A settings file that fits its schema.

    Attributes:
        content: the values, by key.
        text: of the file, for the numbers of lines.
    """

    path: Path
    content: dict[str, Any]
    text: str

    def where(self, *keys: str | int) -> str:
        """Return file, line and key, for an error message. A key that is not in the file has the line of its table."""
        name = ".".join(key for key in keys if isinstance(key, str))
        return f"{self.path}:{_line_of(self.text, keys)}" + (f": {name}" if name else "")


def read_settings(path: Path | str, schema: type) -> SettingsFile:
    """Read a TOML file and check it against a schema.

    Args:
        schema: a `TypedDict`, see above.

    Raises:
        UserError: the file is missing or not TOML, a key is unknown or missing, or a value is of another type.
    """
    path = Path(path)
    text = _text_of(path, "check the path")
    try:
        file = SettingsFile(path, tomllib.loads(text), text)
    except (ValueError, RecursionError) as error:
        line = re.search(r"\(at line (\d+), ", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise UserError(f"not TOML: {_reason(error)}", where=where, remedy="correct the file") from error
    _Check(file.where, remedy="correct the value", strict=True).table(file.content, schema, ())
    return file


def read_json(path: Path | str, schema: Any = Any, *, remedy: str) -> Any:
    """Read a JSON file and check it against a schema.

    Args:
        schema: see above; keys that it lacks are ignored.
        remedy: of an error of any kind.

    Raises:
        UserError: the file is missing, or `parse_json` refuses its content.
    """
    path = Path(path)
    return parse_json(_text_of(path, remedy), schema, where=path, remedy=remedy)


def parse_json(text: str, schema: Any = Any, *, where: object, remedy: str) -> Any:
    """Parse a JSON text and check the value against a schema.

    Args:
        where: of the text, for errors; line and column are added to a path.

    Raises:
        UserError: not JSON, a number that is not finite, text with half a surrogate pair, more than a hundred levels,
            a required key that is missing, or a value of another type.
    """
    try:
        value = json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        place = f"{where}:{error.lineno}:{error.colno}" if isinstance(where, Path) and text.strip() else where
        why = f"not JSON: {error.msg}" if text.strip() else "empty"
        raise UserError(why, where=place, remedy=remedy) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"not JSON: {_reason(error)}", where=where, remedy=remedy) from error
    if text.count("[") + text.count("{") > _DEEPEST and _depth_exceeds(value, _DEEPEST):
        raise UserError(f"nested more than {_DEEPEST} levels deep", where=where, remedy=remedy)
    if _HALF_PAIR.search(text) and not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise UserError("text with half a surrogate pair", where=where, remedy=remedy)
    check(value, schema, where=where, remedy=remedy)
    return value


def check(value: Any, schema: Any, *, where: object, remedy: str) -> None:
    """Check a JSON value against a schema.

    Raises:
        UserError: a required key is missing, or a value has another type or is out of its range.
    """
    _Check(lambda *keys: f"{where}: {_dotted(keys)}" if keys else str(where), remedy=remedy).value(value, schema, ())


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8: JSON and names of files may hold halves of surrogate pairs."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")


def _text_of(path: Path, remedy: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")  # some editors begin a file with a byte order mark
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, remedy=remedy) from error
    except UnicodeDecodeError as error:
        raise UserError(f"not UTF-8 at byte {error.start}", where=path, remedy=remedy) from error


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deep"
    return "a number of thousands of digits" if "integer string conversion" in str(error) else str(error)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def _finite(text: str) -> float:
    if math.isinf(number := float(text)):
        raise ValueError(f"{text[:20]} is too large")
    return number


def _depth_exceeds(value: Any, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        level = [
            child
            for each in level
            if isinstance(each, list | dict)
            for child in (each.values() if isinstance(each, dict) else each)
        ]
    return bool(level)


def _dotted(keys: Sequence[str | int]) -> str:
    return ".".join(map(str, keys))


@dataclass(frozen=True)
class _Check:
    """Checks a value against a schema.

    Args:
        where: keys -> place, for errors.
        remedy: of a value of another type.
        strict: whether keys that the schema lacks are refused.
    """

    where: Callable[..., str]
    remedy: str
    strict: bool = False

    def value(self, value: Any, kind: Any, keys: tuple[str | int, ...]) -> None:
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Required:
            self.value(value, arguments[0], keys)
        elif origin in (Union, UnionType):
            fitting = [each for each in arguments if _fits(value, each)]
            if not fitting:
                self._refuse(value, kind, keys)
            self.value(value, fitting[0], keys)
        elif is_typeddict(kind) and isinstance(value, dict):
            self.table(value, kind, keys)
        elif origin is list and isinstance(value, list) and all(_fits(each, *arguments) for each in value):
            for index, each in enumerate(value):
                self.value(each, *arguments, (*keys, index))
        elif origin is dict and isinstance(value, dict):
            for key, each in value.items():
                self.value(each, arguments[1], (*keys, key))
        elif origin is list or not _fits(value, kind):
            self._refuse(value, kind, keys)

    def table(self, table: dict[str, Any], schema: type, keys: tuple[str | int, ...]) -> None:
        types = _types_of(schema)
        for key in table if self.strict else ():
            if key not in types:
                close = difflib.get_close_matches(key, types, 1)
                remedy = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(sorted(types))}"
                raise UserError("unknown key", where=self.where(*keys, key), remedy=remedy)
        for key in sorted(schema.__required_keys__ - table.keys()):
            remedy = f"add {key}, {_described(types[key])}" if self.strict else self.remedy
            raise UserError(f"no {key}", where=self.where(*keys), remedy=remedy)
        for key, kind in types.items():
            if key in table:
                self.value(table[key], kind, (*keys, key))

    def _refuse(self, value: Any, kind: Any, keys: tuple[str | int, ...]) -> NoReturn:
        raise UserError(f"must be {_described(kind)}, not {shown(value)}", where=self.where(*keys), remedy=self.remedy)


@cache
def _types_of(schema: type) -> dict[str, Any]:
    return get_type_hints(schema, include_extras=True)


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value has a type, whatever is within it."""
    if kind is Any:
        return True
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    if get_origin(kind) is Annotated:
        base, limits = get_args(kind)
        return _fits(value, base) and limits.low <= value <= limits.high
    if type(value) is int and abs(value) >= (_LARGEST if kind is int else _LARGEST_FLOAT):
        return False
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (dict if is_typeddict(kind) else get_origin(kind) or kind)


def _described(kind: Any) -> str:
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_described(each) for each in get_args(kind))
    if get_origin(kind) is Required:
        return _described(*get_args(kind))
    if get_origin(kind) is Annotated:
        base, limits = get_args(kind)
        return f"{_described(base)} {limits}"
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return f"a list of {_NAMES.get(item, 'table')}s"
    name = _NAMES.get(kind, "table")
    return name if kind in (bool, NoneType) else f"a {name}"


def _line_of(text: str, keys: Sequence[str | int]) -> int:
    """Return the line of a key, from 1; if the file has no such key, the line of its table.

    The parser keeps no positions, so the keys are searched one after the other: each as the name of a table or to the
    left of an equals sign, an index as the beginning of an inline table.
    """
    text = _STRING_OR_COMMENT.sub(lambda match: match["string"] or " " * len(match[0]), text)
    position = 0
    for key in keys:
        if isinstance(key, int):
            for _ in range(key + 1):
                position = max(position, text.find("{", position) + 1)
        elif match := re.compile(rf"(?<![\w-])[\"']?{re.escape(key)}[\"']?(?=\s*[=.\]])").search(text, position):
            position = match.end()
    return text.count("\n", 0, position) + 1
