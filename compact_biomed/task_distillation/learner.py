"""A learner whose examples carry soft labels."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from compact_biomed.evaluation.batches import Feature
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.objective import TaskBatch
from compact_biomed.objectives.terms import Term
from compact_biomed.task_distillation.objective import TaughtBatch, TaughtObjective
from compact_biomed.training.machine import Plan


class TaughtLearner(Learner):
    """Trains a student on the features that `soft_labels` makes.

    The loss of a step is the sum of its terms over all rows divided by their number, those without a hard label
    counted: the more unlabelled text, the less the hard labels weigh.

    Args:
        model, head, machine: as for `Learner`.
        terms: of the loss.
    """

    def __init__(self, model, head: str, machine: Plan, terms: Sequence[Term]):
        super().__init__(model, head, machine, objective=partial(TaughtObjective, wanted=terms))

    def rows(self, features: Sequence[Feature]) -> int:
        """Tokens, or documents, with a label of either kind."""
        return sum(feature["rows"] for feature in features)

    def completed(self, features: Sequence[Feature], part: TaskBatch) -> TaughtBatch:
        """The micro-batch with its soft labels."""
        taught = torch.zeros_like(part.input_ids, dtype=torch.bool)
        for row, feature in zip(taught, features, strict=True):
            row[feature["taught"]] = True
        labelled = torch.tensor([feature["labelled"] for feature in features], device=self.device)
        soft = torch.from_numpy(np.concatenate([feature["soft"] for feature in features]).astype(np.float32))
        return TaughtBatch(*part, labelled, taught, soft.to(self.device))
