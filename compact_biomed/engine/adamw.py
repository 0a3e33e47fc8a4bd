"""AdamW and gradient clipping in one pass over memory.

Clipping the gradient, converting it to float32 and the update would each read and write all of it. Here they follow one
another on a piece that stays in the cache.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim.adamw import adamw

from compact_biomed.engine import compiled

# Numbers updated at a time: few enough that the cache holds them, their moments and their gradient.
_PIECE = 1 << 20
# A norm is rounded to its tensor's type. The norm of the norms of small pieces is more exact; large pieces are faster.
_PIECE_OF_NORM = _PIECE >> 2


class ClippedAdamW(torch.optim.Optimizer):
    """AdamW on gradients that are first clipped to a norm, piece by piece.

    Args:
        groups: parameter groups of contiguous vectors, with `weight_decay`.
        learning_rate: a schedule may change it.
        max_grad_norm: as for `torch.nn.utils.clip_grad_norm_`.
    """

    def __init__(self, groups: Iterable[Mapping[str, Any]], learning_rate: float, max_grad_norm: float):
        super().__init__(groups, {"lr": learning_rate, "betas": (0.9, 0.999), "eps": 1e-8})
        self.max_grad_norm = max_grad_norm
        for group in self.param_groups:
            for vector in group["params"]:
                moments = {"exp_avg": torch.zeros_like(vector), "exp_avg_sq": torch.zeros_like(vector)}
                self.state[vector] = {"step": torch.zeros((), device=vector.device), **moments}

    @torch.no_grad()
    def step(self, gradients: Sequence[Tensor], copies: Sequence[Tensor] | None = None) -> None:
        """Update the vectors.

        Args:
            gradients: one per vector, of its shape, in any float type.
            copies: one per vector, overwritten with its new values.
        """
        in_float32 = all(vector.dtype is torch.float32 for vector in self.state)
        compute = _Compiled if in_float32 and copies is not None and compiled.usable(*copies) else _Pieces
        factor = (self.max_grad_norm / (compute.norm(gradients) + 1e-6)).clamp(max=1.0)
        vectors = [(group, vector) for group in self.param_groups for vector in group["params"]]
        for i, ((group, vector), gradient) in enumerate(zip(vectors, gradients, strict=True)):
            copy = None if copies is None else copies[i]
            compute.update(group, vector.detach(), self.state[vector], gradient, factor, copy)


class _Compiled:
    """The update by `compiled.adamw`: gradients in float32 or bfloat16, copies in bfloat16."""

    @staticmethod
    def norm(gradients: Sequence[Tensor]) -> Tensor:
        squares = sum(compiled.call("adamw", "square_sum", gradient) for gradient in gradients)
        return torch.tensor(squares**0.5, dtype=torch.float32)

    @staticmethod
    def update(group, vector: Tensor, state, gradient: Tensor, factor: Tensor, copy: Tensor) -> None:
        state["step"] += 1
        corrections = (1 - beta ** int(state["step"]) for beta in group["betas"])
        numbers = (factor, group["lr"], group["weight_decay"], *group["betas"], *corrections, group["eps"])
        vectors = (vector, state["exp_avg"], state["exp_avg_sq"], gradient, copy)
        compiled.call("adamw", "update", *vectors, *map(np.float32, numbers))


class _Pieces:
    """The update by torch's fused AdamW, in pieces that the cache holds."""

    @staticmethod
    def norm(gradients: Sequence[Tensor]) -> Tensor:
        wide = torch.promote_types(gradients[0].dtype, torch.float32)
        norms = [torch.linalg.vector_norm(piece).to(wide) for g in gradients for piece in g.split(_PIECE_OF_NORM)]
        return torch.linalg.vector_norm(torch.stack(norms))

    @staticmethod
    def update(group, vector: Tensor, state, gradient: Tensor, factor: Tensor, copy: Tensor | None) -> None:
        beta1, beta2 = group["betas"]
        options = {"beta1": beta1, "beta2": beta2, "weight_decay": group["weight_decay"], "eps": group["eps"]}
        options |= {"lr": group["lr"], "fused": True, "amsgrad": False, "maximize": False}
        scratch = vector.new_empty(min(_PIECE, len(vector)))
        vectors = (vector, state["exp_avg"], state["exp_avg_sq"], gradient)
        for weights, mean, square, piece in zip(*(x.split(_PIECE) for x in vectors), strict=True):
            clipped = scratch[: len(piece)].copy_(piece).mul_(factor)
            step = state["step"].clone()  # torch increments it in place
            adamw([weights], [clipped], [mean], [square], [], [step], **options)
        state["step"] += 1
        if copy is not None:
            copy.copy_(vector)
