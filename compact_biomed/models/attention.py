"""Attention for training on CPUs, with dropout on the probabilities: the same mathematics, fewer passes over memory.

torch's own leaves its fused kernel as soon as dropout is on.
"""

from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor

from compact_biomed.models.dropout import Mask, clear


class _Attention(torch.autograd.Function):
    """softmax(q k^T + bias) with dropout, times v; and the maps that are wanted besides."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, wanted: tuple[str, ...]):
        batch, heads, rows, width = q.shape
        columns = k.shape[2]
        q, k, v = (x.reshape(batch * heads, x.shape[2], x.shape[3]) for x in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2))
        if bias is not None:
            scores.view(batch, heads, rows, columns).add_(bias)
        ctx.scale, ctx.wanted = 1 / (1 - p), wanted
        probabilities, ctx.mask, dropped = dropped_softmax(scores, p)
        ctx.save_for_backward(q, k, v, probabilities)
        context = torch.bmm(dropped, v).mul_(ctx.scale).view(batch, heads, rows, width)
        maps = {"scores": lambda: scores, "attention": probabilities.clone, "dropped": lambda: dropped * ctx.scale}
        return (context, *(maps[name]().view(batch, heads, rows, columns) for name in wanted))

    @staticmethod
    def backward(ctx, gradient: Tensor, *gradients_seen: Tensor):
        q, k, v, probabilities = ctx.saved_tensors
        batch, heads, rows, width = gradient.shape
        gradient = gradient.reshape(batch * heads, rows, width)
        seen = {name: g.reshape(probabilities.shape) for name, g in zip(ctx.wanted, gradients_seen, strict=True)}
        if ctx.mask is not None:
            gradient = gradient * ctx.scale
        gradients = derivatives(gradient, q, k, v, probabilities, ctx.mask, ctx.scale, seen)
        return (*(x.view(batch, heads, -1, width) for x in gradients), None, None, None)


def dropped_softmax(scores: Tensor, p: float) -> tuple[Tensor, Mask | None, Tensor]:
    """Probabilities [maps, rows, columns], the mask of their dropout if any, and what it leaves, not scaled."""
    probabilities = torch.softmax(scores, -1)
    mask = Mask(probabilities.shape, probabilities.dtype, p) if p > 0 else None
    return probabilities, mask, probabilities if mask is None else clear(probabilities, mask())


def derivatives(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    probabilities: Tensor,
    mask: Mask | None,
    scale: float = 1.0,
    seen: Mapping[str, Tensor] = MappingProxyType({}),
    out: Sequence[Tensor | None] = (None, None, None),
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, each [maps, rows or columns, width].

    Args:
        gradient: of the context, times `scale` already.
        probabilities, mask: of `dropped_softmax`.
        scale: of what dropout leaves.
        seen: gradients of maps that were shown (`attention_and_maps`), like `probabilities`.
        out: where the gradients are written.
    """
    keep = None if mask is None else mask()
    dropped = probabilities if keep is None else clear(probabilities, keep)
    gradient_v = torch.bmm(dropped.transpose(1, 2), gradient, out=out[2])
    gradient_p = torch.bmm(gradient, v.transpose(1, 2))
    if "dropped" in seen:
        gradient_p.add_(seen["dropped"], alpha=scale)
    if keep is not None:
        gradient_p.view(keep.dtype).mul_(keep)
    if "attention" in seen:
        gradient_p.add_(seen["attention"])
    gradient_s = torch._softmax_backward_data(gradient_p, probabilities, -1, probabilities.dtype)
    if "scores" in seen:
        gradient_s.add_(seen["scores"])
    gradient_q = torch.bmm(gradient_s, k, out=out[0])
    return gradient_q, torch.bmm(gradient_s.transpose(1, 2), q, out=out[1]), gradient_v


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, p: float = 0.0) -> Tensor:
    """Dot-product attention with dropout on the probabilities.

    Args:
        q: [batch, heads, rows, width], scaled by width**-0.5 already.
        k, v: [batch, heads, columns, width].
        bias: added to the scores, broadcastable to [batch, heads, rows, columns]
            (the padding mask), or None.
        p: dropout probability; 0 outside training.

    Returns:
        [batch, heads, rows, width]
    """
    return _Attention.apply(q, k, v, bias, p, ())[0]


def attention_and_maps(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, p: float = 0.0, wanted: Iterable[str]
) -> tuple[Tensor, ...]:
    """`attention`, and what it went through: each [batch, heads, rows, columns], differentiable.

    Args:
        wanted: of "scores" (bias added), "attention" (probabilities) and "dropped" (probabilities
            after dropout, scaled), in the order in which they are returned.
    """
    return _Attention.apply(q, k, v, bias, p, tuple(wanted))
