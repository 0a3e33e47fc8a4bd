"""The loss of task distillation in TextBrewer's language."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from compact_biomed.objectives.terms import Projection
from compact_biomed.objectives.textbrewer_terms import distillation_config, match

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


@dataclass(frozen=True)
class Transfer:
    """What of the layers is compared, by the losses of CompactBioBERT (`objectives.published_terms`).

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

    def matches(self) -> list[dict[str, Any]]:
        """TextBrewer's `intermediate_matches`; states of another width go through one shared projection."""
        found = []
        projection = Projection("states", *self.widths) if len(set(self.widths)) > 1 else None
        if "attention" in self.of:
            found += [match("attention_kl", s, t, self.weight) for s, t in enumerate(self.layers)]
        if "hidden" in self.of:
            given = {"weight": self.weight, "projection": projection}
            found += [match("hidden_cosine", s + 1, t + 1, **given) for s, t in enumerate(self.layers)]
        return found


def task_config(
    head: str, *, temperature: float, soft_weight: float, matches: Sequence[Mapping[str, Any]] = ()
) -> "DistillationConfig":
    """1 hard-label loss + `soft_weight` T^2 soft-label loss at temperature T (Hinton et al. 2015, section 2) + matches.

    Args:
        head: a name in `evaluation.heads.HEADS`.
        temperature: T. In a regression it cancels.
        soft_weight: 0 leaves the soft labels out.
        matches: `Transfer.matches`.
    """
    return distillation_config(
        mlm_weight=1.0,
        kd_loss=SOFT_LOSSES[head],
        kd_weight=soft_weight * temperature**2,
        temperature=temperature,
        matches=matches,
    )
