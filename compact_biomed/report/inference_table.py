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


def inference_rows(records: Iterable[Mapping[str, Any]], *, most_cores: bool = False) -> str:
    """One row a model, variant, number of cores and length; of several records the last.

    Args:
        most_cores: leave out what was measured on fewer cores than others.

    Returns:
        Markdown. The last column is the throughput over that of the first model in float32 PyTorch on as many cores.

    Raises:
        UserError: no record of inference.
    """
    last = {(r["model"], r["length"], r["threads"], r["variant"]): r for r in records if _is_inference(r)}
    if not last:
        raise UserError(
            "no record of bench inference", where="--records", remedy="compact-biomed bench inference --records FILE"
        )
    first, cores = next(iter(last))[0], max(r["threads"] for r in last.values())
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
        if not most_cores or r["threads"] == cores
    ]
    return markdown_rows(_HEAD, rows)


def _is_inference(record: Mapping[str, Any]) -> bool:
    return record.get("kind") == "bench-inference"


def _ratio(record: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    return f"{record['tokens_per_s'] / base['tokens_per_s']:.1f} x" if base else "n/a"
