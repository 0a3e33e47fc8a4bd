"""Tell the format of a file of one's own by its name and content, and find the files of a folder."""

from itertools import islice
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.readers.columns import KNOWN, SPLIT_NAMES
from compact_biomed.benchmarks.readers.rows import TABLES
from compact_biomed.benchmarks.standoff.brat import ENDINGS
from compact_biomed.benchmarks.standoff.detect import ALL as ENTITY_FORMATS
from compact_biomed.benchmarks.standoff.detect import PAGE, WORD_FORMATS, are_columns, detect, json_form
from compact_biomed.benchmarks.standoff.objects import read_objects
from compact_biomed.benchmarks.standoff.spans import span_lists
from compact_biomed.console import listed
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError, no_file

FORMATS = (*TABLES, "squad", *ENTITY_FORMATS, "hub")
# Format -> the kinds of task that it may be for; a table may be for any.
KINDS_OF = (
    {"squad": ("qa",)}
    | dict.fromkeys(ENTITY_FORMATS, ("ner", "relation"))  # documents, with relations
    | dict.fromkeys(WORD_FORMATS, ("ner",))
)
_BY_ENDING = {".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_COLUMNS_OF_WORDS = (".conll", ".bio", ".iob", ".iob2", ".conllu")
_SPREADSHEETS = (".xlsx", ".xls", ".ods", ".numbers")
_LOOK_AT = 400  # lines


def ending(place: str | Path) -> str:
    """Return the ending of a file's name in lower case, without .gz."""
    suffixes = [suffix.lower() for suffix in Path(place).suffixes]
    return next((suffix for suffix in reversed(suffixes) if suffix != ".gz"), "")


def detect_format(place: str | Path) -> str:
    """Return the format of a file, a folder of BRAT or a hub data set, one of `FORMATS`.

    Raises:
        UserError: no such file, or none of the formats.
    """
    if str(place).startswith("hub:"):
        return "hub"
    path = Path(place)
    if not path.exists():
        raise no_file(path, "check the path")
    suffix = ending(path)
    if path.is_dir() or suffix in _COLUMNS_OF_WORDS:
        return "conll" if path.is_file() else _of_entities(path)
    if suffix in _BY_ENDING:
        return _BY_ENDING[suffix]
    if suffix in _SPREADSHEETS:
        raise UserError("a spreadsheet", where=path, remedy=f"save it as CSV in UTF-8; see {PAGE}")
    lines = [line for _, line in islice(read_lines(path), _LOOK_AT) if line.strip()]
    if lines and lines[0].lstrip()[:1] in ("{", "["):
        return _of_json(path)
    if are_columns(path):
        return "conll"
    if lines and "\t" in lines[0] and any(cell.strip().lower() in KNOWN for cell in lines[0].split("\t")):
        return "tsv"
    try:
        return _of_entities(path)
    except UserError:
        # If some lines have no tab, the reader of tables names the first of them.
        if lines and "\t" in lines[0] and sum("\t" in line for line in lines) * 2 > len(lines):
            return "tsv"
        raise


def _of_entities(path: Path) -> str:
    try:
        return detect(path)
    except UserError as error:
        what = f"in none of the formats {', '.join(FORMATS)}"
        raise UserError(what, where=path, remedy=f"see {PAGE}, or name the format by --format") from error


def _of_json(path: Path) -> str:
    """Tell tables and SQuAD from the JSON of annotated text: by the first object that has any label or span."""
    objects = list(islice(read_objects(path), _LOOK_AT))
    where, first = next((each for each in objects if not _is_empty(each[1])), objects[0] if objects else (None, None))
    if isinstance(first, dict) and isinstance(data := first.get("data"), list) and data:
        return "squad" if any(isinstance(each, dict) and "paragraphs" in each for each in data) else "json"
    if isinstance(first, dict) and first.keys() == {"version", "data"} and not isinstance(data, dict | str):
        return "squad"  # whose reader says what is wrong with the data
    if isinstance(first, dict) and not _is_annotated(first):
        return "jsonl" if str(where).startswith(f"{path}:") else "json"
    return _of_entities(path)


def _is_empty(row: Any) -> bool:
    """Return whether an object has empty lists alone where labels or spans would be: it may be of either kind."""
    lists = span_lists(row) if isinstance(row, dict) else []
    return bool(lists) and not any(lists)


def _is_annotated(row: dict[str, Any]) -> bool:
    """Return whether an object is in a format of entities, or resembles one: text that is annotated, not labeled."""
    holds_spans = any(isinstance(each, dict | list) for values in span_lists(row) for each in values)
    return holds_spans or json_form(row) not in (None, "doccano") or "spans" in row or "annotations" in row


def is_brat(folder: Path) -> bool:
    """Return whether a folder itself holds documents of BRAT, not folders of train, dev and test."""
    return any(path.suffix in ENDINGS for path in folder.iterdir())


def splits_in(folder: Path, needed: str = "train") -> dict[str, Path]:
    """Return the files (or folders) of train, dev and test in a folder; a split without one is left out.

    Raises:
        UserError: several for one split, or none for the one that is needed.
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
    if needed not in found:
        file_names = listed((path.name for path in entries), most=5) or "it is empty"
        what = f"no file {needed} in this folder ({file_names})"
        raise UserError(what, where=folder, remedy=f"name it by --{needed}; see {PAGE}")
    return found


def _stem(path: Path) -> str:
    return path.name.lower().split(".")[0]
