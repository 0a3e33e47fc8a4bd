"""Losses on hidden states: the embeddings' output or a layer's."""

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F

from compact_biomed.objectives.losses.counts import Reduction, reduced, wide


def hidden_cosine(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    projection: Callable[[Tensor], Tensor] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """1 - cosine of each token's two states (paper: DistilBioBERT, CompactBioBERT).

    DistilBERT's loss (Sanh et al. 2019, section 2).

    Args:
        student: [..., student width].
        teacher: [..., teacher width].
        mask: [...], true on real tokens; None if all are.
        projection: student width -> teacher width, called on the student's rows in their own
            type; None where the widths are equal.
        reduction: "mean" divides by the number of real tokens.

    Returns:
        Scalar.
    """
    if mask is not None:
        student, teacher = student[mask.bool()], teacher[mask.bool()]
    if projection is not None:
        student = projection(student)
    cosine = F.cosine_similarity(wide(student), wide(teacher.detach()), dim=-1)
    return reduced((1 - cosine).sum(), cosine.numel(), reduction)


def hidden_mse(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    projection: Callable[[Tensor], Tensor] | None = None,
    published: bool = False,
    reduction: Reduction = "mean",
) -> Tensor:
    """Squared difference of states, the student's projected (TinyBERT, Jiao et al. 2020, equations 8 and 9).

    Args:
        student: [..., student width].
        teacher: [..., teacher width].
        mask: [...], true on real tokens; None if all are.
        projection: as for `hidden_cosine`.
        published: compare the states of padding too (paper: TinyBioBERT's script).
        reduction: "mean" divides by tokens x teacher width (`published`: positions x teacher width).

    Returns:
        Scalar.
    """
    if mask is not None and not published:
        student, teacher = student[mask.bool()], teacher[mask.bool()]
    if projection is not None:
        student = projection(student)
    total = F.mse_loss(wide(student), wide(teacher.detach()), reduction="sum")
    return reduced(total, teacher.numel(), reduction)
