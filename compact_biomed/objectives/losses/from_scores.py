"""The attention losses computed from raw scores: the same values, several passes over memory fewer.

The gradient with respect to the scores is made while both distributions are at hand (for KL
it is their difference), document by document, so that what is in float32 stays in the cache.
Only that gradient is kept, in the type of the scores.
"""

import torch
from torch import Tensor

from compact_biomed.objectives.losses import counts
from compact_biomed.objectives.losses.counts import Reduction, reduced


def _kl(log_s: Tensor, log_t: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of KL(t || s) over the rows that count, and its derivative by the scores."""
    t = log_t.exp()
    total = ((log_t - log_s).mul_(t).sum(-1) * rows).sum()
    return total, log_s.exp_().sub_(t).mul_(rows[..., None])


def _mse(log_s: Tensor, log_t: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of (s - t)^2 over the rows that count, and its derivative by the scores, through the softmax."""
    s = log_s.exp_()
    error = s - log_t.exp_()
    total = (error.square().sum(-1) * rows).sum()
    error.sub_((error * s).sum(-1, keepdim=True))
    return total, error.mul_(s).mul_(2 * rows[..., None])


class _FromScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, rows: Tensor, formula) -> Tensor:
        dtype = torch.promote_types(student.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype, device=student.device)
        derivative = torch.empty_like(student)
        for place, (s, t, counted) in enumerate(zip(student, teacher, rows.to(dtype), strict=True)):
            log_s, log_t = (torch.log_softmax(x, -1, dtype=dtype) for x in (s, t))
            value, gradient = formula(log_s, log_t, counted)
            total += value
            derivative[place] = gradient
        ctx.save_for_backward(derivative)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (derivative,) = ctx.saved_tensors
        return derivative * gradient.to(derivative.dtype), None, None, None


def attention_kl_from_scores(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """`attention_kl` of softmax(scores), without its 1e-12: no probability here is exactly 0 but on padding.

    Args:
        student, teacher: scores [batch, heads, length, length] with the padding mask added.
        mask, published, reduction: as for `attention_kl`.
    """
    total = _FromScores.apply(student, teacher.detach(), mask.bool()[:, None, :], _kl)
    count = counts.padded_rows(mask) if published else counts.tokens(mask)
    return reduced(total, count * student.shape[1], reduction)


def attention_mse_from_scores(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """`attention_mse` of softmax(scores).

    Args:
        student, teacher: scores [batch, heads, length, length] with the padding mask added.
        mask, published, reduction: as for `attention_mse`.
    """
    rows = torch.ones_like(mask, dtype=torch.bool) if published else mask.bool()
    total = _FromScores.apply(student, teacher.detach(), rows[:, None, :], _mse)
    count = counts.all_cells(mask) if published else counts.pairs(mask)
    return reduced(total, count * student.shape[1], reduction)
