"""A number of the text, and how numbers and their places are written."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from compact_biomed.report.records import Line


@dataclass(frozen=True)
class Number:
    """A number of the text.

    Args:
        name: `\\val{NAME}` in the manuscript.
        text: in plain characters.
        means: what it is.
        source: files with lines, or the module that has the constant.
        command: what makes these records.
    """

    name: str
    text: str
    means: str
    source: str
    command: str


def places(lines: Iterable[Line]) -> str:
    """The files and lines of some records: results/a.jsonl:1-3,7"""
    by_file: dict[str, set[int]] = {}
    for line in lines:
        by_file.setdefault(str(line.file), set()).add(line.number)
    return "; ".join(f"{file}:{_runs(sorted(numbers))}" for file, numbers in sorted(by_file.items()))


def _runs(numbers: Sequence[int]) -> str:
    """1, 2, 3, 7 -> 1-3,7"""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def span(values: Sequence[float], form: str) -> str:
    """One number where all are written alike, else the lowest and the highest."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def listed(values: Sequence[Any], form: str = "{}") -> str:
    return ", ".join(form.format(value) for value in sorted(set(values)))


def count(value: Sequence) -> str:
    return f"{len(value)}"
