"""A learner whose examples carry soft labels."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from compact_biomed.evaluation.batches import Feature, padded
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.objective import TaskBatch
from compact_biomed.objectives.terms import Term
from compact_biomed.task_distillation.objective import TaughtBatch, TaughtObjective
from compact_biomed.task_distillation.transfer import LayerTeacher, LayerTransfer, TeacherInputs
from compact_biomed.training.machine import Plan


class TaughtLearner(Learner):
    """Trains a student on the features that `soft_labels` makes.

    The loss of a step is the sum of its terms on logits over all rows divided by their number, those without a hard
    label counted: the more unlabelled text, the less the hard labels weigh. Terms on layers are means over its tokens.

    Args:
        model, head, machine: as for `Learner`.
        terms: of the loss.
        teacher: what the terms on layers compare with; None = there are none.
    """

    def __init__(self, model, head: str, machine: Plan, terms: Sequence[Term], teacher: LayerTeacher | None = None):
        on_layers = [term for term in terms if term.feature != "logits"]
        heads = model.config.num_attention_heads
        self.transfer = LayerTransfer(on_layers, teacher, heads) if teacher is not None else None
        on_logits = [term for term in terms if term.feature == "logits"]
        objective = partial(TaughtObjective, wanted=on_logits, transfer=self.transfer)
        super().__init__(model, head, machine, objective=objective)

    def rows(self, features: Sequence[Feature]) -> int:
        """Tokens, or documents, with a label of either kind."""
        return sum(feature["rows"] for feature in features)

    def completed(
        self, features: Sequence[Feature], parts: Sequence[tuple[np.ndarray, TaskBatch]]
    ) -> list[TaughtBatch]:
        """The micro-batches with their soft labels, and with what the teacher's layers read."""
        factors = None
        if self.transfer is not None:
            lengths = [len(feature["input_ids"]) for feature in features]
            factors = self.transfer.factors(lengths, max(self.rows(features), 1))
        return [self._taught([features[i] for i in chosen], part, factors) for chosen, part in parts]

    def _taught(self, features: Sequence[Feature], part: TaskBatch, factors: torch.Tensor | None) -> TaughtBatch:
        taught = torch.zeros_like(part.input_ids, dtype=torch.bool)
        for row, feature in zip(taught, features, strict=True):
            row[feature["taught"]] = True
        labelled = torch.tensor([feature["labelled"] for feature in features], device=self.device)
        soft = torch.from_numpy(np.concatenate([feature["soft"] for feature in features]).astype(np.float32))
        theirs = self._theirs(features, part.input_ids.shape[1], factors) if factors is not None else None
        return TaughtBatch(*part, labelled, taught, soft.to(self.device), theirs)

    def _theirs(self, features: Sequence[Feature], width: int, factors: torch.Tensor) -> TeacherInputs:
        config = self.transfer.teacher.config
        ids = padded([feature["teacher_ids"] for feature in features], width, config.pad_token_id)
        types = [feature.get("token_type_ids") or () for feature in features]
        typed = getattr(config, "type_vocab_size", 0) > 1 and any(map(any, types))
        return TeacherInputs(ids.to(self.device), padded(types, width, 0).to(self.device) if typed else None, factors)
