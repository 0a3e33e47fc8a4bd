"""Records of `compact-biomed bench` -> the table of speed."""

from collections.abc import Iterable

from compact_biomed.errors import UserError
from compact_biomed.report.records import Line
from compact_biomed.report.render import markdown_rows

_HEAD = (
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
    return markdown_rows(_HEAD, rows)


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
