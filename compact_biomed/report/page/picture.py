"""A panel of size or speed against score, laid out in pixels for the template that draws it as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compact_biomed.report.label_positions import Box, place_labels
from compact_biomed.report.panels import Panel, Point, log_ticks, side_by_side, ticks

WIDTH, HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 40
_TEXT = 11.5  # pixels, as in the style sheet
ToPixels = Callable[[float], float]


@dataclass(frozen=True)
class LineShape:
    """A straight line of the drawing; `kind` is its class in the style sheet."""

    x1: float
    y1: float
    x2: float
    y2: float
    kind: str


@dataclass(frozen=True)
class TextShape:
    """A text of the drawing; `kind` is its class in the style sheet."""

    x: float
    y: float
    text: str
    kind: str


@dataclass(frozen=True)
class PointShape:
    """A model in the drawing.

    Args:
        key: title of its cell, by which the page finds the records behind it.
        scale: of the marker, whose area is proportional to the file size; None = the usual size.
        seeds: center of a small point for each seed.
        lines: bar of the interval, and line from the marker to its name.
        name: the model's name, where it covers nothing; None of a control, which is faded.
    """

    key: str
    model: str
    mark: int
    x: float
    y: float
    scale: float | None
    seeds: tuple[tuple[float, float], ...]
    lines: tuple[LineShape, ...]
    name: TextShape | None


@dataclass(frozen=True)
class Drawing:
    """A panel laid out in pixels, y downwards.

    Args:
        title: above it.
        label: what it shows, for readers who do not see it.
        lines, texts: of the axes.
    """

    title: str
    label: str
    lines: tuple[LineShape, ...]
    texts: tuple[TextShape, ...]
    points: tuple[PointShape, ...]
    width: int = WIDTH
    height: int = HEIGHT


def drawing(panel: Panel, ends: tuple[float, float], key: Callable[[str], str]) -> Drawing:
    """Lay out a panel.

    Args:
        ends: of the axis.
        key: model -> title of its cell.
    """
    x, y = _scales(panel, ends)
    across = [_LEFT + share * (WIDTH - _LEFT - _RIGHT) for share in side_by_side(panel, ends)]
    names = _places_of_names(panel, across, y)
    # Faded points come first, below the others.
    order = sorted(range(len(across)), key=lambda number: not panel.points[number].faded)
    points = [
        _point(panel.points[number], across[number], names.get(number), y, key(panel.points[number].model))
        for number in order
    ]
    values = "; ".join(f"{p.model}: {p.at / panel.axis.unit:.1f}, {p.mean:.2f}" for p in panel.points)
    label = f"{panel.column.title} against {panel.axis.label}. {values}"
    return Drawing(panel.column.title, label, *_axes(panel, ends, x, y), tuple(points))


def _scales(panel: Panel, ends: tuple[float, float]) -> tuple[ToPixels, ToPixels]:
    """Return two functions: value on the logarithmic axis -> x, and score -> y."""
    few, many = map(math.log, ends)
    low, high = panel.bounds
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    return (
        lambda value: _LEFT + across * (math.log(value) - few) / (many - few),
        lambda score: _TOP + down * (high - score) / (high - low),
    )


def _axes(
    panel: Panel, ends: tuple[float, float], x: ToPixels, y: ToPixels
) -> tuple[tuple[LineShape, ...], tuple[TextShape, ...]]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    lines, texts = [], []
    for score in ticks(*panel.bounds):
        lines.append(LineShape(_LEFT, y(score), right, y(score), "grid"))
        texts.append(TextShape(_LEFT - 6, y(score) + 4, f"{score:g}", "right"))
    lines.append(LineShape(_LEFT, bottom, right, bottom, "axis"))
    for tick in log_ticks(*(end / panel.axis.unit for end in ends)):
        at = x(tick * panel.axis.unit)
        lines.append(LineShape(at, bottom, at, bottom + 4, "axis"))
        texts.append(TextShape(at, bottom + 16, f"{tick:g}", "center"))
    texts.append(TextShape((_LEFT + right) / 2, HEIGHT - 5, panel.axis.label, "center"))
    return tuple(lines), tuple(texts)


def _places_of_names(panel: Panel, across: Sequence[float], y: ToPixels) -> dict[int, Box]:
    """Return number of the point -> box of its name, for the points with names."""
    centers = [(at, y(point.mean)) for point, at in zip(panel.points, across, strict=True)]
    radii = [5 * (_scale(point) or 1) for point in panel.points]
    marks = [Box(at - r, middle - r, at + r, middle + r) for (at, middle), r in zip(centers, radii, strict=True)]
    named = [number for number, point in enumerate(panel.points) if not point.faded]
    points = [panel.points[number] for number in named]
    bars = [
        Box(across[n] - 1, y(point.high), across[n] + 1, y(point.low)) for n, point in zip(named, points, strict=True)
    ]
    widths = [0.64 * _TEXT * len(point.model) for point in points]
    within = Box(_LEFT - 3, 2, WIDTH - 2, HEIGHT - _BOTTOM)
    at, obstacles = [centers[number] for number in named], [*marks, *bars]
    boxes = place_labels(at, widths, height=_TEXT + 2, within=within, obstacles=obstacles, gap=9)
    return dict(zip(named, boxes, strict=True))


def _point(point: Point, at: float, box: Box | None, y: ToPixels, key: str) -> PointShape:
    middle = y(point.mean)
    if box is None:
        return PointShape(key, point.model, point.mark, at, middle, _scale(point), (), (), None)
    text = (box.top + box.bottom) / 2
    side, edge = box.anchor(at)
    lines = []
    if abs(text - middle) > _TEXT:
        lines.append(LineShape(at, middle, edge, text, "leader"))
    if point.interval:
        lines.append(LineShape(at, y(point.interval.low), at, y(point.interval.high), f"bar m{point.mark}"))
    seeds = tuple((at, y(score)) for score in point.seeds)
    name = TextShape(edge, text + 4, point.model, f"{side} m{point.mark}")
    return PointShape(key, point.model, point.mark, at, middle, _scale(point), seeds, tuple(lines), name)


def _scale(point: Point) -> float | None:
    """Return the scale of the marker, whose area is proportional to the file size."""
    return None if point.area is None else 1.8 * math.sqrt(point.area)
