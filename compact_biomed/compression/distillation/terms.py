"""The terms of task distillation: hard labels, the teacher's soft labels, and, if wanted, the layers of both models."""

from collections.abc import Sequence
from dataclasses import dataclass

from compact_biomed.objectives.terms import EACH, LINEAR, MAPPED, Term, expand

HARD_LOSS = "task_loss"
# The loss on soft labels under each kind of task head (`models.checkpoints.HEAD_FORMS`).
SOFT_LOSS_OF_HEAD = {
    "token": "soft_kl",
    "sequence": "soft_kl",
    "span": "soft_kl",
    "multilabel": "soft_binary_cross_entropy",
    "regression": "soft_mse",
}


@dataclass(frozen=True)
class Transfer:
    """Which features of the layers are compared, by the losses of CompactBioBERT.

    Args:
        of: "hidden" (1 - cosine of the states behind two layers), "attention" (KL of their maps), or both.
        layers: teacher layer of each student layer.
        widths: of the student's and of the teacher's states.
        weight: of each layer's term.
    """

    of: Sequence[str]
    layers: Sequence[int]
    widths: tuple[int, int]
    weight: float = 1.0

    def terms(self) -> tuple[Term, ...]:
        """Return one term per pair of layers; states of another width go through one shared projection."""
        each = {"layer_S": EACH, "layer_T": MAPPED}
        projection = LINEAR if len(set(self.widths)) > 1 else None
        stated = []
        if "attention" in self.of:
            stated.append(Term("attention_kl", self.weight, **each))
        if "hidden" in self.of:
            stated.append(Term("hidden_cosine", self.weight, **each, projection=projection))
        depths = {"student_layers": len(self.layers), "teacher_layers": max(self.layers) + 1}
        return expand(stated, **depths, widths=self.widths, layers=self.layers)


def task_terms(
    head: str, *, temperature: float, soft_weight: float, transfer: Transfer | None = None
) -> tuple[Term, ...]:
    """Return hard labels + `soft_weight` T^2 soft labels at temperature T (Hinton et al. 2015, section 2) + layers.

    Args:
        head: a kind of task head.
        temperature: T. In a regression it cancels.
        soft_weight: 0 leaves the soft labels out.
        transfer: the layers that are compared, if any.
    """
    terms = [Term(HARD_LOSS, 1.0)]
    if soft_weight:
        terms.append(Term(SOFT_LOSS_OF_HEAD[head], soft_weight * temperature**2, temperature=temperature))
    return (*terms, *(transfer.terms() if transfer is not None else ()))
