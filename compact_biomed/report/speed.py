"""Tables of speed, from the records of `compact-biomed bench`, and the speeds of models for the page."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.table import MISSING, UNKNOWN, Cell, Row, Table, TableColumn, number, words

_INFERENCE = "bench-inference"
_REFERENCE = "torch-fp32"
VARIANT = "onnx-int8"
"""The variant whose speed is shown for a model: the one in which a small model is used."""


def step_table(lines: Iterable[Line]) -> Table:
    """Return one row per recipe and preset, from its last record of a training step.

    Columns of tuned transformers appear once a record has them; older records compare with the published step alone.

    Raises:
        UserError: no such record.
    """
    steps = last_steps(lines)
    tuned = any("ratio_to_tuned" in line.record for line in steps.values())
    titles = {"published": "published", "tuned": "tuned transformers", "ours": "ours", "to_tuned": "ratio to tuned"}
    titles |= {"ratio": "ratio to published", "memory": "peak memory", "loss": "loss differs by (fp32 / bf16)"}
    if not tuned:
        titles = {key: titles[key] for key in titles if "tuned" not in key} | {"ratio": "ratio"}
    name = TableColumn("recipe", "compact-biomed bench step --recipe", code=True, left=True)
    heads = (name, *(TableColumn(key, title) for key, title in titles.items()))
    rows = []
    for (recipe, preset), line in steps.items():
        record = line.record
        cells = {
            "published": number(record["tokens_per_s_published"], ",.0f", "tokens/s"),
            "ours": number(record["tokens_per_s"], ",.0f", "tokens/s"),
            "ratio": number(record["ratio"]),
            "memory": number(record["peak_memory_ratio"], unit="of the published"),
            "loss": words(" / ".join(_power_of_ten(record[f"loss_difference{end}"]) for end in ("_fp32", ""))),
            "tuned": words(MISSING),
            "to_tuned": words(MISSING),
        }
        if {"ratio_to_tuned", "tokens_per_s_tuned"} <= record.keys():
            cells["tuned"] = number(record["tokens_per_s_tuned"], ",.0f", "tokens/s")
            cells["to_tuned"] = number(record["ratio_to_tuned"])
        name = Cell(recipe, code=True, detail="" if preset == "paper" else preset)
        rows.append(Row((name, *(cells[key] for key in titles))))
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


def profile_table(record: Mapping[str, Any]) -> Table:
    """Return what the time of a step goes into, one row per kind of work and one column per implementation.

    Args:
        record: of `bench profile`.
    """
    titles = {"ours": "ours", "tuned": "tuned transformers"}
    profiles = record["profiles"]
    heads = (TableColumn("kind", "kind of work", left=True), *(TableColumn(side, titles[side]) for side in profiles))

    def row(title: str, cell: Callable[[Mapping[str, Any]], Cell]) -> Row:
        return Row((words(title), *map(cell, profiles.values())))

    def of_kind(kind: str) -> Row:
        def cell(profile: Mapping[str, Any]) -> Cell:
            seconds, share = profile["seconds"][kind], profile["shares"][kind]
            return number(seconds * 1000, ",.1f", "ms", f" ({share:.0%})")

        return row(kind, cell)

    ceiling = record["matmul_ceiling_gflops"]

    def rate(profile: Mapping[str, Any]) -> Cell:
        products = profile["product_gflops"]
        return number(products, ",.0f", "GFLOP/s", f" ({products / ceiling:.0%} of the ceiling)")

    rows = [
        *map(of_kind, next(iter(profiles.values()))["seconds"]),
        row("a step", lambda profile: number(profile["wall_seconds"] * 1000, ",.1f", "ms")),
        row("a step without the profiler", lambda p: number(p["wall_seconds_unprofiled"] * 1000, ",.1f", "ms")),
        row("products while they run", rate),
    ]
    return Table("profile", heads, tuple(rows))


def gpu_table(records: Iterable[Mapping[str, Any]]) -> Table:
    """Return one row per recipe and mode; of several records the last counts.

    Args:
        records: of `bench gpu`.

    Raises:
        UserError: no such record.
    """
    last = {(r["recipe"], r["mode"], r["device"]): r for r in records if r.get("kind") == "bench-gpu"}
    if not last:
        raise UserError("no record of bench gpu", where="--records", remedy="compact-biomed bench gpu --records FILE")
    titles = {"speed": "speed", "mfu": "of the peak rate", "memory": "peak memory", "hours": "the preset paper takes"}
    titles |= {"check": "differs from the CPU: loss, gradient"}
    names = (TableColumn("recipe", "recipe", code=True, left=True), TableColumn("mode", "mode", left=True))
    heads = (*names, *(TableColumn(key, title) for key, title in titles.items()))
    return Table("gpu", heads, tuple(map(_gpu_row, last.values())))


def _gpu_row(record: Mapping[str, Any]) -> Row:
    def cell(key: str, scale: float, form: str, unit: str) -> Cell:
        return words(UNKNOWN) if record[key] is None else number(scale * record[key], form, unit)

    checks = "; ".join(
        f"{_power_of_ten(check['loss_difference'])}, {_power_of_ten(check['gradient_difference'])} in {precision}"
        + ("" if check["passed"] else " (TOO FAR)")
        for precision, check in record["checks"].items()
    )
    speed = cell("tokens_per_s", 1, ",.0f", "tokens/s")
    if record["error"]:
        speed = words(f"failed: {record['error']}")
    rest = (
        cell("mfu", 100, ".1f", "%"),
        cell("peak_memory_mb", 1e-3, ",.1f", "GB"),
        cell("paper_hours", 1, ",.1f", "h"),
        words(checks),
    )
    return Row((Cell(record["recipe"], code=True), words(record["mode"]), speed, *rest))


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
