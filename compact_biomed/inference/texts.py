"""Logits -> the class of a text, and the answers to a question."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Label(NamedTuple):
    """A class, with its probability; of a model that gives a number, its name and the number."""

    label: str
    score: float


class Answer(NamedTuple):
    """A stretch of the context: context[start:end] is the text. The scores of all answers add up to 1."""

    start: int
    end: int
    score: float
    text: str


def ranked_labels(logits: np.ndarray, labels: Sequence[str], problem_type: str | None) -> list[Label]:
    """All labels, the likeliest first.

    Args:
        logits: [labels].
        problem_type: transformers' name: "regression" leaves the number as it is, "multi_label_classification"
            gives each label its own probability, else they add up to 1.
    """
    x = logits.astype(np.float64)
    if problem_type == "regression":
        scores = x
    elif problem_type == "multi_label_classification":
        scores = 1 / (1 + np.exp(-x))
    else:
        scores = np.exp(x - x.max())
        scores /= scores.sum()
    found = [Label(label, float(score)) for label, score in zip(labels, scores, strict=True)]
    return sorted(found, key=lambda each: -each.score)


def ranked_answers(context: str, features: Sequence[dict], logits: Sequence[np.ndarray], n: int) -> list[Answer]:
    """The `n` likeliest answers in one context, over its windows.

    Args:
        features: of `evaluation.encode.encode_questions`, of this context alone.
        logits: for each [positions, 2]: start, end.
    """
    from compact_biomed.evaluation.decode import best_spans

    (spans,) = best_spans(1, features, logits)
    return [Answer(start, end, score, context[start:end]) for (start, end), score in spans[:n]]
