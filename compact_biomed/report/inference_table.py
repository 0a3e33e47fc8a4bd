"""Records of `compact-biomed bench inference` -> the table of sizes and speeds."""

from collections.abc import Iterable, Mapping
from typing import Any

from compact_biomed.report.render import markdown_rows

_HEAD = (
    "model", "variant", "cores", "tokens", "parameters", "GFLOPs", "on disk", "peak memory",
    "latency, median (p95)", "throughput (batch)",
)  # fmt: skip


def inference_rows(records: Iterable[Mapping[str, Any]]) -> str:
    """One row a model, variant, number of cores and length; of several records the last."""
    last = {(r["model"], r["length"], r["threads"], r["variant"]): r for r in records}
    rows = [
        [
            r["model"],
            r["variant"],
            str(r["threads"]),
            str(r["length"]),
            f"{r['parameters'] / 1e6:.1f} M",
            f"{r['flops'] / 1e9:.2f}",
            f"{r['disk_bytes'] / 1e6:.1f} MB",
            f"{r['peak_memory_mb']:,.0f} MB",
            f"{r['latency_ms']:.1f} ms ({r['latency_ms_p95']:.1f})",
            f"{r['tokens_per_s']:,.0f} tokens/s ({r['best_batch']})",
        ]
        for r in last.values()
    ]
    return markdown_rows(_HEAD, rows)
