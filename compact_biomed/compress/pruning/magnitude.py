"""Single weights: those of least absolute value go (Han et al. 2015, section 3)."""

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from compact_biomed.compress.pruning.parts import Removed, how_many, layers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SCOPES = ("matrix", "model")  # within which weights are compared


@torch.no_grad()
def least_weights(model: "PreTrainedModel", share: float, *, scope: str = "matrix") -> Removed:
    """The smallest weights of the layers' matrices; embeddings, biases, norms and the task head stay whole.

    Args:
        model: a BERT or DistilBERT under a task head.
        share: of the weights; the number is exact after rounding.
        scope: one of `SCOPES`: the share of each matrix, or of all together.

    Returns:
        For each matrix what is gone; of equal weights any.

    Raises:
        UserError: nothing or everything would go.
    """
    matrices = {f"{name}.weight": model.get_parameter(f"{name}.weight") for x in layers(model) for name in x}
    if scope == "matrix":
        return {name: _smallest(weight.flatten(), share).view_as(weight) for name, weight in matrices.items()}
    flat = _smallest(torch.cat([weight.flatten() for weight in matrices.values()]), share)
    parts = flat.split([weight.numel() for weight in matrices.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(matrices.items(), parts, strict=True)}


def _smallest(weights: Tensor, share: float) -> Tensor:
    count = how_many(share, len(weights), leave=1, of="weights")
    gone = torch.zeros_like(weights, dtype=torch.bool)
    gone[weights.abs().topk(count, largest=False, sorted=False).indices] = True
    return gone
