"""Mutations of files: name -> content, the same in every run. Each table of faults applies them to its own file."""

import json
import random
from collections.abc import Iterator
from types import NoneType
from typing import Any

DEEP = 100_000  # nested lists
DIGITS = "9" * 5_000
# What is put in the place of a value, as JSON text; the last ones are refused wherever they are.
VALUES = {
    "null": "null",
    "text": '"x"',
    "negative": "-7",
    "fraction": "0.5",
    "huge": "1e999",
    "list": "[1]",
    "table": '{"a": {}}',
    "true": "true",
}
BROKEN_VALUES = {
    "NaN": "NaN",
    "digits": DIGITS,
    "deep": "[" * DEEP + "]" * DEEP,
    "half a pair": '"\\ud83d"',
}
# Type of a value -> what is no fault in its place.
PLAUSIBLE = {str: ("text",), float: ("fraction", "negative"), bool: ("true",), NoneType: ("null",), dict: ("table",)}
_PLACE = "\u0001here\u0001"  # where a value is replaced by text that is no Python value


def of_bytes(content: bytes, *, seed: int = 0) -> dict[str, bytes]:
    """Return what may happen to any file: nothing in it, a part of it, something else in its place."""
    generator = random.Random(seed)
    cuts = sorted(generator.sample(range(1, max(len(content) - 2, 4)), 3))
    flipped = bytearray(content)
    for position in generator.sample(range(len(content)), min(8, len(content))):
        flipped[position] ^= 0x80
    return {
        "empty": b"",
        "blank": b" \n",
        **{f"cut at {cut}": content[:cut] for cut in cuts},
        "zeros": bytes(len(content)),
        "UTF-16": content.decode("utf-8", "replace").encode("utf-16"),
        "flipped bits": bytes(flipped),
    }


def of_json(content: bytes, *, seed: int = 0) -> dict[str, bytes]:
    """Return `of_bytes`, and other JSON values in place of the whole."""
    whole = {"list": b"[]", "null": b"null", "number": b"7", "text": b'"x"', "trailing": content + b"}"}
    broken = {f"whole {name}": text.encode() for name, text in BROKEN_VALUES.items()}
    return of_bytes(content, seed=seed) | {f"whole {name}": value for name, value in whole.items()} | broken


def of_values(value: Any, *, keys: tuple[str, ...] | None = None, seed: int = 0, most: int = 1000) -> dict[str, str]:
    """Return JSON texts in each of which one value is missing, or has another in its place.

    Args:
        keys: with dots; by default all within three levels.
        most: so many of them, chosen by the seed.
    """
    found = {}
    for keys_of_one in _paths(value) if keys is None else [key.split(".") for key in keys]:
        path = ".".join(keys_of_one)
        found[f"{path} missing"] = json.dumps(_changed(value, keys_of_one, None))
        there = value
        for key in keys_of_one:
            there = there[int(key) if isinstance(there, list) else key]
        for name, text in (VALUES | BROKEN_VALUES).items():
            if name in PLAUSIBLE.get(type(there), ()):
                continue
            found[f"{path} {name}"] = json.dumps(_changed(value, keys_of_one, _PLACE)).replace(json.dumps(_PLACE), text)
    names = sorted(found)
    if len(names) > most:
        names = sorted(random.Random(seed).sample(names, most))
    return {name: found[name] for name in names}


def _paths(value: Any, before: tuple[str, ...] = (), level: int = 3) -> Iterator[list[str]]:
    for key, each in value.items() if isinstance(value, dict) and level else ():
        yield [*before, key]
        yield from _paths(each, (*before, key), level - 1)


def _changed(value: Any, path: list[str], new: Any) -> Any:
    """Return a copy with one value replaced, or left out if `new` is None."""
    first, *rest = path
    key = int(first) if isinstance(value, list) else first
    copied = list(value) if isinstance(value, list) else dict(value)
    if rest:
        copied[key] = _changed(value[key], rest, new)
    elif new is None:
        del copied[key]
    else:
        copied[key] = new
    return copied
