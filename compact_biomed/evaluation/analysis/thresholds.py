"""Thresholds: the lowest score at which a prediction counts, chosen per type or class on dev, or one for all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from compact_biomed.errors import UserError

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


def requested(threshold: float | str, chosen: Thresholds | None, *, where: object) -> Thresholds:
    """Return the thresholds that a user asks for.

    Args:
        threshold: `DEV`, or a number from 0 to 1 for all labels.
        chosen: those that were chosen on dev, if the model has any.
        where: the model, for errors.

    Raises:
        UserError: neither, or the model has none that were chosen on dev.
    """
    if threshold == DEV:
        if chosen is None:
            raise UserError(
                "this model has no thresholds chosen on dev",
                where=where,
                remedy="give a number, --threshold 0.5, or fine-tune with evaluate --save by a protocol that "
                "does not train on dev",
            )
        return chosen
    if isinstance(threshold, str) or not 0 <= threshold <= 1:
        raise UserError(f"{threshold!r} is no threshold", where="--threshold", remedy="dev, or a number from 0 to 1")
    return Thresholds({}, float(threshold), chosen.otherwise if chosen else None)


def best_threshold(scores: np.ndarray, right: np.ndarray, support: int, *, default: float) -> float:
    """Return the threshold with the best F1, in the middle between the scores that it separates.

    Args:
        scores: [n], of what could be predicted of one label.
        right: [n], whether gold has it.
        support: how often gold has the label, predicted or not.
        default: is returned unless another threshold has a better F1. Of equally good ones, the lowest is returned.
    """
    if not len(scores):
        return default
    order = np.argsort(-scores, kind="stable")
    ranked, hits = scores[order], np.cumsum(right[order])
    f1 = 2 * hits / (np.arange(1, len(ranked) + 1) + support)
    f1[:-1][ranked[:-1] == ranked[1:]] = -1  # equal scores are not separated
    kept = int((ranked >= default).sum())
    if f1.max() <= (f1[kept - 1] if kept else 0.0):
        return default
    last = len(f1) - 1 - int(f1[::-1].argmax())
    if last + 1 == len(ranked):
        return 0.0
    middle = float((ranked[last] + ranked[last + 1]) / 2)
    return middle if middle > ranked[last + 1] else float(ranked[last])
