"""Lookup, linear layer, feed-forward and cross-entropy for training on CPUs: the same mathematics, fewer passes over
memory."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import GELUActivation

from compact_biomed.engine import compiled
from compact_biomed.engine.dropout import KEPT_BYTES, dropout_add, random_key

_local = threading.local()


class _Lookup(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table: Tensor, ids: Tensor, padding_id: int | None) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.table, ctx.shape, ctx.padding_id = table.data_ptr(), table.shape, padding_id
        return table.index_select(0, ids.flatten()).view(*ids.shape, -1)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (ids,) = ctx.saved_tensors
        ids, rows = ids.flatten(), gradient.reshape(-1, gradient.shape[-1])
        if ctx.padding_id is not None:
            real = ids != ctx.padding_id
            ids, rows = ids[real], rows[real]
        collected = getattr(_local, "lookups", None)
        if collected is not None:
            collected.append((ctx.table, ids, rows))
            return None, None, None
        return rows.new_zeros(ctx.shape).index_add_(0, ids, rows), None, None


def lookup(table: Tensor, ids: Tensor, padding_id: int | None = None) -> Tensor:
    """Rows of an embedding table, as `torch.nn.functional.embedding`: ids [...] -> [..., width]."""
    return _Lookup.apply(table, ids, padding_id)


@contextmanager
def collected_lookups() -> Iterator[list[tuple[int, Tensor, Tensor]]]:
    """Within the block, backward passes of this thread leave the tables' gradients as the rows that they are.

    A micro-batch looks up a thousand rows of a table of thirty thousand: the full-sized
    gradient would be filled with zeros, added to the decoder's and added up, for nothing.

    Yields:
        A list that fills with (the table's data_ptr(), ids [n], gradient rows [n, width]).
    """
    before = getattr(_local, "lookups", None)
    _local.lookups = []
    try:
        yield _local.lookups
    finally:
        _local.lookups = before


@contextmanager
def gradients_into(places: dict[int, Tensor]) -> Iterator[None]:
    """Within the block, backward passes of this thread write gradients of matrices where one wants them.

    Args:
        places: by a matrix's data_ptr(), memory of its shape, type and layout. What is used is taken out.
    """
    before = getattr(_local, "places", None)
    _local.places = places
    try:
        yield
    finally:
        _local.places = before


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.addmm(bias, x, weight.t())

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        return gradient @ weight, _like(weight, gradient, x), gradient.sum(0)


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """x W^T + b of x [..., inputs], as `torch.nn.functional.linear`."""
    # Where its gradient goes is asked again in the backward pass: another use of the weight may have taken the place.
    wanted = getattr(_local, "places", None) and x.dim() == 2
    return _Linear.apply(x, weight, bias) if wanted else F.linear(x, weight, bias)


class _FeedForward(torch.autograd.Function):
    """activation(x W1^T + b1) W2^T + b2; a large activation is made again in the backward pass, not kept."""

    @staticmethod
    def forward(ctx, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation) -> Tensor:
        inner = torch.addmm(b1, x, w1.t())
        ctx.activation = activation
        inner, activated = _activated(activation, inner)
        ctx.save_for_backward(x, inner.detach(), w1, w2)
        ctx.kept = (inner, activated) if inner.nbytes <= KEPT_BYTES else None
        return torch.addmm(b2, activated.detach(), w2.t())

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, inner, w1, w2 = ctx.saved_tensors
        inner, activated = ctx.kept or _activated(ctx.activation, inner)
        gradient_w2 = _like(w2, gradient, activated.detach())
        gradient_inner = gradient @ w2
        if isinstance(ctx.activation, GELUActivation) and compiled.usable(gradient_inner):
            gradient_b1 = gradient_inner.new_empty(gradient_inner.shape[1])
            compiled.call("rowwise", "gelu_backward", inner, gradient_inner, gradient_b1)
        else:
            (gradient_inner,) = torch.autograd.grad(activated, inner, gradient_inner, retain_graph=ctx.kept is not None)
            gradient_b1 = gradient_inner.sum(0)
        return (
            gradient_inner @ w1,
            _like(w1, gradient_inner, x),
            gradient_b1,
            gradient_w2,
            gradient.sum(0),
            None,
        )


def _like(weight: Tensor, gradient: Tensor, x: Tensor) -> Tensor | None:
    """The gradient of a weight of x W^T, laid out in memory as the weight is; None if it has been put where it goes."""
    by_rows = weight.is_contiguous()
    places = getattr(_local, "places", None) or {}
    place = places.get(weight.data_ptr())
    if place is not None and place.shape == weight.shape:  # not that of a matrix of which these are the first rows
        del places[weight.data_ptr()]
        torch.mm(gradient.t(), x, out=place) if by_rows else torch.mm(x.t(), gradient, out=place.t())
        return None
    return gradient.t() @ x if by_rows else (x.t() @ gradient).t()


def _activated(activation, inner: Tensor) -> tuple[Tensor, Tensor]:
    """An activation's input and value, of which the derivative can be taken."""
    with torch.enable_grad():
        inner = inner.detach().requires_grad_()
        return inner, activation(inner)


def feed_forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation) -> Tensor:
    """Two projections with an activation between them: x [tokens, hidden] -> [tokens, hidden]."""
    return _FeedForward.apply(x, w1, b1, w2, b2, activation)


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose gradient is made while the softmax is at hand."""

    @staticmethod
    def forward(ctx, logits: Tensor, targets: Tensor):
        if len(targets) == 0:
            ctx.save_for_backward(torch.zeros_like(logits))
            return logits.new_zeros((), dtype=torch.promote_types(logits.dtype, torch.float32)), targets.new_zeros(())
        highest, best = logits.max(-1)
        softmax = torch.softmax(logits, -1, dtype=torch.promote_types(logits.dtype, torch.float32))
        # log Z = highest - log softmax(highest): exact where the target's own softmax would underflow.
        log_z = highest.to(softmax.dtype) - softmax.gather(1, best[:, None]).squeeze(1).log()
        target_logits = logits.gather(1, targets[:, None]).squeeze(1).to(softmax.dtype)
        softmax.scatter_add_(1, targets[:, None], softmax.new_full((len(targets), 1), -1.0))
        ctx.save_for_backward(softmax.to(logits.dtype))
        correct = (best == targets).sum()
        ctx.mark_non_differentiable(correct)
        return (log_z - target_logits).sum(), correct

    @staticmethod
    def backward(ctx, gradient: Tensor, _):
        (derivative,) = ctx.saved_tensors
        return derivative * gradient.to(derivative.dtype), None


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in nats, and the number of targets with the highest logit.

    Args:
        logits: [rows, classes]; the softmax is computed in float32 or wider.
        targets: [rows], int64.

    Returns:
        Two scalars: the sum (0 without rows), float32 or wider, and a count, int64.
    """
    return _CrossEntropy.apply(logits, targets)


# ----------------------------------------------------------------------------------------------------
# LayerNorm of a residual sum with dropout, as it stands behind attention and behind the feed-forward.


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, p: float) -> Tensor:
        ctx.drawn = random_key(p)
        normed, y = torch.empty_like(x), torch.empty_like(x)
        deviations = x.new_empty(len(x), dtype=torch.float32)
        arguments = (x, residual, weight, bias, np.float32(eps), *ctx.drawn, normed, deviations, y)
        compiled.call("rowwise", "norm_forward", *arguments)
        ctx.save_for_backward(normed, deviations, weight)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradient = gradient.contiguous()
        normed, deviations, weight = ctx.saved_tensors
        found = [torch.empty_like(x) for x in (gradient, gradient, weight, weight)]
        compiled.call("rowwise", "norm_backward", gradient, normed, deviations, weight, *ctx.drawn, *found)
        return *found, None, None


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, eps: float, p: float, training: bool
) -> Tensor:
    """LayerNorm(dropout(x) + residual).

    Args:
        x, residual: [rows, width].
        weight, bias: [width].
        eps: of LayerNorm.
        p: drop probability, in training.
    """
    if training and compiled.usable(x, residual, weight, bias):
        return _AddNorm.apply(x.contiguous(), residual.contiguous(), weight, bias, eps, p)
    return F.layer_norm(dropout_add(x, residual, p, training), x.shape[-1:], weight, bias, eps)
