"""What a picture of size or speed against score shows, one panel a column; drawn by `figures` and by the page."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compact_biomed.report.measured import Column
from compact_biomed.report.resampling import Interval
from compact_biomed.report.speeds import Speed
from compact_biomed.report.tables import Table

MARKS = 6
"""Shapes and colors that a picture has."""


@dataclass(frozen=True)
class Axis:
    """What scores are held against, on a logarithmic scale.

    Args:
        label: with the unit.
        unit: what 1 at a tick stands for.
    """

    label: str
    unit: float


SIZE = Axis("parameters of the encoder (millions)", 1e6)
SPEED = Axis("tokens a second (thousands)", 1e3)


@dataclass(frozen=True)
class Point:
    """A model in a panel.

    Args:
        at: its place on the panel's axis.
        mean: score over seeds, in percent.
        seeds: the score of each.
        interval: 95 % over test examples, None where the records keep no units.
        mark: number of shape and color, the same for all models of an architecture.
        area: of its sign, over that of the largest.
    """

    model: str
    at: float
    mean: float
    seeds: tuple[float, ...]
    interval: Interval | None
    mark: int
    area: float | None = None

    @property
    def low(self) -> float:
        return min(*self.seeds, self.mean, *([self.interval.low] if self.interval else []))

    @property
    def high(self) -> float:
        return max(*self.seeds, self.mean, *([self.interval.high] if self.interval else []))


@dataclass(frozen=True)
class Panel:
    """The models of a column whose place on the axis is recorded."""

    column: Column
    points: tuple[Point, ...]
    axis: Axis = SIZE

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest score to be shown, with some room."""
        low, high = min(point.low for point in self.points), max(point.high for point in self.points)
        room = max(0.08 * (high - low), 0.5)
        return low - room, high + room


def panels(table: Table, *, speeds: Mapping[str, Speed] | None = None) -> list[Panel]:
    """One panel a column in which some model's place is recorded.

    Args:
        speeds: of models: scores are held against these, signs are as large as the files; None: against size.
    """
    marks = {name: number % MARKS for number, name in enumerate(architectures(table))}
    largest = max((of.disk_bytes for name, of in (speeds or {}).items() if name in table.models), default=1)
    found = []
    for column in table.columns:
        points = []
        for model in table.models:
            cell = table.cells.get((model, column))
            about = cell.lines[0].record["model"] if cell else {}
            speed = speeds.get(model) if speeds else None
            at = table.encoder_parameters.get(model) if speeds is None else speed and speed.tokens_per_s
            if cell and at:
                area = speed.disk_bytes / largest if speed else None
                scores = tuple(cell.by_seed.values())
                mark = marks[_architecture(about)]
                points.append(Point(model, at, cell.summary.mean, scores, cell.interval, mark, area))
        if points:
            found.append(Panel(column, tuple(points), SIZE if speeds is None else SPEED))
    return found


def architectures(table: Table) -> list[str]:
    """All that the records name, sorted; the order of shapes and colors."""
    lines = (line for cell in table.cells.values() for line in cell.lines)
    return sorted({_architecture(line.record["model"]) for line in lines})


def axis_bounds(shown: Sequence[Panel]) -> tuple[float, float]:
    """The ends of the axis of all panels, with some room on a logarithmic scale."""
    sizes = [point.at for panel in shown for point in panel.points]
    return min(sizes) / 2.1, max(sizes) * 1.4


def side_by_side(panel: Panel, ends: tuple[float, float], gap: float = 0.024) -> list[float]:
    """Where each point of a panel stands on its logarithmic axis, from 0 to 1.

    Points that would cover each other are moved apart, to `gap`, about their middle.
    """
    few, many = map(math.log, ends)
    exact = [(math.log(point.at) - few) / (many - few) for point in panel.points]
    groups: list[list[int]] = []

    def middle(group: list[int]) -> float:
        return sum(exact[number] for number in group) / len(group)

    for number in sorted(range(len(exact)), key=exact.__getitem__):
        groups.append([number])
        while len(groups) > 1:
            last, before = groups[-1], groups[-2]
            if middle(last) - middle(before) >= gap * (len(last) + len(before)) / 2:
                break
            groups[-2:] = [before + last]
    apart = {
        number: middle(group) + gap * (place - (len(group) - 1) / 2)
        for group in groups
        for place, number in enumerate(group)
    }
    return [apart[number] for number in range(len(exact))]


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round numbers (1, 2 or 5 times a power of ten apart) between two bounds, at most `most`."""
    step = 1e-9
    for power in range(-6, 9):
        for each in (1, 2, 5):
            step = each * 10.0**power
            first, last = -(-low // step), high // step
            if last - first < most:
                return [round(n * step, 9) for n in range(int(first), int(last) + 1)]
    return []


def log_ticks(low: float, high: float) -> list[float]:
    """Numbers 1, 2 and 5 times a power of ten between two bounds."""
    steps = [each * 10.0**power for power in range(0, 13) for each in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


def _architecture(about: dict) -> str:
    return about.get("architecture", "")
