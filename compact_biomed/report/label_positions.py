"""Where the names of points go in a figure, so that they cover neither each other nor the points."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle; y points downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def overlap(self, other: "Box") -> float:
        """Return the area that both cover."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.bottom, other.bottom) - max(self.top, other.top)
        return max(width, 0.0) * max(height, 0.0)

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    def anchor(self, x: float) -> tuple[str, float]:
        """Return the alignment (left, right or center) and x of a text in the box, at the edge next to a point at x."""
        if self.left > x:
            return "left", self.left
        if self.right < x:
            return "right", self.right
        return "center", (self.left + self.right) / 2


def place_labels(
    points: Sequence[tuple[float, float]],
    widths: Sequence[float],
    *,
    height: float,
    within: Box,
    obstacles: Sequence[Box] = (),
    gap: float = 7.0,
) -> list[Box]:
    """Return a box for the name of each point, the best of some positions beside, above and below it.

    The names are placed one after the other from the top, so that the same points give the same boxes. No name covers
    another as long as one of its positions is free.

    Args:
        points: x, y, downwards.
        widths: of the names.
        height: of every name.
        within: the area that names should not leave.
        obstacles: points and bars, which names should not cover.
        gap: between a point and its name.
    """
    placed: dict[int, Box] = {}
    for number in sorted(range(len(points)), key=lambda n: (points[n][1], points[n][0], n)):
        taken = list(placed.values())

        def cost(candidate: tuple[float, Box], taken: list[Box] = taken) -> float:
            distance, box = candidate
            outside = box.area - box.overlap(within)
            covered = 1000 * sum(map(box.overlap, taken)) + 2 * sum(map(box.overlap, obstacles))
            return 20 * outside + covered + distance

        placed[number] = min(_candidates(*points[number], widths[number], height, gap), key=cost)[1]
    return [placed[number] for number in range(len(points))]


def _candidates(x: float, y: float, width: float, height: float, gap: float) -> list[tuple[float, Box]]:
    """Return positions for a name, each with a penalty."""
    candidates = []
    for line in range(11):
        for side in (-1, 1) if line else (1,):
            middle = y + side * line * height / 2
            for left, penalty in ((x + gap, 0), (x - gap - width, 2), (x - width / 2, 3 if line > 2 else 1000)):
                candidates.append(
                    (4.0 * line + penalty, Box(left, middle - height / 2, left + width, middle + height / 2))
                )
    return candidates
