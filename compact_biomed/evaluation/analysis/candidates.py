"""What a model could have predicted on a set of examples, each with its score, and whether it would be right.

For entities these are the entities that it predicted; for texts, every class of every text. Scores per type and class,
calibration and thresholds are all functions of these rows.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compact_biomed.benchmarks.examples import TextExample, WordsExample
from compact_biomed.benchmarks.tags import entities_of
from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.evaluation.features import Choice, TaggedWords

FEWEST = 10  # gold examples of a label on dev, below which a threshold would be chosen by chance


@dataclass(frozen=True)
class Candidates:
    """Rows of what could be predicted, and how often each label is right.

    Args:
        labels: types or classes, sorted; those that occur in gold labels alone included.
        label: [rows], index into `labels`.
        score: [rows], from 0 to 1.
        right: [rows], whether gold has it.
        predicted: [rows], whether the model predicts it.
        support: [labels], how often gold has each label.
        counted: [labels], whether it is part of averages; the class "no relation" is not.
        classes: the classes of the model if each text has one row per class, in this order; () for entities.
        several: whether a text may have several classes.
        otherwise: the class of a text where no other one reaches its threshold, or None.
    """

    labels: tuple[str, ...]
    label: np.ndarray
    score: np.ndarray
    right: np.ndarray
    predicted: np.ndarray
    support: np.ndarray
    counted: np.ndarray
    classes: tuple[str, ...] = ()
    several: bool = False
    otherwise: str | None = None

    def counts(self) -> np.ndarray:
        """Return tp, fp and fn of each label: [labels, 3]."""
        of_label = [
            np.bincount(self.label[self.predicted & chosen], minlength=len(self.labels))
            for chosen in (self.right, ~self.right)
        ]
        return np.stack([*of_label, self.support - of_label[0]], 1)

    def best_thresholds(self) -> tuple[Thresholds, tuple[str, ...]]:
        """Return the threshold of each label that has the best F1 here, and the labels that are too rare for one.

        Those with fewer than `FEWEST` gold examples keep the default: every entity, every likeliest class; 0.5 where
        classes are decided one by one.
        """
        one_by_one = self.several or self.otherwise is not None
        default = 0.5 if one_by_one else 0.0
        values, rare = {}, []
        for index, name in enumerate(self.labels):
            if name == self.otherwise or (self.classes and name not in self.classes):
                continue
            rows = (self.label == index) & (self.predicted | one_by_one)
            if self.support[index] < FEWEST:
                values[name] = default
                rare.append(name)
            else:
                values[name] = best_threshold(
                    self.score[rows], self.right[rows], int(self.support[index]), default=default
                )
        return Thresholds(values, default, self.otherwise), tuple(rare)

    def with_thresholds(self, thresholds: Thresholds) -> "Candidates":
        """Return the same rows with what is predicted under thresholds."""
        if not self.classes:
            lowest = np.array([thresholds.of(name) for name in self.labels])
            return replace(self, predicted=self.predicted & (self.score >= lowest[self.label]))
        predicted = np.zeros((len(self.score) // len(self.classes), len(self.classes)), bool)
        for row, scores in zip(predicted, self.score.reshape(predicted.shape), strict=True):
            row[thresholds.choose(self.classes, scores.tolist(), several=self.several)] = True
        return replace(self, predicted=predicted.reshape(-1))


def of_entities(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> Candidates:
    """Return the predicted entities; their score is the mean probability of their words' tags, as in `predict`."""
    rows, support = [], Counter()
    for example, prediction in zip(examples, predictions, strict=True):
        gold = entities_of(example.tags)
        support.update(entity.type for entity in gold)
        for entity in entities_of(prediction.tags):
            score = sum(prediction.scores[entity.start : entity.end]) / (entity.end - entity.start)
            rows.append((entity.type, score, entity in gold))
    labels = tuple(sorted({*support, *(kind for kind, _, _ in rows)}))
    return Candidates(
        labels,
        np.array([labels.index(kind) for kind, _, _ in rows], int),
        np.array([score for _, score, _ in rows], float),
        np.array([right for _, _, right in rows], bool),
        np.ones(len(rows), bool),
        np.array([support[name] for name in labels], int),
        np.ones(len(labels), bool),
    )


def of_classes(
    examples: Sequence[TextExample],
    predictions: Sequence[Choice],
    classes: Sequence[str],
    *,
    several: bool = False,
    negative: Sequence[str] = (),
) -> Candidates:
    """Return every class of every text with its probability.

    Args:
        classes: of the model, in the order of its probabilities.
        several: whether a text may have several classes.
        negative: names of the class that says that nothing is there.
    """
    gold = [{*example.label} if several else {example.label} for example in examples]
    chosen = [{*each.label} if several else {each.label} for each in predictions]
    support = Counter(label for labels in gold for label in labels)
    labels = tuple(sorted({*support, *classes}))
    index = [labels.index(name) for name in classes]
    return Candidates(
        labels,
        np.tile(np.array(index, int), len(gold)),
        np.array([each.probabilities for each in predictions], float).reshape(-1),
        np.array([name in labels_ for labels_ in gold for name in classes], bool),
        np.array([name in labels_ for labels_ in chosen for name in classes], bool),
        np.array([support[name] for name in labels], int),
        np.array([name not in negative for name in labels], bool),
        tuple(classes),
        several,
        next((name for name in classes if name in negative), None),
    )


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
