"""Scores of several classes an example, by scikit-learn: micro- and macro-averaged."""

import datasets
import evaluate
from sklearn.metrics import f1_score, precision_recall_fscore_support
from sklearn.preprocessing import MultiLabelBinarizer


class Multilabel(evaluate.Metric):
    def _info(self):
        labels = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Pedregosa et al. 2011, scikit-learn",
            inputs_description="predictions, references: a list of classes an example, possibly empty",
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
