"""Attention and dropout for training on CPUs: the same mathematics, fewer passes over memory.

torch's CPU dropout draws one Bernoulli number a cell, and its attention leaves the fused
kernel as soon as dropout is on; together they cost a third of a training step. Here random
bits come from numpy's SFC64, four 16-bit draws a word, and a dropped cell is zeroed by
multiplying the *bits* of the float by 0 or 1. The drop probability is exact to 2**-16.

Random numbers come from a generator that the caller sets for its thread
(`random_stream`), so that micro-batches computed side by side in threads draw the same
numbers in every run, whatever the threads' timing.
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

_local = threading.local()

# A float type and the integer type of the same width: multiplying the bits by 0 or 1 keeps or clears the number.
_BITS = {
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


@contextmanager
def random_stream(*key: int, modules: bool = False) -> Iterator[None]:
    """Within the block, this thread's dropout draws from a stream that `key` alone determines.

    Args:
        key: non-negative integers.
        modules: seed torch's own generator too, for modules that draw from it. It is one
            for all threads: then only one thread may be in such a block.
    """
    seeds = np.random.SeedSequence(key)
    before = getattr(_local, "generator", None)
    _local.generator = np.random.Generator(np.random.SFC64(seeds))
    if modules:
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
    try:
        yield
    finally:
        _local.generator = before


def draw_key() -> int:
    """A number from this thread's stream; it determines one dropout mask.

    The mask is made from it twice, forward and backward: that takes less time than the
    memory for it costs.
    """
    generator = getattr(_local, "generator", None)
    if generator is None:
        raise RuntimeError("dropout outside a random_stream block: its random numbers would not be reproducible")
    return int(generator.integers(0, 2**63))


def keep_mask(shape: torch.Size, dtype: torch.dtype, p: float, key: int) -> Tensor:
    """0/1 integers of the width of `dtype`: 0 with probability p (to 2**-16)."""
    n = shape.numel()
    words = np.random.Generator(np.random.SFC64(key)).integers(0, 2**64, (n + 3) // 4, dtype=np.uint64)
    draws = torch.from_numpy(words.view(np.int16)[:n]).view(shape)
    threshold = round(p * 65536) - 32768
    bits = _BITS[dtype]
    if bits is torch.int16:
        return torch.ge(draws, threshold, out=draws)
    return draws.ge(threshold).to(bits)


def _clear(values: Tensor, keep: Tensor) -> Tensor:
    """A copy of `values` with +-0 where keep is 0."""
    return (values.view(keep.dtype) * keep).view(values.dtype)


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        ctx.p, ctx.key, ctx.scale = p, draw_key(), 1 / (1 - p)
        return _clear(x, keep_mask(x.shape, x.dtype, p, ctx.key)).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        keep = keep_mask(gradient.shape, gradient.dtype, ctx.p, ctx.key)
        return _clear(gradient.contiguous(), keep).mul_(ctx.scale), None


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Inverted dropout, as `torch.nn.functional.dropout`."""
    return _Dropout.apply(x.contiguous(), p) if training and p > 0 else x


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` on the stream of `random_stream`; has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


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
        probabilities = torch.softmax(scores, -1)
        ctx.p, ctx.key, ctx.scale, ctx.wanted = p, draw_key() if p > 0 else 0, 1 / (1 - p), wanted
        keep = keep_mask(probabilities.shape, probabilities.dtype, p, ctx.key) if p > 0 else None
        dropped = probabilities if keep is None else _clear(probabilities, keep)
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
        keep = None
        if ctx.p > 0:
            gradient = gradient * ctx.scale
            keep = keep_mask(probabilities.shape, probabilities.dtype, ctx.p, ctx.key)
        dropped = probabilities if keep is None else _clear(probabilities, keep)
        gradient_v = torch.bmm(dropped.transpose(1, 2), gradient)
        gradient_p = torch.bmm(gradient, v.transpose(1, 2))
        if "dropped" in seen:
            gradient_p.add_(seen["dropped"], alpha=ctx.scale)
        if keep is not None:
            gradient_p.view(keep.dtype).mul_(keep)
        if "attention" in seen:
            gradient_p.add_(seen["attention"])
        gradient_s = torch._softmax_backward_data(gradient_p, probabilities, -1, probabilities.dtype)
        if "scores" in seen:
            gradient_s.add_(seen["scores"])
        shape = (batch, heads, -1, width)
        return (
            torch.bmm(gradient_s, k).view(shape),
            torch.bmm(gradient_s.transpose(1, 2), q).view(shape),
            gradient_v.view(shape),
            None,
            None,
            None,
        )


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


class _FeedForward(torch.autograd.Function):
    """activation(x W1^T + b1) W2^T + b2; the activation's value is made again in the backward pass, not kept."""

    @staticmethod
    def forward(ctx, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, activation) -> Tensor:
        inner = torch.addmm(b1, x, w1.t())
        ctx.save_for_backward(x, inner, w1, w2)
        ctx.activation = activation
        return torch.addmm(b2, activation(inner), w2.t())

    @staticmethod
    def backward(ctx, gradient: Tensor):
        x, inner, w1, w2 = ctx.saved_tensors
        with torch.enable_grad():
            inner = inner.detach().requires_grad_()
            activated = ctx.activation(inner)
        gradient_w2 = gradient.t() @ activated.detach()
        (gradient_inner,) = torch.autograd.grad(activated, inner, gradient @ w2)
        return (
            gradient_inner @ w1,
            gradient_inner.t() @ x,
            gradient_inner.sum(0),
            gradient_w2,
            gradient.sum(0),
            None,
        )


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
        rows = torch.arange(len(targets), device=targets.device)
        softmax[rows, targets] -= 1
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
