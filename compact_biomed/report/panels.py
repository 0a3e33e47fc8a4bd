"""What a figure of size or speed against score shows: its points, axes and ticks.

Controls are faded and have no names, so that the family can be read. `figures` draws panels by matplotlib, the page as
SVG.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from compact_biomed.errors import UsageError, UserError
from compact_biomed.report.family import is_control
from compact_biomed.report.grid import ScoreGrid
from compact_biomed.report.measured import Column
from compact_biomed.report.resampling import Interval
from compact_biomed.report.speed import Speed

MARKS = 6
"""Number of shapes and colors of markers."""


@dataclass(frozen=True)
class Axis:
    """The horizontal axis of a figure, on a logarithmic scale.

    Args:
        label: with the unit.
        unit: value of a tick labeled 1.
    """

    label: str
    unit: float


SIZE = Axis("parameters of the encoder (millions)", 1e6)
SPEED = Axis("tokens per second (thousands)", 1e3)


@dataclass(frozen=True)
class Point:
    """A model in a panel.

    Args:
        at: value on the panel's axis.
        mean: score over seeds, in percent.
        seeds: score of each seed.
        interval: 95 % over test examples; None where the records keep no counts of examples.
        mark: number of shape and color, the same for all models of an architecture.
        area: of its marker, as a share of the largest.
        faded: whether it is a control beside the models of interest: drawn pale, without bar, seeds and name.
    """

    model: str
    at: float
    mean: float
    seeds: tuple[float, ...]
    interval: Interval | None
    mark: int
    area: float | None = None
    faded: bool = False

    @property
    def low(self) -> float:
        return min(*self.seeds, self.mean, *([self.interval.low] if self.interval else []))

    @property
    def high(self) -> float:
        return max(*self.seeds, self.mean, *([self.interval.high] if self.interval else []))


@dataclass(frozen=True)
class Panel:
    """The models of a column whose value on the axis is recorded."""

    column: Column
    points: tuple[Point, ...]
    axis: Axis = SIZE

    @property
    def named(self) -> tuple[Point, ...]:
        """The points with names."""
        return tuple(point for point in self.points if not point.faded)

    @property
    def bounds(self) -> tuple[float, float]:
        """Lowest and highest score to show, with some room."""
        low, high = min(point.low for point in self.points), max(point.high for point in self.points)
        room = max(0.08 * (high - low), 0.5)
        return low - room, high + room


def panels(grid: ScoreGrid, *, speeds: Mapping[str, Speed] | None = None) -> list[Panel]:
    """Return one panel per column in which the value of some model is recorded.

    Args:
        speeds: model -> speed, for panels against speed with markers as large as the files; None = against size.
    """
    marks = {name: number % MARKS for number, name in enumerate(architectures(grid))}
    largest = max((of.disk_bytes for name, of in (speeds or {}).items() if name in grid.models), default=1)
    controls = [model for model in grid.models if is_control(model)]
    faded = controls if len(controls) < len(grid.models) else []
    shown = []
    for column in grid.columns:
        points = []
        for model in grid.models:
            cell = grid.cells.get((model, column))
            about = cell.lines[0].record["model"] if cell else {}
            speed = speeds.get(model) if speeds else None
            at = grid.encoder_parameters.get(model) if speeds is None else speed and speed.tokens_per_s
            if cell and at:
                area = speed.disk_bytes / largest if speed else None
                scores = tuple(cell.by_seed.values())
                mark = marks[_architecture(about)]
                points.append(Point(model, at, cell.summary.mean, scores, cell.interval, mark, area, model in faded))
        if points:
            shown.append(Panel(column, tuple(points), SIZE if speeds is None else SPEED))
    return shown


def architectures(grid: ScoreGrid) -> list[str]:
    """Return the architectures that the records name, sorted as shapes and colors are."""
    lines = (line for cell in grid.cells.values() for line in cell.lines)
    return sorted({_architecture(line.record["model"]) for line in lines})


def axis_bounds(shown: Sequence[Panel]) -> tuple[float, float]:
    """Return the ends of an axis that all panels share, with some room on a logarithmic scale."""
    sizes = [point.at for panel in shown for point in panel.points]
    return min(sizes) / 2.1, max(sizes) * 1.4


def side_by_side(panel: Panel, ends: tuple[float, float], gap: float = 0.024) -> list[float]:
    """Return the position of each point of a panel on its logarithmic axis, from 0 to 1.

    Points that would cover each other are moved `gap` apart, around their middle.
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
    """Return at most `most` round numbers between two bounds, 1, 2 or 5 times a power of ten apart."""
    step = 1e-9
    for power in range(-6, 9):
        for each in (1, 2, 5):
            step = each * 10.0**power
            first, last = -(-low // step), high // step
            if last - first < most:
                return [round(n * step, 9) for n in range(int(first), int(last) + 1)]
    return []


def log_ticks(low: float, high: float) -> list[float]:
    """Return the numbers 1, 2 and 5 times a power of ten between two bounds."""
    steps = [each * 10.0**power for power in range(0, 13) for each in (1, 2, 5)]
    return [step for step in steps if low <= step <= high]


def _architecture(about: dict) -> str:
    return about.get("architecture", "")


def chosen_panels(grid: ScoreGrid, tasks: Sequence[str] | None) -> list[Panel]:
    """Return the panels of some tasks (None: of all).

    Raises:
        UserError: an unknown task, or no record with the size of its model.
    """
    known = sorted({column.task for column in grid.columns})
    for task in tasks or ():
        if task not in known:
            raise UsageError(f"no task {task!r} in the records", where="--tasks", remedy=f"one of {', '.join(known)}")
    shown = [panel for panel in panels(grid) if not tasks or panel.column.task in tasks]
    if not shown:
        remedy = "evaluate again, which records it: compact-biomed evaluate --model M --records OTHER"
        raise UserError("no record has the size of its model (encoder_parameters)", where="--records", remedy=remedy)
    return shown
