"""Relation distillation: a loss between what self-attention relates in one layer of each model.

A relation is softmax(X X^T / sqrt(width)), where X holds the queries, the keys or the values of one relation head: how
much each token of a document resembles each other one (MiniLMv2, Wang et al. 2021). It does not depend on the width of
X, and relation heads do not depend on attention heads. So the two models need neither equal widths, nor equal heads,
nor a layer map.

The rules of `objectives.losses` hold here too.
"""

import torch
from torch import Tensor

from compact_biomed.objectives.losses import Reduction, reduced, tokens


def relation_heads(vectors: Tensor, heads: int | None) -> Tensor:
    """Split the vectors of all attention heads anew into relation heads (MiniLMv2, Wang et al. 2021, section 3.1).

    The vectors of a token are concatenated over its attention heads and cut into `heads` equal pieces. Student and
    teacher then have equally many relation heads, whatever their widths and attention heads are.

    Args:
        vectors: [batch, attention heads, length, head width].
        heads: their number, a divisor of the whole width; None: the attention heads as they are.

    Returns:
        [batch, heads, length, whole width / heads].
    """
    if heads in (None, vectors.shape[1]):
        return vectors
    return vectors.transpose(1, 2).flatten(2).unflatten(2, (heads, -1)).transpose(1, 2)


# Cells of the maps that are computed at once: the three maps in float32 stay in a core's cache.
_CELLS = 2**18


class _RelationKL(torch.autograd.Function):
    """Summed KL between relations, a few relation heads of one document at a time.

    Only the gradients by the vectors are kept, in the type of the vectors; no map outlives its turn.
    """

    @staticmethod
    def forward(ctx, left: Tensor, right: Tensor, left_t: Tensor, right_t: Tensor, mask: Tensor) -> Tensor:
        dtype = torch.promote_types(left.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype, device=left.device)
        gradients = [torch.zeros_like(x) for x in (left, right)]
        for document, real in enumerate(mask.bool()):
            vectors = [x[document][:, real].to(dtype) for x in (left, right, left_t, right_t)]
            at_once = max(_CELLS // max(vectors[0].shape[1] ** 2, 1), 1)
            parts = [_kl_and_gradients(*some) for some in zip(*(x.split(at_once) for x in vectors), strict=True)]
            for value, *_ in parts:
                total += value
            for gradient, of_heads in zip(gradients, zip(*(part[1:] for part in parts), strict=True), strict=True):
                gradient[document][:, real] = torch.cat(of_heads).to(gradient.dtype)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return *(x * gradient.to(x.dtype) for x in ctx.saved_tensors), None, None, None


def _kl_and_gradients(a: Tensor, b: Tensor, a_t: Tensor, b_t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the summed KL of the relations of (a_t, b_t) to those of (a, b), and its gradients by a and b.

    Args:
        a, b, a_t, b_t: [heads, tokens, width]; the widths of student and teacher may differ.
    """
    scaled, scaled_t = (x * x.shape[-1] ** -0.5 for x in (a, a_t))
    log_s, log_t = (torch.log_softmax(x @ y.mT, -1) for x, y in ((scaled, b), (scaled_t, b_t)))
    p_t = log_t.exp()
    value = torch.dot(p_t.flatten(), log_t.sub_(log_s).flatten())
    of_scores = log_s.exp_().sub_(p_t)
    return value, of_scores @ b * b.shape[-1] ** -0.5, of_scores.mT @ scaled


def relation_kl(
    student: tuple[Tensor, Tensor],
    teacher: tuple[Tensor, Tensor],
    mask: Tensor,
    *,
    heads: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return KL(teacher || student) in nats of softmax(A B^T / sqrt(head width)) over real tokens.

    (queries, queries), (keys, keys) and (values, values) are the self-attention relations of MiniLMv2 (Wang et al.
    2021, section 3.1). (values, values) by attention head is also the value-relation transfer of MiniLM (Wang et al.
    2020, equations 5 to 7), and (queries, keys) its attention transfer, equation 4.

    Args:
        student, teacher: (A, B), each [batch, attention heads, length, head width], finite; queries not scaled.
        mask: [batch, length].
        heads: relation heads, see `relation_heads`; None: the attention heads, of which both must have equally many.
        reduction: "mean" divides by relation heads x tokens.

    Returns:
        Scalar.
    """
    of_student, of_teacher = ([relation_heads(x, heads) for x in pair] for pair in (student, teacher))
    total = _RelationKL.apply(*of_student, *(x.detach() for x in of_teacher), mask)
    return reduced(total, tokens(mask) * of_student[0].shape[1], reduction)
