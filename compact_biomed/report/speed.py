"""Tables of speed, from the records of `compact-biomed bench`, and the speeds of models for the page."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from compact_biomed.errors import UserError
from compact_biomed.records import Line
from compact_biomed.report.table import UNKNOWN, Cell, Row, Table, TableColumn, number, words

_INFERENCE = "bench-inference"
_REFERENCE = "torch-fp32"
VARIANT = "onnx-int8"
"""The variant whose speed is shown for a model: the one in which a small model is used."""


def step_table(lines: Iterable[Line]) -> Table:
    """Return one row per recipe and preset, from its last record of a training step.

    Raises:
        UserError: no such record.
    """
    titles = {"published": "published", "ours": "ours", "ratio": "ratio", "memory": "peak memory"}
    titles |= {"loss": "loss differs by (fp32 / bf16)"}
    name = TableColumn("recipe", "compact-biomed bench step --recipe", code=True, left=True)
    heads = (name, *(TableColumn(key, title) for key, title in titles.items()))
    rows = []
    for (recipe, preset), line in last_steps(lines).items():
        record = line.record
        name = Cell(recipe, code=True, detail="" if preset == "paper" else preset)
        rates = [number(record[key], ",.0f", "tokens/s") for key in ("tokens_per_s_published", "tokens_per_s")]
        memory = number(record["peak_memory_ratio"], unit="of the published")
        loss = " / ".join(_power_of_ten(record[key]) for key in ("loss_difference_fp32", "loss_difference"))
        rows.append(Row((name, *rates, number(record["ratio"]), memory, words(loss))))
    return Table("bench", heads, tuple(rows))


def last_steps(lines: Iterable[Line]) -> dict[tuple[str, str], Line]:
    """Return the last record of a training step for each recipe and preset, sorted.

    Raises:
        UserError: no such record.
    """
    steps = [line for line in lines if line.record.get("kind") == "bench-step"]
    last = {(line.record["recipe"], line.record["preset"]): line for line in steps}
    if not last:
        raise UserError("no record of bench step", where="--records", remedy="compact-biomed bench step --records FILE")
    return dict(sorted(last.items()))


def _power_of_ten(value: float) -> str:
    """Round to one digit: 1.93e-05 -> 2e-5."""
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"


def inference_table(records: Iterable[Mapping[str, Any]], *, most_cores: bool = False) -> Table:
    """Return one row per model, variant, number of cores and length; of several records the last counts.

    The last column is the throughput over that of the first model in float32 PyTorch on as many cores.

    Args:
        most_cores: leave out what was measured on fewer cores than the most.

    Raises:
        UserError: no record of inference.
    """
    timed = [record for record in records if record.get("kind") == _INFERENCE]
    last = {(r["model"], r["length"], r["threads"], r["variant"]): r for r in timed}
    if not last:
        raise UserError(
            "no record of bench inference", where="--records", remedy="compact-biomed bench inference --records FILE"
        )
    first, cores = next(iter(last))[0], max(record["threads"] for record in last.values())
    rows = [
        _inference_row(record, last.get((first, record["length"], record["threads"], _REFERENCE)))
        for record in last.values()
        if not most_cores or record["threads"] == cores
    ]
    titles = {"cores": "cores", "tokens": "tokens", "parameters": "parameters", "flops": "GFLOPs", "disk": "on disk"}
    titles |= {"memory": "peak memory", "latency": "latency, median (p95)", "throughput": "throughput (batch)"}
    titles |= {"ratio": "of the first"}
    names = (TableColumn("model", "model", left=True), TableColumn("variant", "variant", left=True))
    heads = (*names, *(TableColumn(key, title) for key, title in titles.items()))
    return Table("inference", heads, tuple(rows))


def _inference_row(record: Mapping[str, Any], reference: Mapping[str, Any] | None) -> Row:
    ratio = number(record["tokens_per_s"] / reference["tokens_per_s"], ".1f", "x") if reference else words(UNKNOWN)
    return Row(
        (
            words(record["model"]),
            words(record["variant"]),
            number(record["threads"], "d"),
            number(record["length"], "d"),
            number(record["parameters"], ".1f", "M", scale=1e-6),
            number(record["flops"], ".2f", scale=1e-9),
            number(record["disk_bytes"], ".1f", "MB", scale=1e-6),
            number(record["peak_memory_mb"], ",.0f", "MB"),
            number(record["latency_ms"], ".1f", "ms", f" ({record['latency_ms_p95']:.1f})"),
            number(record["tokens_per_s"], ",.0f", "tokens/s", f" ({record['best_batch']})"),
            ratio,
        )
    )


class Speed(NamedTuple):
    """The speed of a model as `VARIANT`, on the most cores that were measured."""

    tokens_per_s: float
    disk_bytes: int
    cores: int
    length: int


def speeds_of(records: Iterable[Mapping[str, Any]]) -> dict[str, Speed]:
    """Return the speed of each model by name; of several records the last of those on the most cores counts."""
    speeds: dict[str, Speed] = {}
    for record in records:
        if record.get("kind") == _INFERENCE and record["variant"] == VARIANT:
            speed = Speed(record["tokens_per_s"], record["disk_bytes"], record["threads"], record["length"])
            before = speeds.get(record["model"])
            if before is None or speed.cores >= before.cores:
                speeds[record["model"]] = speed
    return speeds
