"""Read tables as rows: CSV, TSV, JSON, JSON lines, Parquet, data sets of the hub, and what a Python program has.

A row is a dictionary, column -> value, with the place it was read from. Nothing is known here about what columns mean.
"""

import csv
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet

from compact_biomed.benchmarks.readers.files import read_json
from compact_biomed.benchmarks.tasks import InMemory
from compact_biomed.corpus import hub
from compact_biomed.corpus.streams import MAX_LINE, read_lines
from compact_biomed.errors import UserError, no_file
from compact_biomed.settings import parse_json

TABLES = ("csv", "tsv", "json", "jsonl", "parquet")
_HUB_NAME = re.compile(r"hub:(?P<name>[\w.-]+/[\w.-]+)(?:@(?P<revision>[\w./-]+))?(?::(?P<config>[\w.-]+))?")
_ENCLOSED = re.compile(r'"(?:[^"]|"")*"')
_SHORT = 40  # letters of a column's name; a longer first cell is a text


@dataclass(frozen=True)
class Rows:
    """The rows of one split.

    Args:
        columns: their names, in order; "1", "2", ... if the file has no header.
        rows: column -> value.
        where: place of each row: file and line, or number of the row.
    """

    columns: tuple[str, ...]
    rows: list[dict[str, Any]]
    where: list[str]

    def values(self, column: str) -> list[Any]:
        """Return the values of a column, None where a row lacks it."""
        return [row.get(column) for row in self.rows]


def read_rows(source: str | InMemory, split: str, form: str, known: Iterable[str] = ()) -> Rows:
    """Return the rows of a file, of one split of a hub data set, or in memory.

    Args:
        split: "train", "dev" or "test": of the hub data set.
        form: one of `TABLES`, "hub" or "memory".
        known: names of columns, in lower case; a first line with one of them is a header. Numbers are ignored, as they
            are the names of columns without a header.

    Raises:
        UserError: a damaged file, or (with its line) a row that is none.
    """
    if isinstance(source, InMemory):
        return _of_dicts(source.rows, [f"{split}, row {number}" for number in range(len(source.rows))])
    if form == "hub":
        splits = hub_splits(source)
        if split not in splits:
            raise UserError(f"no split {split} in this data set", where=source, remedy="choose another configuration")
        rows = plain_rows(splits[split])
        return _of_dicts(rows, [f"{source}, {split}, row {number}" for number in range(len(rows))])
    path = Path(source)
    if not path.is_file():
        raise no_file(path, "check the path")
    if form == "parquet":
        return _parquet(path)
    if form in ("json", "jsonl"):
        rows = list(_json_lines(path) if form == "jsonl" else _json_list(path))
        return _of_dicts([row for _, row in rows], [where for where, _ in rows])
    return _separated(path, tabs=form == "tsv", known={name for name in known if not name.isdigit()})


def _of_dicts(rows: Sequence[dict[str, Any]], where: list[str]) -> Rows:
    columns = dict.fromkeys(str(name) for row in rows for name in row)
    return Rows(tuple(columns), list(rows), where)


# ---- text files


def _separated(path: Path, *, tabs: bool, known: set[str]) -> Rows:
    table = list(_tab_separated(path) if tabs else _comma_separated(path))
    if not table:
        raise UserError("no row", where=path, remedy="write a header and one example per line")
    header = [cell.strip() for cell in table[0][1]]
    if has_names := _is_header(header, [cells for _, cells in table[1:]], known):
        table.pop(0)
    else:
        header = [str(number) for number in range(1, len(header) + 1)]
    if twin := next((name for name in header if header.count(name) > 1), None):
        raise UserError(f"two columns are called {twin!r}", where=f"{path}:1", remedy="rename one of them")
    for number, cells in table:
        if has_names and [cell.strip() for cell in cells] == header:
            raise UserError("the header again", where=f"{path}:{number}", remedy="remove this line")
        if len(cells) != len(header):
            remedy = "separate the cells by " + ("tabs" if tabs else "commas, and quote cells that contain one")
            what = f"{len(cells)} columns, expected {len(header)}: {', '.join(header)}"
            raise UserError(what, where=f"{path}:{number}", remedy=remedy)
    rows = [dict(zip(header, cells, strict=True)) for _, cells in table]
    return Rows(tuple(header), rows, [f"{path}:{number}" for number, _ in table])


def _is_header(first: Sequence[str], others: Sequence[Sequence[str]], known: set[str]) -> bool:
    """Return whether the first line names columns, and is no example."""
    if any(cell.lower() in known for cell in first):
        return True
    skipped = not first[0]  # pandas writes no name above its index
    names = first[skipped:]
    repeated = (
        {cells[column].strip() for cells in others if column < len(cells)} for column in range(skipped, len(first))
    )
    return bool(names) and all(
        0 < len(name) <= _SHORT and not _is_number(name) and name not in cells
        for name, cells in zip(names, repeated, strict=True)
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _tab_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, cells). Quotes are ordinary, unless a writer of CSV put them around a cell with quotes."""
    for number, line in read_lines(path):
        if line.strip():
            yield number, [_unquoted(cell) for cell in line.split("\t")]


def _unquoted(cell: str) -> str:
    enclosed = len(cell) > 2 and '""' in cell[1:-1] and _ENCLOSED.fullmatch(cell)
    return cell[1:-1].replace('""', '"') if enclosed else cell


def _comma_separated(path: Path) -> Iterator[tuple[int, list[str]]]:
    lines = iter(read_lines(path))
    first = next(lines, (1, ""))[1]
    delimiter = max(",;\t", key=first.count)

    def all_lines() -> Iterator[str]:
        yield first + "\n"
        yield from (line + "\n" for _, line in lines)

    csv.field_size_limit(MAX_LINE)
    reader = csv.reader(all_lines(), delimiter=delimiter, strict=True)
    number = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield number, cells
            number = reader.line_num + 1
    except csv.Error as error:
        remedy = 'quote a cell with a comma, a quote or a line break: "...", its own quotes doubled'
        raise UserError(f"not CSV: {error}", where=f"{path}:{number}", remedy=remedy) from None


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in read_lines(path):
        if line.strip():
            where = f"{path}:{number}"
            yield where, _object(parse_json(line, where=where, remedy="write one JSON object per line"), where)


def _json_list(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    content = read_json(path, "correct the file")
    rows = content.get("data") if isinstance(content, dict) else content
    if not isinstance(rows, list) or not rows:
        raise UserError("no list of examples", where=path, remedy='write [{"text": ..., "label": ...}, ...]')
    for number, row in enumerate(rows):
        yield f"{path}, example {number}", _object(row, f"{path}, example {number}")


def _object(row: Any, where: str) -> dict[str, Any]:
    if not isinstance(row, dict) or not row:
        seen = json.dumps(row)[:40]
        raise UserError(f"not an object with columns: {seen}", where=where, remedy='write {"text": ..., "label": ...}')
    return row


# ---- Parquet, the hub, Python


def _parquet(path: Path) -> Rows:
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        what = f"not Parquet: {str(error).splitlines()[0]}"
        raise UserError(what, where=path, remedy="write the file again") from None
    rows = table.to_pylist()
    features = json.loads((table.schema.metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    for column, feature in features.items():  # `datasets` writes classes as numbers, their names into the metadata
        if names := feature.get("names") or feature.get("feature", {}).get("names"):
            for row in rows:
                row[column] = _named(row.get(column), names)
    return _of_dicts(rows, [f"{path}, row {number}" for number in range(len(rows))])


def _named(value: Any, names: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_named(each, names) for each in value]
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value


@lru_cache(maxsize=4)
def hub_splits(place: str) -> dict[str, Any]:
    """Return the splits of `hub:OWNER/NAME[@REVISION][:CONFIG]` by our names, as `open_hub` does; opened once."""
    return open_hub(place)


def open_hub(place: str) -> dict[str, Any]:
    """Open `hub:OWNER/NAME[@REVISION][:CONFIG]` and return its splits by our names: train, dev, test.

    No code of the data set is run. Data sets that were published as a script can often be read at revision
    refs/convert/parquet.

    Raises:
        UserError: the name is none, or the data set cannot be opened.
    """
    match = _HUB_NAME.fullmatch(place)
    if match is None:
        raise UserError("not a hub data set", where=place, remedy="write hub:OWNER/NAME[@REVISION][:CONFIG]")
    with hub.opening(
        place, "try @refs/convert/parquet, or download the files and pass their folder as --train or --ner-dir"
    ):
        splits = datasets.load_dataset(match["name"], match["config"], revision=match["revision"])
    return named_splits(splits)


def named_splits(splits: Mapping[str, Any]) -> dict[str, Any]:
    """Return splits of the hub by our names; splits of other names are left out."""
    names = {"train": "train", "validation": "dev", "valid": "dev", "dev": "dev", "test": "test"}
    return {names[name]: rows for name, rows in splits.items() if name in names}


def plain_rows(data: Any) -> list[dict[str, Any]]:
    """Return what a Python program has as a list of dictionaries.

    Args:
        data: a `datasets.Dataset` (classes become their names), a pandas DataFrame, a dictionary of columns, a list of
            dictionaries, a list of pairs (text, label), or a pair of lists (texts, labels).

    Raises:
        UserError: none of these.
    """
    if isinstance(data, datasets.Dataset):
        rows = data.to_list()
        for column, feature in data.features.items():
            if names := getattr(feature, "names", None) or getattr(getattr(feature, "feature", None), "names", None):
                for row in rows:
                    row[column] = _named(row[column], names)
        return rows
    if hasattr(data, "to_dict") and hasattr(data, "columns"):
        if twice := [name for name, number in Counter(data.columns).items() if number > 1]:
            raise UserError(f"two columns are called {twice[0]!r}", where="DataFrame", remedy="rename or drop one")
        return [_plain(row) for row in data.to_dict("records")]
    if isinstance(data, Mapping) and all(map(_is_column, data.values())):
        return [_plain(dict(zip(data, row, strict=True))) for row in zip(*_equal(data), strict=True)]
    if isinstance(data, tuple) and len(data) == 2 and all(map(_is_column, data)):
        return plain_rows(list(zip(*_equal({"texts": data[0], "labels": data[1]}), strict=True)))
    if isinstance(data, Sequence) and not isinstance(data, str | bytes):
        if not data:
            raise UserError("no example", remedy="hand over at least one")
        if all(isinstance(row, Mapping) for row in data):
            return [_plain(row) for row in data]
        if all(isinstance(row, tuple | list) and len(row) == 2 for row in data):
            return [_plain({"text": text, "label": label}) for text, label in data]
    raise UserError(
        f"cannot read examples from a {type(data).__name__}",
        remedy="hand over a path, a DataFrame, a Dataset, a list of dictionaries, or a pair (texts, labels)",
    )


def _is_column(values: Any) -> bool:
    is_data_set = hasattr(values, "features")  # a part of a DatasetDict
    return isinstance(values, Iterable) and not is_data_set and not isinstance(values, str | bytes | Mapping)


def _equal(columns: Mapping[Any, Iterable[Any]]) -> list[list[Any]]:
    """Return the values of each column; raise a `UserError` unless all columns have the same length."""
    values = [list(column) for column in columns.values()]
    if len({len(column) for column in values}) > 1:
        counted = " and ".join(f"{len(column)} {name}" for name, column in zip(columns, values, strict=True))
        raise UserError(f"columns of different lengths: {counted}", remedy="hand over one value of each per example")
    return values


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {str(name): _plain_value(value) for name, value in row.items()}


def _plain_value(value: Any) -> Any:
    """Return numpy's numbers and arrays as Python's, and pandas' missing values as None."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float) and math.isnan(value) else value
