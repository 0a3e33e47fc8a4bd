"""Pearson's and Spearman's correlation, by scipy; 0 where one side does not vary."""

import datasets
import evaluate
import numpy as np
from scipy.stats import pearsonr, spearmanr


class Correlation(evaluate.Metric):
    def _info(self):
        number = datasets.Value("float64")
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Virtanen et al. 2020, scipy",
            inputs_description="predictions, references: one number an example",
            features=datasets.Features({"predictions": number, "references": number}),
        )

    def _compute(self, predictions, references):
        if np.ptp(predictions) == 0 or np.ptp(references) == 0:
            return {"pearson": 0.0, "spearman": 0.0}
        return {
            "pearson": float(pearsonr(predictions, references).statistic),
            "spearman": float(spearmanr(predictions, references).statistic),
        }
