"""The objects of a JSON Lines file, or of a JSON file that is one list, each with its place."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError
from compact_biomed.settings import parse_json

REMEDY = "write one JSON object per line"


def read_objects(path: Path) -> Iterator[tuple[str, Any]]:
    """Yield (file and line, or the place in a list, value) of each object of a file.

    Raises:
        UserError: not JSON, with its place.
    """
    if _is_one_value(path):
        content = parse_json("\n".join(line for _, line in read_lines(path)), where=path, remedy="correct the file")
        for number, value in enumerate(content if isinstance(content, list) else [content]):
            yield f"{path}[{number}]" if isinstance(content, list) else str(path), value
        return
    for number, line in read_lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield where, parse_json(line, where=where, remedy=REMEDY)


def _is_one_value(path: Path) -> bool:
    """Return whether the first line is no JSON value by itself, or is a list of objects, and so begins or is all."""
    first = next((line for _, line in read_lines(path) if line.strip()), "")
    try:
        value = parse_json(first, where=path, remedy=REMEDY)
    except UserError:
        return first.lstrip()[:1] in ("[", "{") and not first.rstrip().endswith("}")
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)
