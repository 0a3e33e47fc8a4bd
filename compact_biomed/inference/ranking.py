"""Logits of one text -> labels or answers with their probabilities, the likeliest first."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from compact_biomed.evaluation.features import best_spans, probabilities


class Label(NamedTuple):
    """A class with its probability; of a regression, its name and the number."""

    label: str
    score: float


class Answer(NamedTuple):
    """A stretch of the context: context[start:end] is the text. The scores of all answers add up to 1."""

    start: int
    end: int
    score: float
    text: str


def ranked_labels(logits: np.ndarray, labels: Sequence[str], problem_type: str | None) -> list[Label]:
    """Return all labels, the likeliest first.

    Args:
        logits: [labels].
        problem_type: transformers' name: "regression" leaves the number as it is, "multi_label_classification"
            gives each label a probability of its own; otherwise the probabilities add up to 1.
    """
    if problem_type == "regression":
        scores = logits.astype(np.float64)
    else:
        scores = probabilities(logits, several=problem_type == "multi_label_classification")
    ranked = [Label(label, float(score)) for label, score in zip(labels, scores, strict=True)]
    return sorted(ranked, key=lambda each: -each.score)


def ranked_answers(context: str, features: Sequence[dict], logits: Sequence[np.ndarray], n: int) -> list[Answer]:
    """Return the `n` likeliest answers in one context, over its windows.

    Args:
        features: of `evaluation.features.encode_questions`, of this context alone.
        logits: for each [positions, 2]: start, end.
    """
    (spans,) = best_spans([context], features, logits)
    return [Answer(start, end, score, context[start:end]) for (start, end), score in spans[:n]]
