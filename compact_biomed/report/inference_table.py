"""Records of `compact-biomed bench inference` -> the table of sizes and speeds."""

from collections.abc import Iterable, Mapping
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.report.render import markdown_rows

BASE = "torch-fp32"
_HEAD = (
    "model", "variant", "cores", "tokens", "parameters", "GFLOPs", "on disk", "peak memory",
    "latency, median (p95)", "throughput (batch)", "of the first",
)  # fmt: skip


def inference_rows(records: Iterable[Mapping[str, Any]]) -> str:
    """One row a model, variant, number of cores and length; of several records the last.

    Its last column is the throughput over that of the first model in float32 PyTorch on as many cores, at that length.

    Raises:
        UserError: no record of inference.
    """
    last = {(r["model"], r["length"], r["threads"], r["variant"]): r for r in records if _is_inference(r)}
    if not last:
        raise UserError(
            "no record of bench inference", where="--records", remedy="compact-biomed bench inference --records FILE"
        )
    first = next(iter(last))[0]
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
            _ratio(r, last.get((first, r["length"], r["threads"], BASE))),
        ]
        for r in last.values()
    ]
    return markdown_rows(_HEAD, rows)


def _is_inference(record: Mapping[str, Any]) -> bool:
    return record.get("kind") == "bench-inference"


def _ratio(record: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    return f"{record['tokens_per_s'] / base['tokens_per_s']:.1f} x" if base else "n/a"
