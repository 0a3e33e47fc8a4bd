"""How fast the models of a table are, from the records of `compact-biomed bench inference`."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

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
