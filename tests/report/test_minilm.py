"""The kept records of fine-tuning: the table beside them is theirs, and they carry nobody's text."""

import json
from pathlib import Path
from typing import Any

import pytest

from compact_biomed.cli import main
from compact_biomed.records.lines import read_lines, score_lines

FOLDER = Path(__file__).parents[2] / "results" / "benchmarks"
RECORDS = FOLDER / "minilm.jsonl"


def test_the_table_is_made_from_the_records(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tables", "--records", str(RECORDS)]) == 0
    shown = (FOLDER / "minilm.md").read_text(encoding="utf-8")
    assert capsys.readouterr().out == shown, "make it again: tables --records minilm.jsonl"


def test_the_page_is_made_from_the_records(tmp_path: Path) -> None:
    assert main(["tables", "page", "--records", str(RECORDS), "--output", str(tmp_path)]) == 0
    assert (tmp_path / "page.html").read_bytes() == (FOLDER / "page.html").read_bytes(), "make it again: tables page"


def test_each_record_says_where_it_comes_from() -> None:
    scores = score_lines(read_lines([RECORDS]))
    assert scores
    for line in scores:
        origin = line.record["from"]
        assert origin["clean"] is True and len(origin["revision"]) == 40, line.where
        assert "evaluate --model registry:all-minilm-l6-v2" in origin["command"]


def test_no_text_of_a_data_set_and_no_path_of_a_machine() -> None:
    for record in map(json.loads, RECORDS.read_text(encoding="utf-8").splitlines()):
        for text in strings_of(record):
            assert not text.startswith(("/", "~")) and " /" not in text, text
            assert len(text) < 300, text
        if record["record"] == "scores":
            assert record["per_example_counts"] == "minilm.jsonl.counts"
    for counts in map(json.loads, (FOLDER / "minilm.jsonl.counts").read_text(encoding="utf-8").splitlines()):
        assert all(name.replace("_", "").isalpha() for name in counts["columns"])
        assert all(type(value) in (int, float) for row in counts["rows"] for value in row)


def strings_of(value: Any) -> list[str]:
    """Every string in a JSON value."""
    if isinstance(value, dict):
        return [text for each in value.values() for text in strings_of(each)]
    if isinstance(value, list):
        return [text for each in value for text in strings_of(each)]
    return [value] if isinstance(value, str) else []
