"""Records: what was run, from what, how, and what came out. One JSON object a line.

A record's `run` is a hash of all that decides the result: whoever asks for the same again
finds the record. The numbers of each test example (`units`), from which intervals and
paired tests are made, lie beside: `<records>.units/<run>.json`.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.evaluation.examples import Splits
from compact_biomed.files import alone_with_records, atomic_file, require_writable, sha256_file, sha256_json
from compact_biomed.record_lines import missing_parts, record_lines

VERSION = 1  # of the form of a record
# Files of a checkpoint whose settings change what it computes, and the entries in them that don't.
_SETTINGS = ("config.json", "tokenizer_config.json", "special_tokens_map.json")
_OF_NO_EFFECT = {"_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}
SCORES, SEARCH = "scores", "search"  # what a record holds: of test, or of dev while choosing


def run_key(science: dict[str, Any]) -> str:
    """The name of a run: 16 hex digits."""
    return sha256_json(science)[:16]


def examples_sha256(splits: Splits) -> dict[str, str]:
    """For each split the checksum of its examples as read, the same for a file and its gzipped form."""
    return {name: sha256_json([vars(e) for e in getattr(splits, name)]) for name in ("train", "dev", "test")}


def model_sha256(folder: Path) -> dict[str, str]:
    """Checksums of a checkpoint's weights, tokenizer and settings: all that decides what it computes."""
    weights = sorted(folder.glob("*.safetensors"))
    sums = [sha256_file(file) for file in weights]
    tokenizer = next((folder / name for name in ("tokenizer.json", "vocab.txt") if (folder / name).is_file()), None)
    if tokenizer is None:
        raise UserError("no tokenizer in this folder", where=folder, remedy="tokenizer.json (or vocab.txt) is needed")
    return {
        "weights_sha256": sums[0] if len(sums) == 1 else sha256_json(sums),
        "tokenizer_sha256": sha256_file(tokenizer),
        "config_sha256": sha256_json([_settings(folder / name) for name in _SETTINGS]),
    }


def _settings(path: Path) -> dict[str, Any]:
    """What a settings file decides, without where and by which version it was written."""
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if not isinstance(content, dict):
            raise ValueError("no JSON object")
    except ValueError as error:
        raise UserError(
            f"not the settings of a checkpoint: {error}", where=path, remedy="copy the file again"
        ) from error
    return {name: value for name, value in content.items() if name not in _OF_NO_EFFECT}


class Records:
    """A file of records.

    Args:
        path: need not exist yet.

    Raises:
        UserError: a line that is no record.
    """

    def __init__(self, path: Path | str):
        self.path, self._read = Path(path), None
        self._runs: dict[tuple[str, str], dict[str, Any]] = {}
        self.refresh()

    def refresh(self) -> None:
        """Read what another process may have written meanwhile."""
        size = self.path.stat().st_size if self.path.exists() else 0
        if size != self._read:
            self._runs = {(record["record"], record["run"]): record for record in read(self.path)}
            self._read = size

    def require_writable(self) -> None:
        """Find out before the work whether it can be recorded.

        Raises:
            OSError: it can't.
        """
        require_writable(self.path.parent)
        if self.path.exists():
            self.path.open("a").close()

    def find(self, what: str, run: str) -> dict[str, Any] | None:
        """The record of a run, or None."""
        return self._runs.get((what, run))

    def scores(self) -> list[dict[str, Any]]:
        """The records of test scores, in the order of the file."""
        return [record for (what, _), record in self._runs.items() if what == SCORES]

    def require(self, record: dict[str, Any], *needed: str) -> None:
        """Find out whether a record of this file has what its reader needs.

        Args:
            needed: names, with dots for those within others.

        Raises:
            UserError: one is missing.
        """
        if missing := missing_parts(record, needed):
            raise UserError(
                f"the record of run {record['run']} is damaged: no {', '.join(missing)}", where=self.path,
                remedy="remove its line; the run is then done again",
            )  # fmt: skip

    def add(self, record: dict[str, Any], units: Sequence[dict[str, float]] | None = None) -> dict[str, Any]:
        """Write a record; its units first, so that no record is without them.

        If another process has recorded this run meanwhile, its record stays, and is returned.

        Args:
            record: with `record` (`SCORES` or `SEARCH`) and `run`.
            units: of `Scores`; written as {"columns": [...], "rows": [[...], ...]}.
        """
        with alone_with_records(self.path) as append:
            self.refresh()
            if known := self.find(record["record"], record["run"]):
                return known
            record = {"record": record["record"], "version": VERSION, **record}
            if units is not None:
                place = self.units_path(record["run"])
                columns = list(units[0]) if units else []
                rows = [[row[column] for column in columns] for row in units]
                with atomic_file(place) as temporary:
                    temporary.write_text(json.dumps({"columns": columns, "rows": rows}, separators=(",", ":")))
                record["units"] = f"{place.parent.name}/{place.name}"
            append(record)
        self._runs[record["record"], record["run"]] = record
        return record

    def units_path(self, run: str) -> Path:
        """Where a run's units lie."""
        return self.path.with_name(f"{self.path.name}.units") / f"{run}.json"


def read(path: Path | str) -> Iterator[dict[str, Any]]:
    """The records of a file, one after the other, but for a torn last one; none if it does not exist.

    Raises:
        UserError: a line that is no record, by its number.
    """
    path = Path(path)
    if not path.exists():
        return
    for number, line in record_lines(path):
        try:
            record = json.loads(line)
            if not _is_record(record):
                raise ValueError
        except ValueError as error:
            raise UserError(
                "this line is no record of an evaluation",
                where=f"{path}:{number}",
                remedy="remove the line, or name another file with --records",
            ) from error
        yield record


def _is_record(line: Any) -> bool:
    """Whether it is one of this version, with a name; who reads more of it looks further."""
    return (
        isinstance(line, dict)
        and isinstance(line.get("record"), str)
        and isinstance(line.get("run"), str)
        and line.get("version") == VERSION
    )
