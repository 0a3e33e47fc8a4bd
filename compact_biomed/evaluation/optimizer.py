"""AdamW and the clipping before it in one pass over memory."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Numbers updated at a time: few enough that the cache holds them, their moments and their gradient.
_PIECE = 1 << 20
# A norm is rounded to its tensor's type. Those of several pieces put together are less so, and fewer would be faster.
_PIECE_OF_NORM = _PIECE >> 2


class ClippedAdamW(torch.optim.Optimizer):
    """torch's fused AdamW on gradients that are first clipped to a norm, piece by piece.

    Clipping the gradient, converting it to float32 and the update would each read and write all of it.

    Args:
        groups: parameter groups of contiguous vectors, with `weight_decay`.
        learning_rate: which a schedule may change.
        max_grad_norm: as of `torch.nn.utils.clip_grad_norm_`.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], learning_rate: float, max_grad_norm: float):
        super().__init__(groups, {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8})
        self.max_grad_norm = max_grad_norm
        for group in self.param_groups:
            for vector in group["params"]:
                steps = [torch.zeros((), device=vector.device) for _ in vector.split(_PIECE)]
                moments = {"exp_avg": torch.zeros_like(vector), "exp_avg_sq": torch.zeros_like(vector)}
                self.state[vector] = {"step": steps, **moments}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor]) -> None:
        """Move the vectors.

        Args:
            gradients: one for each vector, of its shape, in any float type.
        """
        factor = _factor(gradients, self.max_grad_norm)
        vectors = [(group, vector) for group in self.param_groups for vector in group["params"]]
        for (group, vector), gradient in zip(vectors, gradients, strict=True):
            state, scratch = self.state[vector], vector.new_empty(min(_PIECE, len(vector)))
            whole = (vector.detach(), state["exp_avg"], state["exp_avg_sq"], gradient)
            beta1, beta2 = group["betas"]
            for step, *pieces in zip(state["step"], *(x.split(_PIECE) for x in whole), strict=True):
                weights, mean, square, piece = pieces
                clipped = scratch[: len(piece)].copy_(piece).mul_(factor)
                adamw(
                    [weights], [clipped], [mean], [square], [], [step],
                    fused=True, amsgrad=False, maximize=False, beta1=beta1, beta2=beta2,
                    lr=group["lr"], weight_decay=group["weight_decay"], eps=group["eps"],
                )  # fmt: skip


def _factor(gradients: Sequence[Tensor], max_norm: float) -> Tensor:
    """By which the gradients are multiplied so that their common norm is at most `max_norm`."""
    wide = torch.promote_types(gradients[0].dtype, torch.float32)
    norms = [torch.linalg.vector_norm(piece).to(wide) for g in gradients for piece in g.split(_PIECE_OF_NORM)]
    norm = torch.linalg.vector_norm(torch.stack(norms))
    return (max_norm / (norm + 1e-6)).clamp(max=1.0)
