"""Figures of scores against size, drawn by matplotlib as files."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from compact_biomed.report.grid import ScoreGrid
from compact_biomed.report.label_positions import Box, place_labels
from compact_biomed.report.panels import (
    Panel,
    Point,
    architectures,
    axis_bounds,
    chosen_panels,
    log_ticks,
    side_by_side,
    ticks,
)
from compact_biomed.report.table import one_line

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
