"""Losses on the logits of task heads whose outputs are no classes of one softmax."""

import torch
from torch import Tensor
from torch.nn import functional as F

from compact_biomed.objectives.losses.counts import Reduction, reduced, wide


def soft_binary_cross_entropy(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Binary cross-entropy with sigmoid(teacher / T) as soft targets of sigmoid(student / T), in nats.

    The mean over the labels of a row, as the hard loss of a multilabel head; the factor T^2 is the
    caller's, as for `soft_kl`.

    Args:
        student, teacher: logits [rows, labels].
        temperature: T.
        reduction: "mean" divides by the number of rows.

    Returns:
        Scalar.
    """
    student, targets = wide(student) / temperature, torch.sigmoid(wide(teacher.detach()) / temperature)
    total = F.binary_cross_entropy_with_logits(student, targets.to(student.dtype), reduction="sum")
    return reduced(total / student.shape[1], len(student), reduction)


def soft_mse(student: Tensor, teacher: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean") -> Tensor:
    """Squared difference of student / T and teacher / T, the mean over the outputs of a row.

    Arguments and denominator as for `soft_binary_cross_entropy`; with the weight's factor T^2 the temperature
    cancels.
    """
    student, teacher = wide(student) / temperature, wide(teacher.detach()) / temperature
    total = F.mse_loss(student, teacher.to(student.dtype), reduction="sum")
    return reduced(total / student.shape[1], len(student), reduction)
