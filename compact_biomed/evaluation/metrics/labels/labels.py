"""Scores of one class an example, by scikit-learn.

Accuracy, macro-F1 over all classes that occur, and, over the classes named `positive`, micro-averaged
precision, recall and F1: relation extraction leaves the class "no relation" out (BLUE, BLURB).
"""

import datasets
import evaluate
from sklearn.metrics import accuracy_score, f1_score, precision_recall_fscore_support


class Labels(evaluate.Metric):
    def _info(self):
        label = datasets.Value("string")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Pedregosa et al. 2011, scikit-learn",
            inputs_description="predictions, references: one class an example",
            features=datasets.Features({"predictions": label, "references": label}),
        )

    def _compute(self, predictions, references, positive=None):
        scores = {
            "accuracy": float(accuracy_score(references, predictions)),
            "macro_f1": float(f1_score(references, predictions, average="macro", zero_division=0)),
        }
        if positive:
            found = precision_recall_fscore_support(
                references, predictions, labels=positive, average="micro", zero_division=0
            )
            scores |= dict(zip(("precision", "recall", "f1"), map(float, found[:3]), strict=True))
        return scores
