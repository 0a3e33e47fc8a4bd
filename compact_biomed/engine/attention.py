"""Attention for training on CPUs, with dropout on the probabilities: the same mathematics, fewer passes over memory.

torch's own leaves its fused kernel as soon as dropout is on.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from compact_biomed.engine import compiled
from compact_biomed.engine.dropout import Mask, clear, random_key
from compact_biomed.engine.layout import Layout, select


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


# ----------------------------------------------------------------------------------------------------
# Attention over packed tokens for training: documents of like length go side by side, none is padded to the longest.
#
# A batch of sentences of 20 to 90 tokens, all padded to 96, has five cells of padding in its attention maps for each
# that counts. Here the documents of a micro-batch are cut into runs of like width, and each run is attended to by
# itself, straight from the joined projections and back. The mathematics is that of `models.attention`.


# What another run costs in operations is worth the cells of so many positions squared, at twelve heads.
_WORTH_A_RUN = 6000


class Run(NamedTuple):
    """Documents of like width that stand one behind the other among the packed rows."""

    documents: int
    width: int
    rows: slice  # of the packed matrix
    packed: Tensor  # [documents * width], where in `rows` each cell's token stands; padding -> that before
    flat: Tensor  # [rows], the cell of each token
    padding: Tensor  # the cells without a token
    bias: Tensor | None  # [documents, 1, width], 0 on tokens and hugely negative on padding


def runs(attention_mask: Tensor, dtype: torch.dtype) -> list[Run]:
    """Cut documents into runs.

    Args:
        attention_mask: [batch, length], 0 on padding; best with the longest documents first.
        dtype: of the bias.
    """
    mask = attention_mask.bool()
    batch, length = mask.shape
    extents = (mask * torch.arange(1, length + 1, device=mask.device)).amax(1).tolist()
    widths = [min(_coarse(extent), length) for extent in extents]
    found, first, row = [], 0, 0
    while first < batch:
        last = first + 1
        while last < batch and (widths[first] ** 2 - widths[last] ** 2) * (batch - last) < _WORTH_A_RUN:
            last += 1
        width = max(widths[first:last])
        found.append(_run(mask[first:last, :width], row, dtype))
        first, row = last, found[-1].rows.stop
    return found


def _coarse(extent: int) -> int:
    """A width of few: the kernels of a matrix product are made when its shape first occurs."""
    return -(-max(extent, 1) // 32) * 32


def _run(mask: Tensor, row: int, dtype: torch.dtype) -> Run:
    documents, width = mask.shape
    flat, padding = (which.flatten().nonzero().squeeze(1) for which in (mask, ~mask))
    packed = (mask.flatten().cumsum(0) - 1).clamp_(min=0)
    bias = None
    if len(padding):
        bias = (~mask).to(dtype)[:, None, :] * torch.finfo(dtype).min
    return Run(documents, width, slice(row, row + len(flat)), packed, flat, padding, bias)


class _PackedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, found: list[Run], heads: int, p: float) -> Tensor:
        width = qkv.shape[1] // 3
        context = qkv.new_empty(len(qkv), width)
        context[found[-1].rows.stop :] = 0  # the filling
        ctx.runs, ctx.heads, ctx.shape, ctx.scale = found, heads, qkv.shape, 1 / (1 - p)
        ctx.masks, kept = [], []
        for run in found:
            q, k, v = _by_head(qkv[run.rows].index_select(0, run.packed), run, heads, 3)
            if run.bias is None:
                scores = torch.bmm(q, k.transpose(1, 2))
            else:
                scores = torch.baddbmm(run.bias.repeat_interleave(heads, 0), q, k.transpose(1, 2))
            probabilities, mask, dropped = dropped_softmax(scores, p)
            attended = torch.bmm(dropped, v)
            torch.index_select(_by_token(attended, run, heads), 0, run.flat, out=context[run.rows])
            ctx.masks.append(mask)
            kept += [q, k, v, probabilities]
        ctx.save_for_backward(*kept)
        return context.mul_(ctx.scale) if p > 0 else context

    @staticmethod
    def backward(ctx, gradient: Tensor):
        kept = ctx.saved_tensors
        gradient_qkv = gradient.new_empty(ctx.shape)
        gradient_qkv[ctx.runs[-1].rows.stop :] = 0
        if ctx.masks[0] is not None:
            gradient = gradient * ctx.scale
        for number, (run, mask) in enumerate(zip(ctx.runs, ctx.masks, strict=True)):
            q, k, v, probabilities = kept[4 * number : 4 * number + 4]
            padded = gradient[run.rows].index_select(0, run.packed)
            if run.bias is not None:
                padded.index_fill_(0, run.padding, 0)
            (padded,) = _by_head(padded, run, ctx.heads, 1)
            by_head = q.new_empty(3, *q.shape)
            derivatives(padded, q, k, v, probabilities, mask, out=by_head)
            by_token = by_head.view(3, run.documents, ctx.heads, run.width, -1).permute(1, 3, 0, 2, 4)
            by_token = by_token.reshape(run.documents * run.width, -1)
            torch.index_select(by_token, 0, run.flat, out=gradient_qkv[run.rows])
        return gradient_qkv, None, None, None


def _by_head(x: Tensor, run: Run, heads: int, parts: int) -> Tensor:
    """[documents * width, parts * hidden] -> [parts, documents * heads, width, hidden / heads]"""
    x = x.view(run.documents, run.width, parts, heads, -1).permute(2, 0, 3, 1, 4)
    return x.reshape(parts, run.documents * heads, run.width, -1)


def _by_token(x: Tensor, run: Run, heads: int) -> Tensor:
    """[documents * heads, width, hidden / heads] -> [documents * width, hidden]"""
    return x.view(run.documents, heads, run.width, -1).transpose(1, 2).reshape(run.documents * run.width, -1)


def packed_attention(qkv: Tensor, found: list[Run], heads: int, *, p: float = 0.0) -> Tensor:
    """Dot-product attention with dropout on the probabilities.

    Args:
        qkv: [rows, 3 * hidden], query (scaled), key and value of the packed tokens side by side.
        found: the runs of the micro-batch.
        p: dropout probability; 0 outside training.

    Returns:
        [rows, hidden]; 0 on rows that are filling.
    """
    return _PackedAttention.apply(qkv, found, heads, p)


# ----------------------------------------------------------------------------------------------------
# Attention over packed tokens for training: within documents, which lie one behind the other without padding.


Packed = Callable[[Tensor, int, float], Tensor]

# Tokens of the document in which a token stands, on average. Of longer ones the float32 products that compiled code
# makes one document at a time take longer than bfloat16 products of many side by side (docs/log.md).
_SHORT = 64


class _DocumentAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, starts: np.ndarray, heads: int, p: float) -> Tensor:
        ctx.starts, ctx.heads, ctx.drawn = starts, heads, random_key(p)
        context = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        context[starts[-1] :] = 0  # the filling
        compiled.call("attention", "forward", qkv, starts, heads, *ctx.drawn, context)
        ctx.save_for_backward(qkv)
        return context

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (qkv,) = ctx.saved_tensors
        found = torch.empty_like(qkv)
        found[ctx.starts[-1] :] = 0
        compiled.call("attention", "backward", qkv, ctx.starts, ctx.heads, *ctx.drawn, gradient.contiguous(), found)
        return found, None, None, None


def attention_within(attention_mask: Tensor, like: Tensor) -> Packed:
    """Attention within the documents of a micro-batch.

    Args:
        attention_mask: [batch, length], 0 on padding; best with the longest documents first.
        like: has the type and device of what is computed.

    Returns:
        A function of qkv [rows, 3 * hidden] (query, scaled, key and value of the packed tokens side by side), the
        number of heads and the drop probability (0 outside training) -> context [rows, hidden], 0 on filling.
    """
    lengths = attention_mask.sum(1)
    if compiled.usable(like) and int((lengths * lengths).sum()) <= _SHORT * int(lengths.sum()):
        starts = np.concatenate([[0], lengths.cumsum(0).numpy()])
        return lambda qkv, heads, p: _DocumentAttention.apply(qkv.contiguous(), starts, heads, p)
    found = runs(attention_mask, like.dtype)
    return lambda qkv, heads, p: packed_attention(qkv, found, heads, p=p)


# ----------------------------------------------------------------------------------------------------
# How a layer's attention is computed: over which documents side by side, for which rows, and with which maps.


class Rows:
    """The positions whose final states are wanted, sorted by document.

    Args:
        wanted: [batch, length], bool; none of them padding.
        layout: of the micro-batch.
    """

    def __init__(self, wanted: Tensor, layout: Layout):
        self.packed = layout.rows(wanted)  # [rows], among the packed tokens
        self.all = len(self.packed) == layout.real  # nothing to be left out
        counts = wanted.sum(1)
        # Few shapes: the kernels of a matrix product are made when its shape first occurs.
        most = min(-(-max(int(counts.max()), 1) // 16) * 16, wanted.shape[1])
        # Per document, its wanted positions, padded with position 0; `valid` marks the real ones.
        self.positions = torch.argsort(~wanted, dim=1, stable=True)[:, :most]  # [batch, most]
        self.valid = torch.arange(most, device=wanted.device) < counts[:, None]


def _split_heads(x: Tensor, heads: int) -> Tensor:
    batch, rows, width = x.shape
    return x.view(batch, rows, heads, width // heads).transpose(1, 2)


class Attend:
    """One layer's attention over packed tokens.

    Args:
        layout: of the micro-batch.
        bias: [batch, 1, 1, length], 0 on tokens and hugely negative on padding; or None.
        rows: the only positions whose context is wanted, or None: of all.
        packed: attention within the documents of the micro-batch, without padding; or None.
        wanted: features of this layer to put into `tapped` (`models.taps`).
        after_dropout: see `Taps`.
    """

    def __init__(
        self,
        layout: Layout,
        bias: Tensor | None,
        rows: Rows | None,
        *,
        packed: Packed | None = None,
        wanted: frozenset[str] = frozenset(),
        after_dropout: bool = False,
    ):
        self.layout, self.bias, self.rows, self.packed = layout, bias, rows, packed
        self.wanted, self.after_dropout = wanted, after_dropout
        self.tapped: dict[str, Tensor] = {}

    def __call__(self, *joined: Tensor, width: int, heads: int, p: float) -> Tensor:
        """Scaled query, key and value, joined in one or more matrices -> context [tokens or rows, width]."""
        layout, rows = self.layout, self.rows
        # Of few rows, the context of the others would cost more than what the padding does.
        most = rows is None or 2 * len(rows.packed) > layout.real
        if self.packed is not None and most and not self.wanted and len(joined) == 1:
            context = self.packed(joined[0], heads, p)
            return context if rows is None else select(context, rows.packed)
        q, k, v = (x for matrix in joined for x in layout.pad(matrix).split(width, -1))
        maps = self.wanted - {"values"}
        early = rows is not None and not maps  # a map is wanted with all its rows
        if early:
            q = q.gather(1, rows.positions[..., None].expand(-1, -1, width))
        q, k, v = (_split_heads(x, heads) for x in (q, k, v))
        if "values" in self.wanted:
            self.tapped["values"] = v
        if maps:
            kinds = ["dropped" if name == "attention" and self.after_dropout else name for name in maps]
            context, *seen = attention_and_maps(q, k, v, self.bias, p=p, wanted=kinds)
            self.tapped.update(zip(maps, seen, strict=True))
        else:
            context = attention(q, k, v, self.bias, p=p)
        context = context.transpose(1, 2)
        if early:
            return context.reshape(*rows.valid.shape, width)[rows.valid]
        context = layout.pack(context.reshape(layout.batch, layout.length, width))
        return context if rows is None else select(context, rows.packed)
