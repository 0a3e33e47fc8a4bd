"""LayerNorm of a residual sum with dropout, as it stands behind attention and behind the feed-forward."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from compact_biomed import compiled
from compact_biomed.models.dropout import dropout_add, random_key


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, p: float) -> Tensor:
        ctx.drawn = random_key(p)
        normed, y = torch.empty_like(x), torch.empty_like(x)
        deviations = x.new_empty(len(x), dtype=torch.float32)
        arguments = (x, residual, weight, bias, np.float32(eps), *ctx.drawn, normed, deviations, y)
        compiled.call("norm", "forward", *arguments)
        ctx.save_for_backward(normed, deviations, weight)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradient = gradient.contiguous()
        normed, deviations, weight = ctx.saved_tensors
        found = [torch.empty_like(x) for x in (gradient, gradient, weight, weight)]
        compiled.call("norm", "backward", gradient, normed, deviations, weight, *ctx.drawn, *found)
        return *found, None, None


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, eps: float, p: float, training: bool
) -> Tensor:
    """LayerNorm(dropout(x) + residual).

    Args:
        x, residual: [rows, width].
        weight, bias: [width].
        eps: of LayerNorm.
        p: drop probability, in training.
    """
    if training and compiled.usable(x, residual, weight, bias):
        return _AddNorm.apply(x.contiguous(), residual.contiguous(), weight, bias, eps, p)
    return F.layer_norm(dropout_add(x, residual, p, training), x.shape[-1:], weight, bias, eps)
