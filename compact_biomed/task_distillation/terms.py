"""The loss of task distillation in TextBrewer's language."""

from typing import TYPE_CHECKING

from compact_biomed.objectives.textbrewer_terms import distillation_config

if TYPE_CHECKING:
    from textbrewer import DistillationConfig

# The loss on soft labels under each head of `evaluation.heads`.
SOFT_LOSSES = {
    "token": "soft_kl",
    "sequence": "soft_kl",
    "span": "soft_kl",
    "multilabel": "soft_binary_cross_entropy",
    "regression": "soft_mse",
}
HARD_LOSS = "task_loss"


def task_config(head: str, *, temperature: float, soft_weight: float) -> "DistillationConfig":
    """1 hard-label loss + `soft_weight` T^2 soft-label loss at temperature T (Hinton et al. 2015, section 2).

    Args:
        head: a name in `evaluation.heads.HEADS`.
        temperature: T. In a regression it cancels.
        soft_weight: 0 leaves the teacher out.
    """
    return distillation_config(
        mlm_weight=1.0, kd_loss=SOFT_LOSSES[head], kd_weight=soft_weight * temperature**2, temperature=temperature
    )
