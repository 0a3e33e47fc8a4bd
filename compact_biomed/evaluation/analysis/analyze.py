"""The part `analysis` of a record: scores per type or class, near misses, confusions, calibration.

It holds numbers only, no text of the test set.
"""

import statistics
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from compact_biomed.benchmarks.examples import TextExample, WordsExample
from compact_biomed.benchmarks.tags import entities_of
from compact_biomed.evaluation.analysis.candidates import Candidates
from compact_biomed.evaluation.analysis.errors import count_entity_errors
from compact_biomed.evaluation.analysis.partial_match import match_scores
from compact_biomed.evaluation.features import Choice, TaggedWords

PARTS = ("precision", "recall", "f1")
MOST_CLASSES = 30  # with a confusion matrix in the record
BINS = 15  # of scores, for the calibration


def label_scores(candidates: Candidates) -> dict[str, Any]:
    """Return the scores of each type or class, and their averages, in percent.

    Returns:
        `by_label`: name -> tp, fp, fn, precision, recall, f1, support; labels that neither gold nor the model has are
        left out. `micro` and `macro`: of the labels that are counted (of relations, not "no relation"), as
        scikit-learn's `precision_recall_fscore_support` averages them.
    """
    counts = candidates.counts()
    occurs = counts.sum(1) > 0
    by_label = {
        name: {**dict(zip(("tp", "fp", "fn"), map(int, row), strict=True)), **_scores(row)}
        for name, row, here in zip(candidates.labels, counts, occurs, strict=True)
        if here
    }
    counted = [name for name, here in zip(candidates.labels, occurs & candidates.counted, strict=True) if here]
    of_counted = [by_label[name] for name in counted]
    mean = {part: statistics.fmean(row[part] for row in of_counted) if counted else 0.0 for part in PARTS}
    summed = counts[candidates.counted].sum(0)
    total = int(candidates.support[candidates.counted].sum())
    return {
        "by_label": by_label,
        "micro": _scores(summed),
        "macro": {part: round(value, 4) for part, value in mean.items()} | {"support": total},
    }


def _scores(counts: Sequence[int]) -> dict[str, float]:
    tp, fp, fn = map(int, counts)
    values = (tp / max(tp + fp, 1), tp / max(tp + fn, 1), 2 * tp / max(2 * tp + fp + fn, 1))
    return {part: round(100 * value, 4) for part, value in zip(PARTS, values, strict=True)} | {"support": tp + fn}


def analyze_labels(candidates: Candidates) -> dict[str, Any]:
    """Return what every kind of types or classes has: `label_scores` and the calibration of what is predicted."""
    chosen = candidates.predicted
    measured = calibration(candidates.score[chosen], candidates.right[chosen])
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in measured.items()}
    return label_scores(candidates) | {"calibration": rounded}


def calibration(scores: np.ndarray, right: np.ndarray, *, bins: int = BINS) -> dict[str, float | list]:
    """Return the expected calibration error of predictions (Guo et al. 2017), and what it is computed from.

    The scores are divided into bins of equal width, (0, 1/15], (1/15, 2/15], ...; the error is the mean over
    predictions of the difference between a bin's mean score and its share of right predictions.

    Args:
        scores: [predictions], from 0 to 1.
        right: [predictions].

    Returns:
        `predictions`, their number; `ece`, `mean_score` and `right` in percent; `bins`: for each bin its number of
        predictions, mean score and share of right ones in percent (0 where it is empty).
    """
    n = max(len(scores), 1)
    bin_of = np.clip(np.ceil(np.asarray(scores, float) * bins).astype(int) - 1, 0, bins - 1)
    numbers, score_sums, right_sums = (
        np.bincount(bin_of, weights=weights, minlength=bins) for weights in (None, scores, np.asarray(right, float))
    )
    filled = np.maximum(numbers, 1)
    means, shares = 100 * score_sums / filled, 100 * right_sums / filled
    rows = zip(numbers.tolist(), means.tolist(), shares.tolist(), strict=True)
    return {
        "predictions": len(scores),
        "ece": float((numbers * np.abs(means - shares)).sum() / n),
        "mean_score": float(100 * score_sums.sum() / n),
        "right": float(100 * right_sums.sum() / n),
        "bins": [[number, round(mean, 2), round(share, 2)] for number, mean, share in rows],
    }


def analyze_entities(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> dict[str, Any]:
    """Return the errors of entities by kind, and scores that give credit for near misses (`partial_match`)."""
    pairs = zip(examples, predictions, strict=True)
    partial = match_scores((entities_of(example.tags), entities_of(each.tags)) for example, each in pairs)
    return {
        "errors": count_entity_errors(examples, predictions),
        "partial_match": {
            scheme: {name: round(value, 4) for name, value in row.items()} for scheme, row in partial.items()
        },
    }


def analyze_confusions(examples: Sequence[TextExample], predictions: Sequence[Choice]) -> dict[str, Any]:
    """Return how often each class was taken for each other one.

    Returns:
        `largest`: wrong pairs (gold, predicted, number), most frequent first. With at most `MOST_CLASSES` classes also
        `labels` and `counts`, one row per gold class, one column per predicted one.
    """
    pairs = Counter((example.label, each.label) for example, each in zip(examples, predictions, strict=True))
    wrong = sorted(((-n, gold, label) for (gold, label), n in pairs.items() if gold != label))
    largest = [{"gold": gold, "predicted": label, "number": -n} for n, gold, label in wrong[:MOST_CLASSES]]
    labels = sorted({label for pair in pairs for label in pair})
    if len(labels) > MOST_CLASSES:
        return {"confusion": {"largest": largest}}
    counts = [[pairs[gold, label] for label in labels] for gold in labels]
    return {"confusion": {"largest": largest, "labels": labels, "counts": counts}}
