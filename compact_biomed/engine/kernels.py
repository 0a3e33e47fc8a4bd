"""The operations of an encoder apart from attention, with fewer passes over memory than torch's.

* `lookup`: the gradient of an embedding table can stay the rows that it is, instead of a table of zeros.
* `linear`, `feed_forward`: the gradient of a matrix can be written straight to where it is summed, and in the layout of
  the matrix. A large activation is recomputed in the backward pass, because storing it costs more time.
* `cross_entropy`: loss, gradient and accuracy from one softmax.
* `add_norm`: dropout, residual and LayerNorm in one pass over the rows, forward and backward (`compiled.rowwise`).
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import GELUActivation

from compact_biomed.engine import compiled
from compact_biomed.engine.dropout import MAX_SAVED_BYTES, dropout_add, random_key

_local = threading.local()


# ---- Embedding lookup


def lookup(table: Tensor, ids: Tensor, padding_id: int | None = None) -> Tensor:
    """Return rows of an embedding table, as `torch.nn.functional.embedding`: ids [...] -> [..., width]."""
    return _Lookup.apply(table, ids, padding_id)


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


@contextmanager
def collected_lookups() -> Iterator[list[tuple[int, Tensor, Tensor]]]:
    """Collect the gradients of embedding tables as rows, in the backward passes of this thread within the block.

    A micro-batch looks up a thousand rows of a table of thirty thousand. A gradient of the table's size would be
    filled with zeros, added to that of the decoder and summed over micro-batches to no purpose.

    Yields:
        A list that fills with (the table's data_ptr(), ids [n], gradient rows [n, width]).
    """
    before = getattr(_local, "lookups", None)
    _local.lookups = []
    try:
        yield _local.lookups
    finally:
        _local.lookups = before


# ---- Linear layer and feed-forward block


@contextmanager
def gradients_into(buffers: dict[int, Tensor]) -> Iterator[None]:
    """Write gradients of matrices to given memory, in the backward passes of this thread within the block.

    Args:
        buffers: by a matrix's data_ptr(), memory of its shape, type and layout. A buffer that has been written is
            removed from the dictionary.
    """
    before = getattr(_local, "buffers", None)
    _local.buffers = buffers
    try:
        yield
    finally:
        _local.buffers = before


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return x W^T + b for x [..., inputs], as `torch.nn.functional.linear`."""
    # The backward pass looks for the buffer again: another use of the weight may have taken it by then.
    has_buffers = getattr(_local, "buffers", None) and x.dim() == 2
    return _Linear.apply(x, weight, bias) if has_buffers else F.linear(x, weight, bias)


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.addmm(bias, x, weight.t())

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, weight = ctx.saved_tensors
        return gradient @ weight, _weight_gradient(weight, gradient, x), gradient.sum(0)


def feed_forward(x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation) -> Tensor:
    """Apply two projections with an activation between them: x [tokens, hidden] -> [tokens, hidden]."""
    return _FeedForward.apply(x, w1, b1, w2, b2, activation)


class _FeedForward(torch.autograd.Function):
    """activation(x W1^T + b1) W2^T + b2; a large activation is recomputed in the backward pass, not saved."""

    @staticmethod
    def forward(ctx, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation) -> Tensor:
        inner = torch.addmm(b1, x, w1.t())
        ctx.activation = activation
        inner, activated = _activated(activation, inner)
        ctx.save_for_backward(x, inner.detach(), w1, w2)
        ctx.saved_activation = (inner, activated) if inner.nbytes <= MAX_SAVED_BYTES else None
        return torch.addmm(b2, activated.detach(), w2.t())

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, inner, w1, w2 = ctx.saved_tensors
        saved = ctx.saved_activation
        inner, activated = saved or _activated(ctx.activation, inner)
        gradient_w2 = _weight_gradient(w2, gradient, activated.detach())
        gradient_inner = gradient @ w2
        if isinstance(ctx.activation, GELUActivation) and compiled.usable(gradient_inner):
            gradient_b1 = gradient_inner.new_empty(gradient_inner.shape[1])
            compiled.call("rowwise", "gelu_backward", inner, gradient_inner, gradient_b1)
        else:
            (gradient_inner,) = torch.autograd.grad(activated, inner, gradient_inner, retain_graph=saved is not None)
            gradient_b1 = gradient_inner.sum(0)
        gradient_x = gradient_inner @ w1
        gradient_w1 = _weight_gradient(w1, gradient_inner, x)
        return gradient_x, gradient_w1, gradient_b1, gradient_w2, gradient.sum(0), None


def _activated(activation, inner: Tensor) -> tuple[Tensor, Tensor]:
    """Return an activation's input and value, which can be differentiated."""
    with torch.enable_grad():
        inner = inner.detach().requires_grad_()
        return inner, activation(inner)


def _weight_gradient(weight: Tensor, gradient: Tensor, x: Tensor) -> Tensor | None:
    """Return the gradient of the weight of x W^T in the weight's memory layout; None if it went to its buffer."""
    by_rows = weight.is_contiguous()
    buffers = getattr(_local, "buffers", None) or {}
    buffer = buffers.get(weight.data_ptr())
    if buffer is not None and buffer.shape == weight.shape:  # not that of a matrix whose first rows these are
        del buffers[weight.data_ptr()]
        torch.mm(gradient.t(), x, out=buffer) if by_rows else torch.mm(x.t(), gradient, out=buffer.t())
        return None
    return gradient.t() @ x if by_rows else (x.t() @ gradient).t()


# ---- Cross-entropy


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the summed cross-entropy in nats, and the number of targets with the highest logit.

    Args:
        logits: [rows, classes]; the softmax is computed in float32 or wider.
        targets: [rows], int64.

    Returns:
        Two scalars: the sum (0 without rows), float32 or wider, and a count, int64.
    """
    return _CrossEntropy.apply(logits, targets)


class _CrossEntropy(torch.autograd.Function):
    """Summed cross-entropy whose gradient is computed in the forward pass, from the same softmax."""

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


# ---- LayerNorm of a residual sum


def add_norm(
    x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, *, eps: float, p: float, training: bool
) -> Tensor:
    """Return LayerNorm(dropout(x) + residual), which follows attention and feed-forward in BERT.

    Args:
        x, residual: [rows, width].
        weight, bias: [width].
        eps: of LayerNorm.
        p: drop probability, in training.
    """
    if training and compiled.usable(x, residual, weight, bias):
        return _AddNorm.apply(x.contiguous(), residual.contiguous(), weight, bias, eps, p)
    return F.layer_norm(dropout_add(x, residual, p, training), x.shape[-1:], weight, bias, eps)


class _AddNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor, weight: Tensor, bias: Tensor, eps: float, p: float) -> Tensor:
        ctx.dropout = random_key(p)
        normed, y = torch.empty_like(x), torch.empty_like(x)
        deviations = x.new_empty(len(x), dtype=torch.float32)
        arguments = (x, residual, weight, bias, np.float32(eps), *ctx.dropout, normed, deviations, y)
        compiled.call("rowwise", "norm_forward", *arguments)
        ctx.save_for_backward(normed, deviations, weight)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradient = gradient.contiguous()
        normed, deviations, weight = ctx.saved_tensors
        gradients = [torch.empty_like(x) for x in (gradient, gradient, weight, weight)]
        compiled.call("rowwise", "norm_backward", gradient, normed, deviations, weight, *ctx.dropout, *gradients)
        return *gradients, None, None
