"""Tell the format of a file of one's own by its name and content, and find the files of a folder."""

import json
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from compact_biomed.benchmarks.readers.columns import KNOWN, PAGE
from compact_biomed.benchmarks.readers.files import read_json
from compact_biomed.benchmarks.readers.rows import TABLES
from compact_biomed.benchmarks.tags import is_tag
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError, no_file

FORMATS = (*TABLES, "squad", "conll", "hub")
SPLIT_NAMES = {
    "train": ("train", "training"),
    "dev": ("dev", "devel", "valid", "validation", "val", "development"),
    "test": ("test", "testing"),
}
_BY_ENDING = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_COLUMNS_OF_WORDS = (".conll", ".bio", ".iob", ".iob2", ".conllu")
_LOOK_AT = 400  # lines


def ending(place: str | Path) -> str:
    """Return the ending of a file's name in lower case, without .gz."""
    suffixes = [suffix.lower() for suffix in Path(place).suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")


def detect_format(place: str | Path) -> str:
    """Return the format of a file or a hub data set, one of `FORMATS`.

    Raises:
        UserError: no such file, or none of the formats.
    """
    if str(place).startswith("hub:"):
        return "hub"
    path = Path(place)
    if not path.exists():
        raise no_file(path, "check the path")
    if path.is_dir():
        raise unknown_format(path)
    suffix = ending(path)
    if suffix in _COLUMNS_OF_WORDS:
        return "conll"
    if suffix == ".json":
        return _of_json(path)
    if suffix in _BY_ENDING:
        return _BY_ENDING[suffix]
    return _of_text(path)


def _of_json(path: Path) -> str:
    try:
        content = read_json(path, "")
    except UserError:
        return "jsonl"  # one object per line is no JSON value; a broken file is reported when it is read
    if isinstance(content, dict) and isinstance(data := content.get("data"), list):
        return "squad" if data and isinstance(data[0], dict) and "paragraphs" in data[0] else "json"
    if isinstance(content, list):
        return "json"
    if isinstance(content, dict) and content:
        return "jsonl"
    raise unknown_format(path)


def _of_text(path: Path) -> str:
    lines = [line for _, line in islice(read_lines(path), _LOOK_AT)]
    filled = [line for line in lines if line.strip()]
    if filled and filled[0].lstrip().startswith("{"):
        return "jsonl" if _is_object(filled[0]) else "json"
    if filled and any(cell.strip().lower() in KNOWN for cell in filled[0].split("\t")) and "\t" in filled[0]:
        return "tsv"
    words = [line.replace("\t", " ").split() for line in filled if not line.startswith("-DOCSTART-")]
    if words and all(len(cells) > 1 and is_tag(cells[-1]) for cells in words):
        return "conll"
    if filled and all("\t" in line for line in filled):
        return "tsv"
    raise unknown_format(path)


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def unknown_format(path: Path) -> UserError:
    """Return the error about a file or folder in none of the formats."""
    listed = f"CSV, TSV, JSON lines, Parquet, SQuAD, columns of words and tags ({', '.join(FORMATS)})"
    return UserError(f"in none of the formats: {listed}", where=path, remedy=f"see {PAGE}, or name one by --format")


def splits_in(folder: Path) -> dict[str, Path]:
    """Return the files (or folders) of train, dev and test in a folder; a split without one is left out.

    Raises:
        UserError: several for one split, or none for train.
    """
    found: dict[str, Path] = {}
    entries = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    for split, names in SPLIT_NAMES.items():
        fitting = [path for path in entries if _stem(path) in names] or [
            path for path in entries if any(_stem(path).startswith(f"{name}{mark}") for name in names for mark in "-_.")
        ]
        if len(fitting) > 1:
            what = f"{fitting[0].name} and {fitting[1].name} could both be {split}"
            raise UserError(what, where=folder, remedy=f"name one by --{split}, or remove the other")
        if fitting:
            found[split] = fitting[0]
    if "train" not in found:
        listed = _listed([path.name for path in entries])
        raise UserError(
            f"no file train in this folder ({listed})", where=folder, remedy=f"name it by --train; see {PAGE}"
        )
    return found


def _stem(path: Path) -> str:
    return path.name.lower().split(".")[0]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "") if names else "it is empty"
