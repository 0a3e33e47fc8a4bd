"""A panel of size or speed against score as inline SVG: colors come from the page's style sheet, light or dark."""

import math
from collections.abc import Callable, Sequence

from compact_biomed.report.figures import Box, Panel, Point, log_ticks, place_labels, side_by_side, ticks
from compact_biomed.report.page.markup import Markup, element, join

WIDTH, HEIGHT = 380, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 10, 40
_TEXT = 11.5  # pixels, as in the style sheet
_SHAPES = {
    0: "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    1: "M-4.5 -4.5h9v9h-9z",
    2: "M0 -5.8L5.6 4.2H-5.6z",
    3: "M0 -6.2L6.2 0L0 6.2L-6.2 0z",
    4: "M0 5.8L5.6 -4.2H-5.6z",
    5: "M-1.9 -5.6h3.8v3.7h3.7v3.8h-3.7v3.7h-3.8v-3.7h-3.7v-3.8h3.7z",
}
Place = Callable[[float], float]


def panel_svg(panel: Panel, ends: tuple[float, float], key: Callable[[str], str]) -> Markup:
    """Draw a panel.

    Args:
        ends: of the axis.
        key: model -> key of its cell, by which the page finds the records behind a point.
    """
    x, y = _scales(panel, ends)
    across = [_LEFT + share * (WIDTH - _LEFT - _RIGHT) for share in side_by_side(panel, ends)]
    named = _labels(panel, across, y)
    points = [
        _point(point, at, label, y, key(point.model))
        for point, at, label in zip(panel.points, across, named, strict=True)
    ]
    said = "; ".join(f"{p.model}: {p.at / panel.axis.unit:.1f}, {p.mean:.2f}" for p in panel.points)
    return element(
        "svg",
        *_axes(panel, ends, x, y),
        join(points, "\n"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{panel.column.title} against {panel.axis.label}. {said}",
    )


def shape(mark: int, **attributes: str) -> Markup:
    """The sign of an architecture, its center at 0, 0."""
    return element("path", d=_SHAPES[mark], class_=f"mark m{mark}", **attributes)


def _scales(panel: Panel, ends: tuple[float, float]) -> tuple[Place, Place]:
    """Place on the axis -> x, score -> y, in pixels."""
    few, many = map(math.log, ends)
    low, high = panel.bounds
    across, down = WIDTH - _LEFT - _RIGHT, HEIGHT - _TOP - _BOTTOM
    return (
        lambda at: _LEFT + across * (math.log(at) - few) / (many - few),
        lambda score: _TOP + down * (high - score) / (high - low),
    )


def _axes(panel: Panel, ends: tuple[float, float], x: Place, y: Place) -> list[Markup]:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    drawn = []
    for score in ticks(*panel.bounds):
        drawn.append(element("line", x1=_LEFT, x2=right, y1=y(score), y2=y(score), class_="grid"))
        drawn.append(element("text", f"{score:g}", x=_LEFT - 6, y=y(score) + 4, class_="right"))
    drawn.append(element("line", x1=_LEFT, x2=right, y1=bottom, y2=bottom, class_="axis"))
    for tick in log_ticks(*(end / panel.axis.unit for end in ends)):
        at = x(tick * panel.axis.unit)
        drawn.append(element("line", x1=at, x2=at, y1=bottom, y2=bottom + 4, class_="axis"))
        drawn.append(element("text", f"{tick:g}", x=at, y=bottom + 16, class_="center"))
    middle = (_LEFT + right) / 2
    drawn.append(element("text", panel.axis.label, x=middle, y=HEIGHT - 5, class_="center"))
    return drawn


def _labels(panel: Panel, across: Sequence[float], y: Place) -> list[Box]:
    places = [(at, y(point.mean)) for point, at in zip(panel.points, across, strict=True)]
    radii = [5 * _scale(point) for point in panel.points]
    signs = [Box(at - r, middle - r, at + r, middle + r) for (at, middle), r in zip(places, radii, strict=True)]
    bars = [Box(at - 1, y(point.high), at + 1, y(point.low)) for point, at in zip(panel.points, across, strict=True)]
    widths = [0.64 * _TEXT * len(point.model) for point in panel.points]
    within = Box(_LEFT - 3, 2, WIDTH - 2, HEIGHT - _BOTTOM)
    return place_labels(places, widths, height=_TEXT + 2, within=within, obstacles=[*signs, *bars], gap=9)


def _point(point: Point, at: float, label: Box, y: Place, key: str) -> Markup:
    middle = y(point.mean)
    drawn: list[Markup] = []
    text = (label.top + label.bottom) / 2
    side, edge = label.anchor(at)
    if abs(text - middle) > _TEXT:
        drawn.append(element("line", x1=at, y1=middle, x2=edge, y2=text, class_="leader"))
    if point.interval:
        bar = {"y1": y(point.interval.low), "y2": y(point.interval.high)}
        drawn.append(element("line", x1=at, x2=at, **bar, class_=f"bar m{point.mark}"))
    drawn += [element("circle", cx=at, cy=y(score), r=1.6, class_=f"seed m{point.mark}") for score in point.seeds]
    drawn.append(shape(point.mark, transform=_placed(point, at, middle)))
    drawn.append(element("text", point.model, x=edge, y=text + 4, class_=f"{side} m{point.mark}"))
    return element("g", *drawn, data_cell=key, data_model=point.model)


def _placed(point: Point, at: float, middle: float) -> str:
    scaled = "" if point.area is None else f" scale({_scale(point):.2f})"
    return f"translate({at:.2f} {middle:.2f}){scaled}"


def _scale(point: Point) -> float:
    """Of a sign, so that its area tells."""
    return 1.0 if point.area is None else 1.8 * math.sqrt(point.area)


def legend(names: Sequence[str]) -> Markup:
    """Which sign is which architecture."""
    signs = [
        element(
            "span",
            element("svg", shape(mark), viewBox="-8 -8 16 16", width="16", height="16", aria_hidden="true"),
            " " + (name or "not recorded"),
            class_="key",
        )
        for mark, name in enumerate(names[: len(_SHAPES)])
    ]
    return element("p", *signs, class_="legend")
