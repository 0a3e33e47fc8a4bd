"""Detect the format of a file or folder of entities by its content."""

import re
from itertools import islice
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.standoff.brat import ENDINGS
from compact_biomed.benchmarks.standoff.objects import read_objects
from compact_biomed.benchmarks.standoff.pubtator import TEXT_LINE
from compact_biomed.benchmarks.standoff.spans import span_lists
from compact_biomed.benchmarks.standoff.tokens import keys_of
from compact_biomed.benchmarks.tags import is_tag
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError, no_file

PAGE = "docs/own-data.md"
DOCUMENT_FORMATS = ("brat", "pubtator", "bioc", "bioc-json", "doccano", "prodigy", "label-studio")
WORD_FORMATS = ("conll", "tokens")  # sentences of words with tags
ALL = (*DOCUMENT_FORMATS, *WORD_FORMATS)
_LOOK_AT = 200  # lines
_RESEMBLES_TAG = re.compile(r"[Oo0]|[BIESLUbieslu](?:[-_]\S+)?")
_OF_PREDICT = {"document", "start", "end", "label", "text"}


def detect(path: Path | str) -> str:
    """Return the format of a file or folder, one of `ALL`, where it leaves no doubt.

    Raises:
        UserError: there is no such file, or it is none of them. The message names the formats and docs/own-data.md.
    """
    path = Path(path)
    if path.is_dir():
        if any(file.suffix in ENDINGS for file in path.rglob("*")):
            return "brat"
        raise _unknown(path, "a folder without .ann files")
    if not path.exists():
        raise no_file(path, "check the path")
    first = next((line for _, line in read_lines(path) if line.strip()), "")
    begin = first.lstrip()[:1]
    if begin == "<":
        if any("<collection" in line for _, line in islice(read_lines(path), 50)):
            return "bioc"
        raise _unknown(path, "XML without <collection>")
    if begin in ("{", "[") and (form := _of_json(path)):
        return form
    if TEXT_LINE.fullmatch(first):
        return "pubtator"
    if are_columns(path):
        return "conll"
    raise _unknown(path, f"a file that begins with {first[:40]!r}")


def json_form(value: Any) -> str | None:
    """Return the format of entities that an object of a JSON file has by its keys; None if it has none of them.

    doccano's lists of spans are not told from the lists of labels that a table may have under the same keys.
    """
    if isinstance(value, list) and len(value) == 2 and isinstance(value[1], dict):
        return "doccano"
    if not isinstance(value, dict):
        return None
    if any(isinstance(value.get(key), list) for key in ("documents", "passages", "PubTator3")):
        return "bioc-json"
    if isinstance(value.get("data"), dict):
        return "label-studio"
    if keys_of(value):
        return "tokens"
    if isinstance(value.get("text"), str) and span_lists(value):
        return "prodigy" if "spans" in value else "doccano"
    return None


def _of_json(path: Path) -> str | None:
    """Return the format of the first object of a JSON or JSON Lines file; None: the file is not JSON.

    Raises:
        UserError: JSON, but no format of entities.
    """
    try:
        content = next((content for _, content in read_objects(path)), None)
    except UserError:
        return None
    form = json_form(content)
    if form or not isinstance(content, dict):
        return form
    if content.keys() >= _OF_PREDICT:
        remedy = "predict again with --format bioc, pubtator or brat, which keep texts and entities together"
        raise UserError("predictions without their texts", where=path, remedy=remedy)
    raise _unknown(path, f"objects with the keys {', '.join(map(str, content))[:80]}")


def are_columns(path: Path) -> bool:
    """Return whether a file has words with tags, as far as its first lines say.

    Either each line ends in a tag. Or empty lines divide the file, no cell between tabs has several words, and most of
    the lines that have several columns end in a tag, or in what resembles one: the reader of columns then names the
    lines that are wrong.
    """
    lines = [line for _, line in islice(read_lines(path), _LOOK_AT) if not line.startswith(("-DOC", "# "))]
    rows = [line.split() for line in lines if line.strip()]
    if rows and all(len(row) > 1 and is_tag(row[-1]) for row in rows):
        return True
    if any(len(cell.split()) > 1 for line in lines if "\t" in line for cell in line.split("\t")):
        return False
    last = [row[-1] for row in rows if len(row) > 1]
    alike = sum(_RESEMBLES_TAG.fullmatch(cell) is not None for cell in last)
    are_most = alike * 2 > len(last) and len(last) * 2 >= len(rows) and any(map(is_tag, last))
    return are_most and "\n\n" in "\n".join(line.strip() for line in lines).strip("\n")


def _unknown(path: Path, what: str) -> UserError:
    return UserError(f"unknown format: {what}", where=path, remedy=f"the formats are {', '.join(ALL)}, see {PAGE}")
