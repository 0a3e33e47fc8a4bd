"""Settings files: TOML that is checked against a schema, with errors that name file, line and key.

A schema is a `TypedDict`: its fields are the keys that a table may have, `Required` ones must be there, and their types
say what values are accepted: str, int, float, bool, Any, list[...], dict[str, ...] (a table with free keys) and further
`TypedDict`s (a table with known keys).
"""

import difflib
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints, is_typeddict

from compact_biomed.errors import UserError

_NAMES = {str: "string", int: "whole number", float: "number", bool: "true or false"}
_STRING_OR_COMMENT = re.compile(r"""(?P<string>"(?:\\.|[^"\\\n])*"|'[^'\n]*')|#[^\n]*""")


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
    try:
        text = path.read_text(encoding="utf-8")
        file = SettingsFile(path, tomllib.loads(text), text)
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, remedy="check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"\(at line (\d+), ", str(error))
        where = f"{path}:{line[1]}" if line else path
        raise UserError(f"not TOML: {error}", where=where, remedy="correct the file") from error
    _check(file, file.content, schema, ())
    return file


def _check(file: SettingsFile, value: Any, kind: Any, keys: tuple[str | int, ...]) -> None:
    if is_typeddict(kind) and isinstance(value, dict):
        _check_table(file, value, kind, keys)
    elif get_origin(kind) is list and isinstance(value, list) and all(_fits(each, *get_args(kind)) for each in value):
        for index, each in enumerate(value):
            _check(file, each, *get_args(kind), (*keys, index))
    elif get_origin(kind) is dict and isinstance(value, dict):
        for key, each in value.items():
            _check(file, each, get_args(kind)[1], (*keys, key))
    elif get_origin(kind) is list or not _fits(value, kind):
        raise UserError(f"must be {_described(kind)}, not {value!r}", where=file.where(*keys))


def _check_table(file: SettingsFile, table: dict[str, Any], schema: type, keys: tuple[str | int, ...]) -> None:
    types = get_type_hints(schema)
    for key in table:
        if key not in types:
            close = difflib.get_close_matches(key, types, 1)
            remedy = f"did you mean {close[0]!r}?" if close else f"use one of {', '.join(sorted(types))}"
            raise UserError("unknown key", where=file.where(*keys, key), remedy=remedy)
    for key in sorted(schema.__required_keys__ - table.keys()):
        raise UserError(f"no {key}", where=file.where(*keys), remedy=f"add {key}, {_described(types[key])}")
    for key, value in table.items():
        _check(file, value, types[key], (*keys, key))


def _fits(value: Any, kind: Any) -> bool:
    """Return whether a value has a type, whatever is within it."""
    if kind is Any:
        return True
    if kind is float:
        return type(value) in (int, float)
    return type(value) is (dict if is_typeddict(kind) else get_origin(kind) or kind)


def _described(kind: Any) -> str:
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return f"a list of {_NAMES.get(item, 'table')}s"
    return "true or false" if kind is bool else f"a {_NAMES.get(kind, 'table')}"


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
