"""Records of `compact-biomed bench` -> the table of speed."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from compact_biomed.errors import UserError
from compact_biomed.records import Line
from compact_biomed.report.render import markdown_rows

_STEP_HEAD = (
    "`compact-biomed bench step --recipe`",
    "published",
    "ours",
    "ratio",
    "peak memory",
    "loss differs by (fp32 / bf16)",
)


def bench_table(lines: Iterable[Line]) -> str:
    """The table of training steps: one row a recipe and preset, its last record.

    Raises:
        UserError: no such record.
    """
    rows = [
        [
            f"`{recipe}`" + ("" if preset == "paper" else f" ({preset})"),
            f"{record['tokens_per_s_published']:,.0f} tokens/s",
            f"{record['tokens_per_s']:,.0f} tokens/s",
            f"{record['ratio']:.2f}",
            f"{record['peak_memory_ratio']:.2f} of the published",
            f"{power(record['loss_difference_fp32'])} / {power(record['loss_difference'])}",
        ]
        for (recipe, preset), line in last_steps(lines).items()
        for record in [line.record]
    ]
    return markdown_rows(_STEP_HEAD, rows)


def last_steps(lines: Iterable[Line]) -> dict[tuple[str, str], Line]:
    """(recipe, preset) -> its last record of a training step, sorted.

    Raises:
        UserError: no such record.
    """
    steps = [line for line in lines if line.record.get("kind") == "bench-step"]
    last = {(line.record["recipe"], line.record["preset"]): line for line in steps}
    if not last:
        raise UserError("no record of bench step", where="--records", remedy="compact-biomed bench step --records FILE")
    return dict(sorted(last.items()))


def power(value: float) -> str:
    """1.93e-05 -> 2e-5"""
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


# ----------------------------------------------------------------------------------------------------
# Records of `compact-biomed bench inference` -> the table of sizes and speeds.


BASE = "torch-fp32"
_INFERENCE_HEAD = (
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
    return markdown_rows(_INFERENCE_HEAD, rows)


def _is_inference(record: Mapping[str, Any]) -> bool:
    return record.get("kind") == "bench-inference"


def _ratio(record: Mapping[str, Any], base: Mapping[str, Any] | None) -> str:
    return f"{record['tokens_per_s'] / base['tokens_per_s']:.1f} x" if base else "n/a"


# ----------------------------------------------------------------------------------------------------
# How fast the models of a table are, from the records of `compact-biomed bench inference`.


VARIANT = "onnx-int8"  # as a small model is used


class Speed(NamedTuple):
    """Of a model as `VARIANT`, on the most cores that were measured."""

    tokens_per_s: float
    disk_bytes: int
    cores: int
    length: int


def speeds_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Speed]:
    """The speed of each model by its name; of several records the last of those on the most cores."""
    found: dict[str, Speed] = {}
    for record in records:
        if record.get("kind") == "bench-inference" and record["variant"] == VARIANT:
            speed = Speed(record["tokens_per_s"], record["disk_bytes"], record["threads"], record["length"])
            before = found.get(record["model"])
            if before is None or speed.cores >= before.cores:
                found[record["model"]] = speed
    return found
