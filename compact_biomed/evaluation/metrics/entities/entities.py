"""Entity-level precision, recall and F1, by seqeval.

`mode="strict"` reads IOB2 strictly: an entity begins with B, and I without B before it is none.
`mode="published"` is seqeval's default, as `load_metric("seqeval")` of the published ner.py had
it: I without B begins an entity too, as in conlleval.
"""

import datasets
import evaluate
from seqeval.metrics.sequence_labeling import precision_recall_fscore_support as lenient
from seqeval.metrics.v1 import precision_recall_fscore_support as strict
from seqeval.scheme import IOB2


class Entities(evaluate.Metric):
    def _info(self):
        tags = datasets.Sequence(datasets.Value("string"))
        return evaluate.MetricInfo(
            description=__doc__,
            citation="Nakayama 2018, seqeval",
            inputs_description="predictions, references: lists of IOB2 tags, a list a sentence",
            features=datasets.Features({"predictions": tags, "references": tags}),
        )

    def _compute(self, predictions, references, mode="strict"):
        options = {"average": "micro", "zero_division": 0}
        if mode == "strict":
            found = strict(references, predictions, scheme=IOB2, **options)
        else:
            found = lenient(references, predictions, **options)
        precision, recall, f1, _ = found
        return {"precision": float(precision), "recall": float(recall), "f1": float(f1)}
