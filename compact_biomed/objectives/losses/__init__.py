"""Losses of distillation: pure functions of (student, teacher, mask).

They hold together by four rules:

* The teacher is detached: no gradient reaches it, whatever it requires.
* `reduction="sum"` gives the sum, `"mean"` (the default) divides it by the denominator that
  the docstring states. Micro-batches compose by sums: divide each by the denominator of the
  whole step, which `counts` makes from the masks alone.
* They compute in float32, or in float64 if given float64, and return that type.
* Nothing to compare (an empty mask) is 0, with zero gradients.

Where the published scripts take padding into a mean, `published=True` does as they do; the
default compares real tokens only and does not change with the length that a batch is padded to.
"""

from compact_biomed.objectives.losses.attention import attention_kl, attention_mse, attention_score_mse, relation_kl
from compact_biomed.objectives.losses.from_scores import attention_kl_from_scores, attention_mse_from_scores
from compact_biomed.objectives.losses.hidden import hidden_cosine, hidden_mse
from compact_biomed.objectives.losses.output import mlm_cross_entropy, soft_cross_entropy, soft_kl
from compact_biomed.objectives.losses.task_output import soft_binary_cross_entropy, soft_mse

__all__ = [
    "attention_kl",
    "attention_kl_from_scores",
    "attention_mse",
    "attention_mse_from_scores",
    "attention_score_mse",
    "hidden_cosine",
    "hidden_mse",
    "mlm_cross_entropy",
    "relation_kl",
    "soft_binary_cross_entropy",
    "soft_cross_entropy",
    "soft_kl",
    "soft_mse",
]
