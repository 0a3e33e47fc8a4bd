"""Losses on the vocabulary head's logits.

Logits are those of the masked positions M alone, [rows, vocabulary]; a mask of the leading
dimensions selects rows where there are more.
"""

import torch
from torch import Tensor

from compact_biomed.models.kernels import cross_entropy
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.losses.counts import Reduction, reduced


class _SoftTargets(torch.autograd.Function):
    """Summed divergence from soft targets, whose gradient is made while both softmaxes are at hand.

    Only the derivative is kept for the backward pass, in the type of the logits. Its formula
    is that of KL and of cross-entropy: they differ by the teacher's entropy.
    """

    @staticmethod
    def forward(ctx, student: Tensor, teacher: Tensor, temperature: float, minus_entropy: bool) -> Tensor:
        dtype = torch.promote_types(student.dtype, torch.float32)
        log_student = torch.log_softmax(student.to(dtype) / temperature, -1)
        log_teacher = torch.log_softmax(teacher.to(dtype) / temperature, -1)
        p = log_teacher.exp()
        # KL is summed cell by cell: as a difference of two sums it would lose its digits.
        total = (p * (log_teacher - log_student)).sum() if minus_entropy else -(p * log_student).sum()
        ctx.save_for_backward(log_student.exp_().sub_(p).div_(temperature).to(student.dtype))
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (derivative,) = ctx.saved_tensors
        return derivative * gradient.to(derivative.dtype), None, None, None


def _soft(student, teacher, mask, temperature, reduction, *, minus_entropy: bool) -> Tensor:
    if mask is not None:
        student, teacher = student[mask.bool()], teacher[mask.bool()]
    student, teacher = student.flatten(0, -2), teacher.detach().flatten(0, -2)
    total = _SoftTargets.apply(student, teacher, temperature, minus_entropy)
    return reduced(total, len(student), reduction)


def soft_kl(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """KL(softmax(teacher / T) || softmax(student / T)) in nats.

    The factor T^2 that keeps gradients in proportion (Hinton et al. 2015, section 2) is the
    caller's: it belongs to the weight.

    Args:
        student, teacher: logits [..., vocabulary], finite.
        mask: [...], true on the rows that count; None if all do.
        temperature: T.
        reduction: "mean" divides by the number of rows (torch's "batchmean").

    Returns:
        Scalar.
    """
    return _soft(student, teacher, mask, temperature, reduction, minus_entropy=True)


def soft_cross_entropy(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    temperature: float = 1.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """-softmax(teacher / T) . log softmax(student / T) in nats: `soft_kl` plus the teacher's entropy.

    Arguments and denominator as for `soft_kl`.
    """
    return _soft(student, teacher, mask, temperature, reduction, minus_entropy=False)


def mlm_cross_entropy(student: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Cross-entropy of masked-language modeling in nats.

    Args:
        student: logits [..., vocabulary].
        labels: [...], int64; -100 where no loss is taken.
        reduction: "mean" divides by the number of labels.

    Returns:
        Scalar.
    """
    labelled = labels != IGNORED
    targets = labels[labelled]
    total, _ = cross_entropy(student[labelled], targets)
    return reduced(total, len(targets), reduction)
