"""BioASQ's scores of factoid questions: strict accuracy, lenient accuracy, mean reciprocal rank.

As the official evaluator computes them (BioASQ/Evaluation-Measures: EvaluatorTask1b,
QuestionAnswerEvaluator, Task1bData with version 5 or 8): golden and given answers are put in
lower case and must then be equal to the letter; any golden synonym counts; strict looks at the
first answer, lenient at all, the reciprocal rank is that of the first right one, 0 without any.
The evaluator counts whatever is submitted, five answers at most by the challenge's rules.
"""

import datasets
import evaluate
import numpy as np


class Factoid(evaluate.Metric):
    def _info(self):
        texts = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Tsatsaronis et al. 2015, BioASQ",
            inputs_description="predictions: ranked answers a question; references: its golden synonyms",
            features=datasets.Features({"predictions": texts, "references": texts}),
        )

    def _compute(self, predictions, references):
        ranks = [first_right(*pair) for pair in zip(predictions, references, strict=True)]
        return {
            "strict": float(np.mean([rank == 1 for rank in ranks])),
            "lenient": float(np.mean([rank > 0 for rank in ranks])),
            "mrr": float(np.mean([1 / rank if rank else 0.0 for rank in ranks])),
        }


def first_right(answers, golden):
    """The rank (from 1) of the first right answer, 0 without any."""
    accepted = {text.lower() for text in golden}
    return next((rank for rank, answer in enumerate(answers, 1) if answer.lower() in accepted), 0)
