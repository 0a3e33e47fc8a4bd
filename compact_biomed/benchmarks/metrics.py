"""Metrics with the interface of `evaluate`, and the same scores from sums of per-example counts.

`metric("entities").compute(predictions=..., references=...)` computes scores from predictions; nothing is
fetched. `FROM_COUNTS` computes them from sums of per-example counts, which resampling needs.
"""

import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient
from seqeval.metrics.v1 import precision_recall_fscore_support as strict
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer

_PUNCTUATION = frozenset(string.punctuation)


def f1_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return F1 in percent of summed (tp, fp, fn): [..., 3] -> [...]; 0 where all three are 0."""
    tp, fp, fn = np.moveaxis(np.asarray(sums, float), -1, 0)
    whole = 2 * tp + fp + fn
    return 100 * np.divide(2 * tp, whole, out=np.zeros_like(whole), where=whole > 0)


def ratio_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return the first column divided by the last, in percent: [..., columns] -> [...]; 0 where the last is 0."""
    sums = np.asarray(sums, float)
    part, whole = sums[..., 0], sums[..., -1]
    return 100 * np.divide(part, whole, out=np.zeros_like(whole), where=whole > 0)


def pearson_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return 100 times Pearson's r of summed (x, y, xx, yy, xy, n): [..., 6] -> [...]; 0 without variance."""
    x, y, xx, yy, xy, n = np.moveaxis(np.asarray(sums, float), -1, 0)
    covariance, variance_x, variance_y = n * xy - x * y, n * xx - x * x, n * yy - y * y
    spread = np.sqrt(np.clip(variance_x, 0, None) * np.clip(variance_y, 0, None))
    # A smaller spread is rounding error of the sums.
    varies = spread > 1e-12 * np.maximum(1.0, np.abs(n * n))
    return 100 * np.divide(covariance, spread, out=np.zeros_like(spread), where=varies)


# Metric -> the per-example counts (columns) that it needs, and the function of their sums.
FROM_COUNTS: dict[str, tuple[tuple[str, ...], Callable[[np.ndarray], np.ndarray]]] = {
    "f1": (("tp", "fp", "fn"), f1_of_sums),
    "piece_f1": (("piece_tp", "piece_fp", "piece_fn"), f1_of_sums),
    "accuracy": (("correct", "examples"), ratio_of_sums),
    "mrr": (("reciprocal_rank", "questions"), ratio_of_sums),
    "pearson": (("x", "y", "xx", "yy", "xy", "n"), pearson_of_sums),
}
GOLD_PREFIX = "gold "  # before a class in a record's counts: the number of its test examples


class CorrelationMetric(evaluate.Metric):
    """Pearson's and Spearman's correlation, by scipy; 0 if either side is constant."""

    def _info(self):
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Virtanen et al. 2020, scipy",
            inputs_description="predictions, references: one number per example",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references):
        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return {"pearson": 0.0, "spearman": 0.0}
        return {
            "pearson": float(pearsonr(predictions, references).statistic),
            "spearman": float(spearmanr(predictions, references).statistic),
        }


class EntityMetric(evaluate.Metric):
    """Entity-level precision, recall and F1, by seqeval.

    `mode="strict"` follows IOB2 strictly: an entity begins with B, and I without a B before it is not an
    entity. `mode="published"` is seqeval's default, which `load_metric("seqeval")` in the published ner.py
    used: I without B begins an entity as well, as in conlleval.
    """

    def _info(self):
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Nakayama 2018, seqeval",
            inputs_description="predictions, references: one list of IOB2 tags per sentence",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references, mode="strict"):
        options = {"average": "micro", "zero_division": 0}
        if mode == "strict":
            precision, recall, f1, _ = strict(references, predictions, scheme=IOB2, **options)
        else:
            precision, recall, f1, _ = lenient(references, predictions, **options)
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}


class FactoidMetric(evaluate.Metric):
    """BioASQ's scores of factoid questions: strict accuracy, lenient accuracy, mean reciprocal rank.

    The same as the official evaluator's (BioASQ/Evaluation-Measures: EvaluatorTask1b,
    QuestionAnswerEvaluator, Task1bData with version 5 or 8). An answer is correct if it equals any golden
    synonym in lower case. Strict accuracy considers the first answer, lenient accuracy all; the reciprocal
    rank is that of the first correct answer, 0 without one. The evaluator counts every answer submitted; the
    challenge allows five.
    """

    def _info(self):
        texts = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Tsatsaronis et al. 2015, BioASQ",
            inputs_description="predictions: ranked answers per question; references: its golden synonyms",
            features=datasets.Features({"predictions": texts, "references": texts}),
        )

    def _compute(self, predictions, references):
        ranks = [first_correct(*pair) for pair in zip(predictions, references, strict=True)]
        return {
            "strict": float(np.mean([rank == 1 for rank in ranks])),
            "lenient": float(np.mean([rank > 0 for rank in ranks])),
            "mrr": float(np.mean([1 / rank if rank else 0.0 for rank in ranks])),
        }


def first_correct(answers: Sequence[str], golden: Sequence[str]) -> int:
    """Return the rank (from 1) of the first correct answer, 0 without one."""
    accepted = {text.lower() for text in golden}
    return next((rank for rank, answer in enumerate(answers, 1) if answer.lower() in accepted), 0)


class AnswerMetric(evaluate.Metric):
    """SQuAD's scores of one answer per question: exact match, and F1 of the words that answer and golden answer share.

    As in the official evaluate-v2.0.py: texts are compared without case, punctuation, articles and extra white space,
    and the golden answer that is closest counts.
    """

    def _info(self):
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Rajpurkar et al. 2016, SQuAD",
            inputs_description="predictions: an answer per question; references: its golden answers",
            features=datasets.Features(
                {"predictions": datasets.Value("string"), "references": datasets.Sequence(datasets.Value("string"))}
            ),
        )

    def _compute(self, predictions, references):
        answers = [_squad_words(text) for text in predictions]
        golden = [[_squad_words(text) for text in texts] for texts in references]
        pairs = list(zip(answers, golden, strict=True))
        return {
            "exact_match": float(np.mean([any(answer == each for each in texts) for answer, texts in pairs])),
            "f1": float(
                np.mean([max((_shared_words(answer, each) for each in texts), default=0) for answer, texts in pairs])
            ),
        }


def _squad_words(text: str) -> list[str]:
    bare = "".join(letter for letter in text.lower() if letter not in _PUNCTUATION)
    return [word for word in bare.split() if word not in ("a", "an", "the")]


def _shared_words(answer: Sequence[str], golden: Sequence[str]) -> float:
    """Return the F1 of the words of two texts, each as often as it occurs; 1 if neither has one."""
    both = sum((Counter(answer) & Counter(golden)).values())
    return 2 * both / (len(answer) + len(golden)) if answer or golden else 1.0


class LabelMetric(evaluate.Metric):
    """Scores of one class per example, by scikit-learn.

    Accuracy, macro-F1 over all classes that occur, and micro-averaged precision, recall and F1 over the
    classes in `positive`: relation extraction leaves out the class "no relation" (BLUE, BLURB).
    """

    def _info(self):
        label = datasets.Value("string")
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Pedregosa et al. 2011, scikit-learn",
            inputs_description="predictions, references: one class per example",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions, references, positive=None):
        scores = {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }
        if positive:
            micro = precision_recall_fscore_support(
                references, predictions, labels=positive, average="micro", zero_division=0
            )
            scores |= dict(zip(("precision", "recall", "f1"), map(float, micro[:3]), strict=True))
        return scores


class MultilabelMetric(evaluate.Metric):
    """Scores of several classes per example, by scikit-learn, micro- and macro-averaged."""

    def _info(self):
        labels = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=self.__doc__,
            citation="Pedregosa et al. 2011, scikit-learn",
            inputs_description="predictions, references: a list of classes per example, possibly empty",
            features=datasets.Features({"predictions": labels, "references": labels}),
        )

    def _compute(self, predictions, references):
        classes = sorted({label for row in (*references, *predictions) for label in row})
        if not classes:
            return dict.fromkeys(("precision", "recall", "f1", "macro_f1"), 0.0)
        binarizer = MultiLabelBinarizer(classes=classes)
        gold, predicted = (binarizer.fit_transform(rows) for rows in (references, predictions))
        micro = precision_recall_fscore_support(gold, predicted, average="micro", zero_division=0)
        scores = dict(zip(("precision", "recall", "f1"), map(float, micro[:3]), strict=True))
        return scores | {"macro_f1": float(f1_score(gold, predicted, average="macro", zero_division=0))}


_METRICS = {
    "answers": AnswerMetric,
    "correlation": CorrelationMetric,
    "entities": EntityMetric,
    "factoid": FactoidMetric,
    "labels": LabelMetric,
    "multilabel": MultilabelMetric,
}


@lru_cache
def metric(name: str) -> evaluate.Metric:
    """Return the metric of that name, without fetching anything."""
    return _METRICS[name](keep_in_memory=True)
