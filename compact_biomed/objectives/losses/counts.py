"""Denominators of the losses, from masks alone, and how a sum becomes a mean.

A mask is [batch, length], true (or 1) on real tokens. Counts are int64 scalars on the mask's
device: nothing waits for a GPU.
"""

from typing import Literal

import torch
from torch import Tensor

Reduction = Literal["sum", "mean"]


def tokens(mask: Tensor) -> Tensor:
    """Real tokens, |N|."""
    return mask.bool().sum()


def pairs(mask: Tensor) -> Tensor:
    """Cells of one head's attention maps whose row and column are real: the sum of squared lengths."""
    return mask.bool().sum(1).square().sum()


def padded_rows(mask: Tensor) -> Tensor:
    """Cells of the real rows of one head's maps, padded columns included: |N| x length."""
    return tokens(mask) * mask.shape[1]


def everything(mask: Tensor) -> Tensor:
    """Positions, padding included: batch x length."""
    return torch.tensor(mask.numel(), device=mask.device)


def all_cells(mask: Tensor) -> Tensor:
    """Cells of one head's maps, padding included: batch x length x length."""
    return torch.tensor(mask.numel() * mask.shape[1], device=mask.device)


def reduced(total: Tensor, count: Tensor | int, reduction: Reduction) -> Tensor:
    """The sum, or the sum divided by its count; 0 where the count is 0."""
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / torch.as_tensor(count).clamp(min=1)
    raise ValueError(f"reduction must be 'sum' or 'mean', not {reduction!r}")


def wide(x: Tensor) -> Tensor:
    """In float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
