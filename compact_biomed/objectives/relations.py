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


class _RelationKL(torch.autograd.Function):
    """Summed KL between relations, document by document: the maps of one document fit into the cache.

    Only the gradients by the vectors are kept, in the type of the vectors. Of the maps, none outlives its document.
    """

    @staticmethod
    def forward(ctx, left: Tensor, right: Tensor, left_t: Tensor, right_t: Tensor, mask: Tensor) -> Tensor:
        dtype = torch.promote_types(left.dtype, torch.float32)
        total = torch.zeros((), dtype=dtype, device=left.device)
        gradients = [torch.zeros_like(x) for x in (left, right)]
        for document, real in enumerate(mask.bool()):
            a, b, a_t, b_t = (x[document][:, real].to(dtype) for x in (left, right, left_t, right_t))
            log_s, log_t = (
                torch.log_softmax(x @ y.transpose(-1, -2) * x.shape[-1] ** -0.5, -1) for x, y in ((a, b), (a_t, b_t))
            )
            p_t = log_t.exp()
            total += (p_t * (log_t - log_s)).sum()
            of_scores = log_s.exp_().sub_(p_t).mul_(a.shape[-1] ** -0.5)
            for gradient, x in zip(gradients, (of_scores @ b, of_scores.transpose(-1, -2) @ a), strict=True):
                gradient[document, :, real] = x.to(gradient.dtype)
        ctx.save_for_backward(*gradients)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return *(x * gradient.to(x.dtype) for x in ctx.saved_tensors), None, None, None


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
