"""The table of sizes and speeds of models that answer."""

from pathlib import Path

from compact_biomed.report.bench_table import bench_table
from compact_biomed.report.records import Line

RECORD = {
    "kind": "bench-inference", "model": "tiny", "variant": "onnx-int8", "threads": 2, "length": 128,
    "parameters": 14_350_248, "flops": 1.234e9, "disk_bytes": 15_600_000, "peak_memory_mb": 130.4,
    "latency_ms": 4.21, "latency_ms_p95": 5.0, "tokens_per_s": 30_401.2, "best_batch": 4,
}  # fmt: skip


def test_the_last_record_of_a_variant_is_shown() -> None:
    records = [{**RECORD, "latency_ms": 99.0}, RECORD, {**RECORD, "threads": 1}]
    _, _, first, second = bench_table(Line(Path("r"), n, each) for n, each in enumerate(records)).splitlines()
    cells = "tiny | onnx-int8 | 2 | 128 | 14.4 M | 1.23 | 15.6 MB | 130 MB | 4.2 ms (5.0) | 30,401 tokens/s (4)"
    assert first == f"| {cells} |" and second == first.replace("| 2 |", "| 1 |")
