"""Losses on what self-attention computes: probabilities, raw scores, and relations between vectors.

Maps are [batch, heads, length, length] with queries in rows, of equal shape for student and
teacher; the mask is [batch, length], true (or 1) on real tokens.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from compact_biomed.objectives.losses import counts
from compact_biomed.objectives.losses.counts import Reduction, reduced, wide

_FLOOR = 1e-12  # added to probabilities before their logarithm (paper: CompactBioBERT's script)
_SCORE_THRESHOLD = -1e2  # TinyBERT's script takes scores from here down for masked ones


def _blank(mask: Tensor, *, columns: bool) -> Tensor:
    """Cells that are not compared: padded rows, and with `columns` padded columns; bool, broadcastable to maps."""
    padded = ~mask.bool()
    rows = padded[:, None, :, None]
    return rows | padded[:, None, None, :] if columns else rows


def attention_kl(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """KL(teacher || student) in nats of each token's attention distribution (paper: CompactBioBERT).

    1e-12 is added to probabilities before the logarithm, as published, so that a cell cleared
    by dropout or rounded to 0 stays finite.

    Args:
        student, teacher: probabilities [batch, heads, length, length].
        mask: [batch, length].
        published: compare padded columns of real rows too. Where both maps are 0 there, the
            sum is the same and only the denominator grows.
        reduction: "mean" divides by heads x tokens (MiniLM, Wang et al. 2020, equation 4);
            `published` by heads x tokens x padded length, as the script's "mean" does.

    Returns:
        Scalar.
    """
    blank = _blank(mask, columns=not published)
    # Cells that are not compared become equal, hence 0, whatever stood there.
    student = wide(student).masked_fill(blank, 0) + _FLOOR
    teacher = wide(teacher.detach()).masked_fill(blank, 0) + _FLOOR
    count = counts.padded_rows(mask) if published else counts.tokens(mask)
    return reduced(F.kl_div(student.log(), teacher, reduction="sum"), count * student.shape[1], reduction)


def attention_mse(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Squared difference of attention probabilities (paper: TinyBioBERT).

    Args:
        student, teacher: probabilities [batch, heads, length, length].
        mask: [batch, length].
        published: compare every cell, rows and columns of padding included.
        reduction: "mean" divides by the number of cells compared: heads x the sum of squared
            lengths (`published`: batch x heads x length x length).

    Returns:
        Scalar.
    """
    student, teacher = wide(student), wide(teacher.detach())
    if not published:
        blank = _blank(mask, columns=True)
        student, teacher = student.masked_fill(blank, 0), teacher.masked_fill(blank, 0)
    count = counts.all_cells(mask) if published else counts.pairs(mask)
    return reduced(F.mse_loss(student, teacher, reduction="sum"), count * student.shape[1], reduction)


def attention_score_mse(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Squared difference of raw scores Q K^T / sqrt(head width) (TinyBERT, equation 7).

    Args:
        student, teacher: scores before the softmax, [batch, heads, length, length]; `published`
            expects the padding mask (a large negative number) added to them.
        mask: [batch, length].
        published: as TinyBERT's own script: scores of -100 and below count as 0, and every cell
            is compared, rows of padding included.
        reduction: denominators as for `attention_mse`.

    Returns:
        Scalar.
    """
    if published:
        student = student.masked_fill(student <= _SCORE_THRESHOLD, 0)
        teacher = teacher.masked_fill(teacher <= _SCORE_THRESHOLD, 0)
    return attention_mse(student, teacher, mask, published=published, reduction=reduction)


def _log_relation(left: Tensor, right: Tensor, padded: Tensor) -> Tensor:
    """log softmax(left right^T / sqrt(width)) over real columns; padded columns are -inf."""
    scores = wide(left) @ wide(right).transpose(-1, -2) * left.shape[-1] ** -0.5
    # A document of padding alone has no real column: its rows stay finite and are not counted.
    return scores.masked_fill(padded & ~padded.all(-1, keepdim=True), -torch.inf).log_softmax(-1)


def relation_kl(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    mask: Tensor,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """KL(teacher || student) in nats of softmax(A B^T / sqrt(head width)) (MiniLM, Wang et al. 2020, section 3).

    (values, values) is the value-relation transfer, equations 5 to 7; (queries, keys) is the
    attention transfer, equation 4. The widths of student and teacher may differ. So may their
    numbers of attention heads, if both are split anew into equally many relation heads
    (MiniLMv2, Wang et al. 2021, section 3.1).

    Args:
        student, teacher: (A, B), each [batch, relation heads, length, head width], finite.
        mask: [batch, length].
        reduction: "mean" divides by relation heads x tokens.

    Returns:
        Scalar.
    """
    padded = ~mask.bool()[:, None, None, :]
    log_s = _log_relation(*student, padded)
    log_t = _log_relation(*(x.detach() for x in teacher), padded)
    blank = _blank(mask, columns=True)
    log_s, log_t = log_s.masked_fill(blank, 0), log_t.masked_fill(blank, 0)
    total = F.kl_div(log_s, log_t, reduction="sum", log_target=True)
    return reduced(total, counts.tokens(mask) * log_s.shape[1], reduction)
