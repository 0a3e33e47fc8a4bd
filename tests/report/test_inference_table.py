"""The table of sizes and speeds of models that answer."""

import json
from pathlib import Path

import pytest

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.report.render import markdown
from compact_biomed.report.speed import inference_table

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "speed.md"
RECORD = {
    "kind": "bench-inference",
    "model": "tiny",
    "variant": "onnx-int8",
    "threads": 2,
    "length": 128,
    "parameters": 14_350_248,
    "flops": 1.234e9,
    "disk_bytes": 15_600_000,
    "peak_memory_mb": 130.4,
    "latency_ms": 4.21,
    "latency_ms_p95": 5.0,
    "tokens_per_s": 30_401.2,
    "best_batch": 4,
}
LARGE = {**RECORD, "model": "large", "variant": "torch-fp32", "tokens_per_s": 1000.0}


def test_the_last_record_of_a_variant_is_shown_beside_the_first_model() -> None:
    records = [LARGE, {**RECORD, "latency_ms": 99.0}, RECORD, {**RECORD, "threads": 1}, {"kind": "other"}]
    _, _, large, first, second = markdown(inference_table(records)).splitlines()
    cells = "tiny | onnx-int8 | 2 | 128 | 14.4 M | 1.23 | 15.6 MB | 130 MB | 4.2 ms (5.0) | 30,401 tokens/s (4)"
    assert large.endswith("| 1.0 x |") and first == f"| {cells} | 30.4 x |"
    assert second == first.replace("| 2 |", "| 1 |").replace("30.4 x", "n/a")
    assert markdown(inference_table(records, most_cores=True)).splitlines()[2:] == [large, first]
    with pytest.raises(UserError, match="no record of bench inference"):
        inference_table([{"kind": "other"}])


def test_it_goes_to_its_own_place_in_a_document(tmp_path: Path) -> None:
    document, records = tmp_path / "a.md", tmp_path / "r.jsonl"
    document.write_text("<!-- table:bench -->\n<!-- end -->\n<!-- table:inference -->\nold\n<!-- end -->\n")
    records.write_text(json.dumps(LARGE) + "\n")
    assert main(["tables", "inference", "--records", str(records), "--into", str(document)]) == 0
    assert document.read_text().startswith("<!-- table:bench -->\n<!-- end -->\n<!-- table:inference -->\n| model |")
    assert "old" not in document.read_text()


def test_the_documentation_shows_the_records(tmp_path: Path) -> None:
    copy = tmp_path / "speed.md"
    copy.write_bytes(PAGE.read_bytes())
    asked = ["tables", "inference", "--records", str(ROOT / "results/speed/inference.jsonl"), "--into", str(copy)]
    assert main(asked) == 0
    assert copy.read_text() == PAGE.read_text(), "make it again: compact-biomed tables inference --into"
