"""Thresholds: the lowest score at which a prediction counts, chosen per type or class on dev, or one for all.

`compact-biomed export` puts this module into the script of the exported folder, so it needs nothing but Python.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

DEV = "dev"  # in place of a number: those that were chosen on dev


@dataclass(frozen=True)
class Thresholds:
    """The lowest score at which a prediction counts.

    Args:
        values: type or class -> its threshold.
        default: that of all others.
        otherwise: the class of a text where no other class reaches its threshold ("no relation"); None = no class.
    """

    values: Mapping[str, float] = field(default_factory=dict)
    default: float = 0.0
    otherwise: str | None = None

    def of(self, label: str) -> float:
        """Return the threshold of a label."""
        return self.values.get(label, self.default)

    def choose(self, labels: Sequence[str], scores: Sequence[float], *, several: bool) -> list[int]:
        """Return the indices of the classes of one text that are predicted.

        Where a text may have several, these are all that reach their thresholds. Otherwise it is the likeliest class,
        or none if that does not reach its threshold; with `otherwise`, the likeliest of the other classes that reach
        theirs, or `otherwise`.

        Args:
            scores: probability of each label.
        """
        reached = [index for index, label in enumerate(labels) if scores[index] >= self.of(label)]
        if several:
            return reached
        if self.otherwise not in labels:
            best = max(range(len(labels)), key=scores.__getitem__)
            return [best] if best in reached else []
        reached = [index for index in reached if labels[index] != self.otherwise]
        return [max(reached, key=scores.__getitem__) if reached else list(labels).index(self.otherwise)]

    def fields(self) -> dict[str, Any]:
        """Return what `thresholds_in` reads, for records and manifests."""
        return {"values": dict(self.values), "default": self.default, "otherwise": self.otherwise}


def thresholds_in(content: Mapping[str, Any]) -> Thresholds | None:
    """Return the thresholds in a record or manifest whose shape was checked, None if it has none."""
    fields = content.get("thresholds")
    return fields and Thresholds(fields["values"], fields["default"], fields["otherwise"])
