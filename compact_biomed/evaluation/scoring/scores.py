"""What scoring gives, the metrics it asks, and metrics of sums."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import evaluate

_METRICS = Path(__file__).parent.parent / "metrics"


@dataclass(frozen=True)
class Scores:
    """The scores of one run on one set of examples.

    Args:
        metrics: name -> value in percent (correlations too: 100 times the coefficient).
        counts: name -> number: examples, entities, words beyond the limit, ...
        units: one row an example (a question, for question answering) of numbers whose sums
            determine the primary metric; every row has the kind's `columns`.
    """

    metrics: dict[str, float]
    counts: dict[str, int]
    units: list[dict[str, float]]


@lru_cache
def metric(name: str) -> "evaluate.EvaluationModule":
    """The `evaluate` metric in `metrics/<name>/<name>.py`, loaded by path: no hub is asked."""
    import evaluate

    return evaluate.load(str(_METRICS / name), keep_in_memory=True)


def compute(name: str, predictions: Sequence[Any], references: Sequence[Any], **options: Any) -> dict[str, float]:
    """The scores of a metric, in percent."""
    found = metric(name).compute(predictions=predictions, references=references, **options)
    return {key: 100 * value for key, value in found.items()}


def f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """F1 in percent of summed (tp, fp, fn): [..., 3] -> [...]; 0 where all three are 0."""
    tp, fp, fn = np.moveaxis(np.asarray(sums, float), -1, 0)
    whole = 2 * tp + fp + fn
    return 100 * np.divide(2 * tp, whole, out=np.zeros_like(whole), where=whole > 0)


def ratio_of_sums(sums: np.ndarray) -> np.ndarray:
    """The first column over the last, in percent: [..., columns] -> [...]; 0 where the last is 0."""
    sums = np.asarray(sums, float)
    part, whole = sums[..., 0], sums[..., -1]
    return 100 * np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def pearson_of_sums(sums: np.ndarray) -> np.ndarray:
    """100 times Pearson's correlation of summed (x, y, xx, yy, xy, n): [..., 6] -> [...]; 0 without spread."""
    x, y, xx, yy, xy, n = np.moveaxis(np.asarray(sums, float), -1, 0)
    together, of_x, of_y = n * xy - x * y, n * xx - x * x, n * yy - y * y
    spread = np.sqrt(np.clip(of_x, 0, None) * np.clip(of_y, 0, None))
    # Below the rounding of the sums there is no spread to speak of.
    some = spread > 1e-12 * np.maximum(1.0, np.abs(n * n))
    return 100 * np.divide(together, spread, out=np.zeros_like(spread), where=some)


# Metric -> the columns of units that it is computed from, and how from their sums.
FROM_UNITS: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "f1": (("tp", "fp", "fn"), f1_of_sums),
    "piece_f1": (("piece_tp", "piece_fp", "piece_fn"), f1_of_sums),
    "accuracy": (("correct", "examples"), ratio_of_sums),
    "mrr": (("reciprocal_rank", "questions"), ratio_of_sums),
    "pearson": (("x", "y", "xx", "yy", "xy", "n"), pearson_of_sums),
}
