"""The tables in results/ are those that its records give."""

import shutil
from pathlib import Path

import pytest

from compact_biomed.reproduce.steps import Places
from compact_biomed.reproduce.tables import write_tables

RESULTS = Path(__file__).parents[2] / "results"
MADE = ("pretraining.md", "scores.md", "scores.csv", "scores.tex", "claims.md")


@pytest.mark.skipif(not (RESULTS / "evaluation.jsonl").is_file(), reason="no records of the reproduction yet")
def test_made_again_they_are_the_same(tmp_path: Path) -> None:
    for name in ("pretraining.jsonl", "evaluation.jsonl"):
        if (RESULTS / name).is_file():
            shutil.copy(RESULTS / name, tmp_path / name)
    shutil.copytree(RESULTS / "evaluation.jsonl.units", tmp_path / "evaluation.jsonl.units")
    write_tables(Places(Path("recipes"), Path("runs"), tmp_path))
    there = {name: (RESULTS / name).read_text() for name in MADE if (RESULTS / name).is_file()}
    assert there == {name: (tmp_path / name).read_text() for name in MADE if (tmp_path / name).is_file()}
