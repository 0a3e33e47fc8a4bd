"""The records behind the cells, one row a run: what the page shows beside a cell, and lists at its end."""

from collections.abc import Iterable
from typing import Any

from compact_biomed.report.page.markup import Markup, element, join
from compact_biomed.report.records import Line

_HEAD = (
    "run", "model", "task", "seed", "fold", "scores", "learning rate", "epochs", "date", "revision", "device",
    "command",
)  # fmt: skip
_UNKNOWN = "not recorded"


def records_table(lines: Iterable[Line]) -> Markup:
    """All runs, sorted by model, task, seed and fold; each row's id is `run-RUN`."""
    distinct = {line.record["run"]: line for line in lines}
    ordered = sorted(distinct.values(), key=lambda each: (each.model, each.task, each.record["seed"], each.fold or 0))
    head = element("tr", *(element("th", name, scope="col") for name in _HEAD))
    rows = [
        element(
            "tr",
            *(element("td", text, data_name=name) for name, text in zip(_HEAD, _texts(line.record), strict=True)),
            id=row_id(line),
        )
        for line in ordered
    ]
    return element("table", element("thead", head), "\n", element("tbody", "\n", join(rows, "\n")), class_="records")


def row_id(line: Line) -> str:
    return f"run-{line.record['run']}"


def _texts(record: dict[str, Any]) -> list[str]:
    settings, origin, how = (record.get(part) or {} for part in ("settings", "from", "how"))
    fold = record["task"]["fold"]
    primary = record["task"]["metric"]
    scores = {name: value for name, value in record["metrics"].items() if name in (primary, f"piece_{primary}")}
    revision = (origin.get("revision") or _UNKNOWN)[:12]
    return [
        record["run"],
        record["model"]["name"],
        record["task"]["name"],
        str(record["seed"]),
        "" if fold is None else str(fold),
        ", ".join(f"{name} {value:.2f}" for name, value in sorted(scores.items())),
        _number(settings.get("learning_rate")),
        _number(settings.get("epochs")),
        str(origin.get("date", _UNKNOWN))[:10],
        revision + (", changed since" if origin.get("clean") is False else ""),
        str(how.get("device", _UNKNOWN)),
        str(origin.get("command", _UNKNOWN)),
    ]


def _number(value: Any) -> str:
    return _UNKNOWN if value is None else f"{value:g}"
