"""Losses of distillation: pure functions of (student, teacher, mask).

They follow four rules:

* The teacher is detached: no gradient reaches it, whatever it requires.
* `reduction="sum"` gives the sum, `"mean"` (the default) divides it by the denominator that
  the docstring states. Micro-batches compose by sums: divide each by the denominator of the
  whole step, which the functions below count from the masks alone.
* They compute in float32, or in float64 if given float64, and return that type.
* Nothing to compare (an empty mask) is 0, with zero gradients.

Where the published scripts take padding into a mean, `published=True` does as they do; the
default compares real tokens only and does not change with the length that a batch is padded to.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from compact_biomed.engine.kernels import cross_entropy
from compact_biomed.objectives import IGNORED

# ---- Denominators of the losses, from masks alone, and how a sum becomes a mean.
#
# A mask is [batch, length], true (or 1) on real tokens. Counts are int64 scalars on the mask's
# device: nothing waits for a GPU.


Reduction = Literal["sum", "mean"]


def tokens(mask: Tensor) -> Tensor:
    """Count real tokens, |N|."""
    return mask.bool().sum()


def pairs(mask: Tensor) -> Tensor:
    """Count the cells of one head's attention maps whose row and column are real: the sum of squared lengths."""
    return mask.bool().sum(1).square().sum()


def padded_rows(mask: Tensor) -> Tensor:
    """Count the cells of the real rows of one head's maps, padded columns included: |N| x length."""
    return tokens(mask) * mask.shape[1]


def everything(mask: Tensor) -> Tensor:
    """Count positions, padding included: batch x length."""
    return torch.tensor(mask.numel(), device=mask.device)


def all_cells(mask: Tensor) -> Tensor:
    """Count the cells of one head's maps, padding included: batch x length x length."""
    return torch.tensor(mask.numel() * mask.shape[1], device=mask.device)


def reduced(total: Tensor, count: Tensor | int, reduction: Reduction) -> Tensor:
    """Return the sum, or the sum divided by its count; 0 where the count is 0."""
    if reduction == "sum":
        return total
    if reduction == "mean":
        return total / torch.as_tensor(count).clamp(min=1)
    raise ValueError(f"reduction must be 'sum' or 'mean', not {reduction!r}")


def wide(x: Tensor) -> Tensor:
    """Return x in float32, or in float64 if it has that type."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


# ---- Losses on the vocabulary head's logits.
#
# Logits are those of the masked positions M alone, [rows, vocabulary]; a mask of the leading
# dimensions selects rows where there are more.


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
    """Return KL(softmax(teacher / T) || softmax(student / T)) in nats.

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
    """Return -softmax(teacher / T) . log softmax(student / T) in nats: `soft_kl` plus the teacher's entropy.

    Arguments and denominator as for `soft_kl`.
    """
    return _soft(student, teacher, mask, temperature, reduction, minus_entropy=False)


def mlm_cross_entropy(student: Tensor, labels: Tensor, *, reduction: Reduction = "mean") -> Tensor:
    """Return the cross-entropy of masked-language modeling in nats.

    Args:
        student: logits [..., vocabulary].
        labels: [...], int64; -100 where no loss is taken.
        reduction: "mean" divides by the number of labels.

    Returns:
        Scalar.
    """
    labeled = labels != IGNORED
    targets = labels[labeled]
    total, _ = cross_entropy(student[labeled], targets)
    return reduced(total, len(targets), reduction)


# ---- Losses on hidden states: the embeddings' output or a layer's.


def hidden_cosine(
    student: Tensor,
    teacher: Tensor,
    mask: Tensor | None = None,
    *,
    projection: Callable[[Tensor], Tensor] | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return 1 - cosine of each token's two states (paper: DistilBioBERT, CompactBioBERT).

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
    """Return the squared difference of states, the student's projected (TinyBERT, Jiao et al. 2020, equations 8 and 9).

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


# ---- Losses on the maps of self-attention: probabilities and raw scores (relations: `objectives.relations`).
#
# Maps are [batch, heads, length, length] with queries in rows, of equal shape for student and
# teacher; the mask is [batch, length], true (or 1) on real tokens.


_FLOOR = 1e-12  # added to probabilities before their logarithm (paper: CompactBioBERT's script)
_SCORE_THRESHOLD = -1e2  # TinyBERT's script takes scores from here down for masked ones


def _blank(mask: Tensor, *, columns: bool) -> Tensor:
    """Return the cells that are not compared, bool, broadcastable to maps: padded rows, with `columns` also columns."""
    padded = ~mask.bool()
    rows = padded[:, None, :, None]
    return rows | padded[:, None, None, :] if columns else rows


def attention_kl(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Return KL(teacher || student) in nats of each token's attention distribution (paper: CompactBioBERT).

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
    count = padded_rows(mask) if published else tokens(mask)
    return reduced(F.kl_div(student.log(), teacher, reduction="sum"), count * student.shape[1], reduction)


def attention_mse(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Return the squared difference of attention probabilities (paper: TinyBioBERT).

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
    count = all_cells(mask) if published else pairs(mask)
    return reduced(F.mse_loss(student, teacher, reduction="sum"), count * student.shape[1], reduction)


def attention_score_mse(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Return the squared difference of raw scores Q K^T / sqrt(head width) (TinyBERT, equation 7).

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


# ---- The attention losses computed from raw scores: the same values, several passes over memory fewer.
#
# The gradient with respect to the scores is made while both distributions are at hand (for KL
# it is their difference), document by document, so that what is in float32 stays in the cache.
# Only that gradient is kept, in the type of the scores.


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
    """Return `attention_kl` of softmax(scores), without its 1e-12: no probability here is exactly 0 but on padding.

    Args:
        student, teacher: scores [batch, heads, length, length] with the padding mask added.
        mask, published, reduction: as for `attention_kl`.
    """
    total = _FromScores.apply(student, teacher.detach(), mask.bool()[:, None, :], _kl)
    count = padded_rows(mask) if published else tokens(mask)
    return reduced(total, count * student.shape[1], reduction)


def attention_mse_from_scores(
    student: Tensor, teacher: Tensor, mask: Tensor, *, published: bool = False, reduction: Reduction = "mean"
) -> Tensor:
    """Return `attention_mse` of softmax(scores).

    Args:
        student, teacher: scores [batch, heads, length, length] with the padding mask added.
        mask, published, reduction: as for `attention_mse`.
    """
    rows = torch.ones_like(mask, dtype=torch.bool) if published else mask.bool()
    total = _FromScores.apply(student, teacher.detach(), rows[:, None, :], _mse)
    count = all_cells(mask) if published else pairs(mask)
    return reduced(total, count * student.shape[1], reduction)


# ---- Losses on the logits of task heads whose outputs are not the classes of one softmax.


def soft_binary_cross_entropy(
    student: Tensor, teacher: Tensor, *, temperature: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Return the binary cross-entropy with sigmoid(teacher / T) as soft targets of sigmoid(student / T), in nats.

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
    """Return the squared difference of student / T and teacher / T, the mean over the outputs of a row.

    Arguments and denominator as for `soft_binary_cross_entropy`; with the weight's factor T^2 the temperature
    cancels.
    """
    student, teacher = wide(student) / temperature, wide(teacher.detach()) / temperature
    total = F.mse_loss(student, teacher.to(student.dtype), reduction="sum")
    return reduced(total / student.shape[1], len(student), reduction)


# ---- What divides the sums above, for the losses that compare layers: to add a loss, add its denominator here.


class Denominator(NamedTuple):
    """What a loss divides its sum by.

    Args:
        count: mask -> positions or cells compared.
        with_padding: the same where padding enters the mean; None: the loss has no such form.
        times: "heads" of the student (relation heads where a term states them), "width" of the teacher, or nothing.
    """

    count: Callable[[Tensor], Tensor]
    with_padding: Callable[[Tensor], Tensor] | None = None
    times: Literal["heads", "width", ""] = ""


DENOMINATORS = {
    "hidden_cosine": Denominator(tokens),
    "hidden_mse": Denominator(tokens, everything, "width"),
    "attention_kl": Denominator(tokens, padded_rows, "heads"),
    "attention_mse": Denominator(pairs, all_cells, "heads"),
    "attention_score_mse": Denominator(pairs, all_cells, "heads"),
    "query_relation_kl": Denominator(tokens, None, "heads"),
    "key_relation_kl": Denominator(tokens, None, "heads"),
    "value_relation_kl": Denominator(tokens, None, "heads"),
}
