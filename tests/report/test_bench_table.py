"""The table of speed, and that docs/speed.md holds the one that the records give."""

from pathlib import Path

import pytest

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, read_lines
from compact_biomed.report.render import markdown
from compact_biomed.report.speed import step_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "speed.md"
STEP = {
    "kind": "bench-step",
    "recipe": "one",
    "preset": "paper",
    "ratio": 4.942,
    "tokens_per_s": 1320.1,
    "tokens_per_s_published": 252.2,
    "peak_memory_ratio": 0.157,
    "loss_difference": 1.93e-05,
    "loss_difference_fp32": 4.85e-08,
}


def test_the_last_record_of_a_recipe_is_shown() -> None:
    records = [{**STEP, "ratio": 1.0}, STEP, {**STEP, "recipe": "a", "preset": "mini"}, {"kind": "other"}]
    rows = markdown(step_table(Line(Path("r"), n, each) for n, each in enumerate(records))).splitlines()[2:]
    assert rows[0].startswith("| `a` (mini) |")
    assert rows[1] == "| `one` | 252 tokens/s | 1,320 tokens/s | 4.94 | 0.16 of the published | 5e-8 / 2e-5 |"
    with pytest.raises(UserError, match="no record of bench step"):
        step_table([])


def test_the_ratio_to_tuned_transformers_comes_first_once_it_is_measured() -> None:
    tuned = {**STEP, "recipe": "two", "ratio_to_tuned": 3.456, "tokens_per_s_tuned": 382.0}
    lines = [Line(Path("r"), n, each) for n, each in enumerate([STEP, tuned])]
    table = markdown(step_table(lines)).splitlines()
    heads = "published | tuned transformers | ours | ratio to tuned | ratio to published | peak memory"
    assert heads in table[0]
    assert "| 252 tokens/s | not measured | 1,320 tokens/s | not measured | 4.94 |" in table[2]
    assert "| 252 tokens/s | 382 tokens/s | 1,320 tokens/s | 3.46 | 4.94 |" in table[3]


def test_the_documentation_shows_the_records(tmp_path: Path) -> None:
    copy = tmp_path / "speed.md"
    copy.write_bytes(PAGE.read_bytes())
    assert main(["tables", "bench", "--records", str(ROOT / "results/speed/step.jsonl"), "--into", str(copy)]) == 0
    assert copy.read_text() == PAGE.read_text(), "make it again: compact-biomed tables bench --into"


def test_records_are_read_with_their_lines() -> None:
    lines = read_lines([ROOT / "results/speed/step.jsonl"])
    assert [line.number for line in lines] == list(range(1, len(lines) + 1))
