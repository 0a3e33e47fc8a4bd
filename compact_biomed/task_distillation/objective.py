"""A task model with two losses, on hard and on soft labels, in the form that `Replicas` computes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from compact_biomed.evaluation.objective import TaskObjective, TaskOutput
from compact_biomed.models.taps import NO_TAPS
from compact_biomed.objectives import terms
from compact_biomed.objectives.terms import Term
from compact_biomed.task_distillation.terms import HARD_LOSS
from compact_biomed.task_distillation.transfer import LayerTransfer, TeacherInputs

_NO_TOKEN = -1e9  # a logit whose probability is 0 at any temperature, finite as the losses want it


class TaughtBatch(NamedTuple):
    """A `TaskBatch` with soft labels."""

    input_ids: Tensor  # [batch, length]
    attention_mask: Tensor | None  # [batch, length]; None where nothing is padding
    token_type_ids: Tensor | None  # [batch, length]; None where all are of type 0
    targets: Tensor  # as of `TaskBatch`; of unlabelled inputs they are not read
    labelled: Tensor  # [batch], bool
    taught: Tensor  # [batch, length], bool: the positions whose logits have soft labels
    soft: Tensor  # the teacher's logits of these positions, [rows, outputs]
    theirs: TeacherInputs | None = None  # where layers are compared


class TaughtObjective(TaskObjective):
    """A student with the terms of its loss.

    Args:
        model, head, dtype, fast: as for `TaskObjective`.
        wanted: the terms on logits, `HARD_LOSS` and one on soft labels, or one of them.
        transfer: the terms on layers, if any.
    """

    def __init__(
        self,
        model: nn.Module,
        head: str,
        *,
        wanted: Sequence[Term],
        transfer: LayerTransfer | None = None,
        dtype: torch.dtype = torch.float32,
        fast: bool = True,
    ):
        super().__init__(model, head, dtype=dtype, fast=fast)
        self.terms, self.transfer = tuple(wanted), transfer
        if transfer is not None:
            weight = next(model.parameters())
            transfer.to(weight.device, weight.dtype)
            transfer.teacher.to(weight.device)

    def prepare(self) -> dict[str, Tensor]:
        """The weights of the model, and of the projections."""
        return super().prepare() | (self.transfer.prepared() if self.transfer is not None else {})

    def sources(self) -> dict[str, tuple[nn.Parameter, ...]] | None:
        found = super().sources()
        if found is None or self.transfer is None:
            return found
        return found | {name: (parameter,) for name, parameter in self.transfer.prepared().items()}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        token_type_ids: Tensor | None,
        targets: Tensor,
        labelled: Tensor,
        taught: Tensor,
        soft: Tensor,
        theirs: TeacherInputs | None = None,
        *,
        prepared: Mapping[str, Tensor] | None = None,
    ) -> TaskOutput:
        """The summed loss of a `TaughtBatch`: the weighted sum of its terms' sums."""
        seen = torch.ones_like(input_ids) if attention_mask is None else attention_mask
        hard = self.head.trained(seen, targets) & labelled[:, None]
        wanted = hard | taught
        taps = self.transfer.taps if self.transfer is not None else NO_TAPS
        if self.fast and prepared is None:
            prepared = self.cast(self.prepare())
        inputs = (input_ids, attention_mask, token_type_ids)
        logits, ours = self.with_taps(*inputs, wanted, taps, prepared=prepared)
        sums = []
        for term in self.terms:
            if term.kind != HARD_LOSS:
                sums.append(term.weight * self._soft_loss(term, logits[taught[wanted]], soft, taught))
            elif labelled.any():
                loss, _ = self.head.loss(logits[hard[wanted]], targets[labelled], hard[labelled])
                sums.append(term.weight * loss)
        if self.transfer is not None:
            sums.append(self.transfer.loss_sum(ours, theirs, attention_mask, prepared))
        total = torch.stack(sums).sum() if sums else logits.sum() * 0
        return TaskOutput(total, len(logits) if self.head.family == "token" else len(labelled))

    def _soft_loss(self, term: Term, student: Tensor, teacher: Tensor, taught: Tensor) -> Tensor:
        """The sum over tokens, or documents."""
        share = 1.0
        if self.head.family == "span":  # a softmax over the tokens of a document; the mean of start and end
            student, teacher, share = by_end(student, taught), by_end(teacher, taught), 0.5
        outputs = {"logits": student}, {"logits": teacher}
        return share * terms.evaluate([term], *outputs, taught, reduction="sum")[term.name]


def by_end(logits: Tensor, wanted: Tensor) -> Tensor:
    """Logits [rows, 2] of the wanted positions [batch, length] -> [2 * batch, length], start and end in turn."""
    scores = logits.new_full((*wanted.shape, 2), _NO_TOKEN)
    scores[wanted] = logits
    return scores.transpose(1, 2).flatten(0, 1)
