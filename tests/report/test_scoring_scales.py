"""Words beside word-pieces: the same runs, paired."""

from pathlib import Path

import pytest
from score_records import record, write

from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.render import markdown
from compact_biomed.report.statistics import paired_difference
from compact_biomed.report.trainings import scales_table


def table(folder: Path, *records: dict) -> str:
    return markdown(scales_table(score_lines(read_lines([write(folder / "r.jsonl", *records)]))))


def both(model: str, seed: int, words: float, pieces: float) -> dict:
    return record(model, seed=seed, metrics={"f1": words, "piece_f1": pieces})


def test_pairs_and_order(tmp_path: Path) -> None:
    scores = {("a", 1): (80, 82), ("a", 2): (81, 84), ("b", 1): (70, 75), ("b", 2): (71, 74), ("c", 1): (60, 90)}
    text = table(tmp_path, *(both(*key, *pair) for key, pair in scores.items()), record("d", "GAD"))
    d = paired_difference([82, 84], [80, 81])
    row = f"| NCBI-disease | a | 80.50 ± 0.71 (2) | 83.00 ± 1.41 (2) | +2.50 ({d.low:+.2f} to {d.high:+.2f}) |"
    assert row in text
    assert "| NCBI-disease | c | 60.00 (1) | 90.00 (1) | n/a |" in text
    assert "Kendall's tau -0.33 over 3 models" in text  # c last on words, first on pieces: one pair of three agrees
    assert "GAD" not in text


def test_no_entity_set(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no record of an entity set"):
        table(tmp_path, record("a"))
