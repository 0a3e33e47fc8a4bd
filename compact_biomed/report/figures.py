"""Figures of size or speed against score: what they show, and files drawn by matplotlib.

Controls are faded and have no names, so that the family can be read. The page draws the same panels as SVG.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from compact_biomed.errors import UserError
from compact_biomed.report.family import is_control
from compact_biomed.report.grid import ScoreGrid
from compact_biomed.report.label_positions import Box, place_labels
from compact_biomed.report.measured import Column
from compact_biomed.report.resampling import Interval
from compact_biomed.report.speed import Speed
from compact_biomed.report.table import one_line

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


# ---- Files


FORMATS = ("svg", "png", "pdf")
# Okabe and Ito's colors, which color-blind readers can distinguish, each with its own shape.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#8A6D00", "#444444")
_SHAPES = ("o", "s", "^", "D", "v", "P")
_GRAY = "#666666"
_TEXT = 8.5  # points


def size_figure(
    grid: ScoreGrid, path: Path, *, tasks: Sequence[str] | None = None, form: str = "svg", across: int = 3
) -> None:
    """Draw every column's scores against the encoder's parameters; the same records give the same bytes.

    Bars are 95 % intervals over test examples, small points the single seeds. Pale markers are controls.

    Args:
        path: file to write.
        tasks: names; None = all.
        form: one of `FORMATS`.
        across: panels side by side, at most.

    Raises:
        UserError: an unknown task, or no record with the size of its model.
    """
    shown = chosen_panels(grid, tasks)

    across = min(across, len(shown))
    down = math.ceil(len(shown) / across)
    # Identifiers in SVG and dates in its header would differ from run to run.
    dates = {"svg": {"Date": None, "Creator": "compact-biomed"}, "pdf": {"CreationDate": None}, "png": {}}
    style = {"svg.hashsalt": "compact-biomed", "svg.fonttype": "none", "font.size": _TEXT}
    with matplotlib.rc_context(style | {"text.parse_math": False}):  # a dollar sign in a name begins no formula
        figure = Figure(figsize=(4.2 * across, 3.1 * down + 0.3), layout="constrained", dpi=200)
        all_axes = figure.subplots(down, across, squeeze=False).ravel()
        for axes in all_axes[len(shown) :]:
            axes.remove()
        for axes, panel in zip(all_axes, shown, strict=False):
            _draw(axes, panel, axis_bounds(shown))
        _legend(figure, architectures(grid), shown)
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # names are placed for the axes as they are now
        for axes, panel in zip(all_axes, shown, strict=False):
            _name_points(axes, panel, _across(panel, axis_bounds(shown)))
        figure.savefig(path, format=form, metadata=dates[form])


def chosen_panels(grid: ScoreGrid, tasks: Sequence[str] | None) -> list[Panel]:
    """Return the panels of some tasks (None: of all).

    Raises:
        UserError: see `size_figure`.
    """
    known = sorted({column.task for column in grid.columns})
    for task in tasks or ():
        if task not in known:
            raise UserError(f"no task {task!r} in the records", where="--tasks", remedy=f"one of {', '.join(known)}")
    shown = [panel for panel in panels(grid) if not tasks or panel.column.task in tasks]
    if not shown:
        remedy = "evaluate again, which records it: compact-biomed evaluate --model M --records OTHER"
        raise UserError("no record has the size of its model (encoder_parameters)", where="--records", remedy=remedy)
    return shown


def _draw(axes: Any, panel: Panel, sizes: tuple[float, float]) -> None:
    for point, millions in zip(panel.points, _across(panel, sizes), strict=True):
        color = COLORS[point.mark]
        if point.faded:
            axes.plot(millions, point.mean, _SHAPES[point.mark], color=color, markersize=4.5, alpha=0.3, linestyle="")
            continue
        if point.interval:
            axes.vlines(millions, point.interval.low, point.interval.high, color=color, linewidth=1.4, alpha=0.55)
        axes.plot([millions] * len(point.seeds), point.seeds, ".", color=color, markersize=2.5, alpha=0.8)
        axes.plot(millions, point.mean, _SHAPES[point.mark], color=color, markersize=6, markeredgecolor="white")
    axes.set_xscale("log")
    low, high = (size / 1e6 for size in sizes)
    axes.set_xlim(low, high)
    axes.set_xticks(log_ticks(low, high), [f"{tick:g}" for tick in log_ticks(low, high)])
    axes.set_xticks([], minor=True)
    axes.set_ylim(*panel.bounds)
    axes.set_yticks(ticks(*panel.bounds))
    axes.set_title(one_line(panel.column.title), loc="left", fontsize=_TEXT + 1.5, fontweight="bold")
    axes.set_xlabel(panel.axis.label)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(_GRAY)


def _legend(figure: Any, names: Sequence[str], shown: Sequence[Panel]) -> None:
    """Draw the legend of the shapes, if there are several architectures."""
    if len(names) < 2:
        return

    used = {point.mark for panel in shown for point in panel.points}
    handles = [
        Line2D([], [], linestyle="", marker=_SHAPES[mark], color=COLORS[mark], label=one_line(name) or "not recorded")
        for mark, name in enumerate(names[: len(_SHAPES)])
        if mark in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)


def _across(panel: Panel, sizes: tuple[float, float]) -> list[float]:
    """Return the horizontal positions of points, in millions of parameters."""
    few, many = sizes
    return [few * (many / few) ** share / 1e6 for share in side_by_side(panel, sizes)]


def _name_points(axes: Any, panel: Panel, across: Sequence[float]) -> None:
    """Write each model's name where it covers no point, bar or other name."""
    per_point = axes.figure.dpi / 72
    height = axes.figure.bbox.height

    def place(millions: float, score: float) -> tuple[float, float]:
        x, y = axes.transData.transform((millions, score))
        return x / per_point, (height - y) / per_point  # points, downwards

    def bar(point: Point, millions: float) -> Box:
        (x, low), (_, high) = place(millions, point.low), place(millions, point.high)
        return Box(x - 0.8, high, x + 0.8, low)

    box = axes.bbox
    sides = [side / per_point for side in (box.x0, height - box.y1, box.x1, height - box.y0)]
    named = [(point, millions) for point, millions in zip(panel.points, across, strict=True) if not point.faded]
    centers = [place(millions, point.mean) for point, millions in zip(panel.points, across, strict=True)]
    marks = [Box(x - 3.5, y - 3.5, x + 3.5, y + 3.5) for x, y in centers]
    points = [place(millions, point.mean) for point, millions in named]
    widths = [0.56 * (_TEXT - 0.5) * len(point.model) for point, _ in named]
    bars = [bar(point, millions) for point, millions in named]
    boxes = place_labels(points, widths, height=_TEXT + 2, within=Box(*sides), obstacles=[*marks, *bars])
    for (point, millions), at, label in zip(named, points, boxes, strict=True):
        _name(axes, point, millions, at, label)


def _name(axes: Any, point: Point, millions: float, at: tuple[float, float], label: Box) -> None:
    """Write a name into its box, with a line to its point if the two are apart."""
    x, y = at
    middle = (label.top + label.bottom) / 2
    side, edge = label.anchor(x)
    leader = {"arrowstyle": "-", "color": _GRAY, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 3}
    axes.annotate(
        one_line(point.model),
        (millions, point.mean),
        xytext=(edge - x, y - middle),
        textcoords="offset points",
        ha=side,
        va="center",
        fontsize=_TEXT - 0.5,
        color=COLORS[point.mark],
        arrowprops=leader if abs(middle - y) > _TEXT else None,
    )
