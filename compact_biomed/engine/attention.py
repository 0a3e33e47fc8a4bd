"""Attention of one layer over packed tokens.

* With dropout on the probabilities, torch leaves its fused kernel. Here forward and backward are written out with as
  few passes over the attention maps as possible.
* Compiled loops (`compiled.attention`) attend within one document and head at a time, in cache. No cell of padding is
  computed and no attention map reaches memory. In bfloat16 they are for short documents.
* Otherwise documents of similar width form a bucket, and each bucket is attended to by itself. A batch of sentences
  of 20 to 90 tokens, all padded to 96, has five cells of padding in its maps for each cell that counts.
* When few rows are needed, or maps are tapped, attention runs on the padded matrices: queries of the needed rows only,
  maps as differentiable outputs. Tapped queries, keys and values are padded, however attention is computed.

`Attend` chooses among them for a layer.
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
from compact_biomed.engine.taps import VECTORS

# (qkv [rows, 3 * hidden], heads, drop probability) -> context [rows, hidden]; see `attention_within`.
AttentionWithin = Callable[[Tensor, int, float], Tensor]

# In bfloat16, mean number of tokens in the document of a token. Above it, the float32 products that compiled code
# computes one document at a time take longer than bfloat16 products of many documents side by side (docs/log.md).
_SHORT = 64

# The overhead of one more bucket is worth the cells of so many positions squared, at twelve heads.
_BUCKET_OVERHEAD = 6000


class Rows:
    """The positions whose final states are needed, sorted by document.

    Args:
        selected: [batch, length], bool; none of them padding.
        layout: of the micro-batch.

    Attributes:
        packed: [rows], their indices among the packed tokens.
        all: whether every real token is selected, so that nothing can be left out.
        positions: [batch, most], per document its selected positions, filled up with others.
        valid: [batch, most], bool, marks the selected ones among `positions`.
    """

    def __init__(self, selected: Tensor, layout: Layout):
        self.packed = layout.rows(selected)
        self.all = len(self.packed) == layout.real
        counts = selected.sum(1)
        # Few shapes: the kernels of a matrix product are built when its shape first occurs.
        most = min(-(-max(int(counts.max()), 1) // 16) * 16, selected.shape[1])
        self.positions = torch.argsort(~selected, dim=1, stable=True)[:, :most]
        self.valid = torch.arange(most, device=selected.device) < counts[:, None]


class Attend:
    """The attention of one layer, over packed tokens.

    Args:
        layout: of the micro-batch.
        bias: [batch, 1, 1, length], 0 on tokens and hugely negative on padding; or None.
        rows: the only positions whose context is needed; None = all.
        within: attention within the documents of the micro-batch, without padding; or None.
        features: features of this layer to put into `tapped` (`engine.taps`).
        after_dropout: see `Taps`.
    """

    def __init__(
        self,
        layout: Layout,
        bias: Tensor | None,
        rows: Rows | None,
        *,
        within: AttentionWithin | None = None,
        features: frozenset[str] = frozenset(),
        after_dropout: bool = False,
    ):
        self.layout, self.bias, self.rows, self.within = layout, bias, rows, within
        self.features, self.after_dropout = features, after_dropout
        self.tapped: dict[str, Tensor] = {}

    def __call__(self, *joined: Tensor, width: int, heads: int, p: float) -> Tensor:
        """Attend: scaled query, key and value, joined in one or more matrices -> context [tokens or rows, width]."""
        layout, rows = self.layout, self.rows
        maps = self.features - set(VECTORS)
        # If few rows are needed, the context of all others would cost more than the padding does.
        most = rows is None or 2 * len(rows.packed) > layout.real
        if self.within is not None and most and not maps:
            qkv = joined[0] if len(joined) == 1 else torch.cat(joined, 1)
            if self.features:
                self._take_vectors(*layout.pad(qkv).split(width, -1), heads=heads)
            context = self.within(qkv, heads, p)
            return context if rows is None else select(context, rows.packed)
        q, k, v = (x for matrix in joined for x in layout.pad(matrix).split(width, -1))
        self._take_vectors(q, k, v, heads=heads)
        early = rows is not None and not maps  # a tapped map has all its rows
        if early:
            q = q.gather(1, rows.positions[..., None].expand(-1, -1, width))
        q, k, v = (_split_heads(x, heads) for x in (q, k, v))
        if maps:
            kinds = ["dropped" if name == "attention" and self.after_dropout else name for name in maps]
            context, *tensors = attention_and_maps(q, k, v, self.bias, p=p, maps=kinds)
            self.tapped.update(zip(maps, tensors, strict=True))
        else:
            context = attention(q, k, v, self.bias, p=p)
        context = context.transpose(1, 2)
        if early:
            return context.reshape(*rows.valid.shape, width)[rows.valid]
        context = layout.pack(context.reshape(layout.batch, layout.length, width))
        return context if rows is None else select(context, rows.packed)

    def _take_vectors(self, *padded: Tensor, heads: int) -> None:
        """Put queries, keys and values [batch, length, width] into `tapped`, by head, if they are wanted."""
        for name, x in zip(VECTORS, padded, strict=True):
            if name in self.features:
                x = _split_heads(x, heads)
                self.tapped[name] = x * x.shape[-1] ** 0.5 if name == "queries" else x  # prepared weights scale them


def _split_heads(x: Tensor, heads: int) -> Tensor:
    batch, rows, width = x.shape
    return x.view(batch, rows, heads, width // heads).transpose(1, 2)


# ---- Padded attention and its maps


def attention(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, p: float = 0.0) -> Tensor:
    """Compute dot-product attention with dropout on the probabilities.

    Args:
        q: [batch, heads, rows, width], already scaled by width**-0.5.
        k, v: [batch, heads, columns, width].
        bias: added to the scores, broadcastable to [batch, heads, rows, columns]
            (the padding mask), or None.
        p: drop probability; 0 outside training.

    Returns:
        [batch, heads, rows, width]
    """
    return _Attention.apply(q, k, v, bias, p, ())[0]


def attention_and_maps(
    q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, *, p: float = 0.0, maps: Iterable[str]
) -> tuple[Tensor, ...]:
    """Compute `attention` and return its maps too, each [batch, heads, rows, columns], differentiable.

    Args:
        maps: of "scores" (bias added), "attention" (probabilities) and "dropped" (probabilities
            after dropout, scaled), in the order in which they are returned.
    """
    return _Attention.apply(q, k, v, bias, p, tuple(maps))


class _Attention(torch.autograd.Function):
    """softmax(q k^T + bias) with dropout, times v; and the named maps."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, p: float, names: tuple[str, ...]):
        batch, heads, rows, width = q.shape
        columns = k.shape[2]
        q, k, v = (x.reshape(batch * heads, x.shape[2], x.shape[3]) for x in (q, k, v))
        scores = torch.bmm(q, k.transpose(1, 2))
        if bias is not None:
            scores.view(batch, heads, rows, columns).add_(bias)
        ctx.scale, ctx.names = 1 / (1 - p), names
        probabilities, ctx.mask, dropped = _dropped_softmax(scores, p)
        ctx.save_for_backward(q, k, v, probabilities)
        context = torch.bmm(dropped, v).mul_(ctx.scale).view(batch, heads, rows, width)
        maps = {"scores": lambda: scores, "attention": probabilities.clone, "dropped": lambda: dropped * ctx.scale}
        return (context, *(maps[name]().view(batch, heads, rows, columns) for name in names))

    @staticmethod
    def backward(ctx, gradient: Tensor, *map_gradients: Tensor):
        q, k, v, probabilities = ctx.saved_tensors
        batch, heads, rows, width = gradient.shape
        gradient = gradient.reshape(batch * heads, rows, width)
        of_maps = {name: g.reshape(probabilities.shape) for name, g in zip(ctx.names, map_gradients, strict=True)}
        if ctx.mask is not None:
            gradient = gradient * ctx.scale
        gradients = _gradients(gradient, q, k, v, probabilities, ctx.mask, ctx.scale, of_maps)
        return (*(x.view(batch, heads, -1, width) for x in gradients), None, None, None)


def _dropped_softmax(scores: Tensor, p: float) -> tuple[Tensor, Mask | None, Tensor]:
    """Return probabilities [maps, rows, columns], the mask of their dropout if any, and what it keeps, not scaled."""
    probabilities = torch.softmax(scores, -1)
    mask = Mask(probabilities.shape, probabilities.dtype, p) if p > 0 else None
    return probabilities, mask, probabilities if mask is None else clear(probabilities, mask())


def _gradients(
    gradient: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    probabilities: Tensor,
    mask: Mask | None,
    scale: float = 1.0,
    of_maps: Mapping[str, Tensor] = MappingProxyType({}),
    out: Sequence[Tensor | None] = (None, None, None),
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of query, key and value, each [maps, rows or columns, width].

    Args:
        gradient: of the context, already multiplied by `scale`.
        probabilities, mask: from `_dropped_softmax`.
        scale: of what dropout keeps.
        of_maps: gradients of the maps that were returned (`attention_and_maps`), shaped like `probabilities`.
        out: memory to write the gradients to.
    """
    keep = None if mask is None else mask()
    dropped = probabilities if keep is None else clear(probabilities, keep)
    gradient_v = torch.bmm(dropped.transpose(1, 2), gradient, out=out[2])
    gradient_p = torch.bmm(gradient, v.transpose(1, 2))
    if "dropped" in of_maps:
        gradient_p.add_(of_maps["dropped"], alpha=scale)
    if keep is not None:
        gradient_p.view(keep.dtype).mul_(keep)
    if "attention" in of_maps:
        gradient_p.add_(of_maps["attention"])
    gradient_s = torch._softmax_backward_data(gradient_p, probabilities, -1, probabilities.dtype)
    if "scores" in of_maps:
        gradient_s.add_(of_maps["scores"])
    gradient_q = torch.bmm(gradient_s, k, out=out[0])
    return gradient_q, torch.bmm(gradient_s.transpose(1, 2), q, out=out[1]), gradient_v


# ---- Packed attention: within documents that follow one another without padding


def attention_within(attention_mask: Tensor | None, shape: torch.Size, like: Tensor) -> AttentionWithin | None:
    """Choose how to attend within the documents of a micro-batch.

    Args:
        attention_mask: [batch, length], 0 on padding; best with the longest documents first; None without padding.
        shape: (batch, length).
        like: has the type and device of the computation.

    Returns:
        A function of qkv [rows, 3 * hidden] (query, scaled, key and value of the packed tokens side by side), the
        number of heads and the drop probability (0 outside training) -> context [rows, hidden], 0 on filling rows.
        None if the padded matrices serve as well: they have no padding, and the loops are not for them.
    """
    lengths = torch.full(shape[:1], shape[1]) if attention_mask is None else attention_mask.sum(1)
    if compiled.usable(like) and (like.dtype is torch.float32 or _are_short(lengths)):
        starts = np.concatenate([[0], lengths.cumsum(0).numpy()])
        return lambda qkv, heads, p: _DocumentAttention.apply(qkv.contiguous(), starts, heads, p)
    if attention_mask is None:
        return None
    buckets = length_buckets(attention_mask, like.dtype)
    return lambda qkv, heads, p: bucketed_attention(qkv, buckets, heads, p=p)


def _are_short(lengths: Tensor) -> bool:
    return int((lengths * lengths).sum()) <= _SHORT * int(lengths.sum())


class _DocumentAttention(torch.autograd.Function):
    """Attention by the compiled loops; only qkv is saved."""

    @staticmethod
    def forward(ctx, qkv: Tensor, starts: np.ndarray, heads: int, p: float) -> Tensor:
        ctx.starts, ctx.heads, ctx.dropout = starts, heads, random_key(p)
        context = qkv.new_empty(len(qkv), qkv.shape[1] // 3)
        context[starts[-1] :] = 0  # the filling
        compiled.call("attention", "forward", qkv, starts, heads, *ctx.dropout, context)
        ctx.save_for_backward(qkv)
        return context

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (qkv,) = ctx.saved_tensors
        gradient_qkv = torch.empty_like(qkv)
        gradient_qkv[ctx.starts[-1] :] = 0
        arguments = (qkv, ctx.starts, ctx.heads, *ctx.dropout, gradient.contiguous(), gradient_qkv)
        compiled.call("attention", "backward", *arguments)
        return gradient_qkv, None, None, None


class Bucket(NamedTuple):
    """Documents of similar width that follow one another among the packed rows."""

    documents: int
    width: int
    rows: slice  # of the packed matrix
    packed: Tensor  # [documents * width], for each cell the index of its token in `rows`; for padding the one before
    flat: Tensor  # [rows], the cell of each token
    padding: Tensor  # the cells without a token
    bias: Tensor | None  # [documents, 1, width], 0 on tokens and hugely negative on padding


def length_buckets(attention_mask: Tensor, dtype: torch.dtype) -> list[Bucket]:
    """Cut the documents of a micro-batch into buckets.

    Args:
        attention_mask: [batch, length], 0 on padding; best with the longest documents first.
        dtype: of the bias.
    """
    mask = attention_mask.bool()
    batch, length = mask.shape
    extents = (mask * torch.arange(1, length + 1, device=mask.device)).amax(1).tolist()
    widths = [min(_rounded_width(extent), length) for extent in extents]
    buckets, first, row = [], 0, 0
    while first < batch:
        last = first + 1
        while last < batch and (widths[first] ** 2 - widths[last] ** 2) * (batch - last) < _BUCKET_OVERHEAD:
            last += 1
        width = max(widths[first:last])
        buckets.append(_bucket(mask[first:last, :width], row, dtype))
        first, row = last, buckets[-1].rows.stop
    return buckets


def _rounded_width(extent: int) -> int:
    # One of few widths: the kernels of a matrix product are built when its shape first occurs.
    return -(-max(extent, 1) // 32) * 32


def _bucket(mask: Tensor, row: int, dtype: torch.dtype) -> Bucket:
    documents, width = mask.shape
    flat, padding = (cells.flatten().nonzero().squeeze(1) for cells in (mask, ~mask))
    packed = (mask.flatten().cumsum(0) - 1).clamp_(min=0)
    bias = None
    if len(padding):
        bias = (~mask).to(dtype)[:, None, :] * torch.finfo(dtype).min
    return Bucket(documents, width, slice(row, row + len(flat)), packed, flat, padding, bias)


def bucketed_attention(qkv: Tensor, buckets: list[Bucket], heads: int, *, p: float = 0.0) -> Tensor:
    """Compute dot-product attention with dropout on the probabilities.

    Args:
        qkv: [rows, 3 * hidden], query (scaled), key and value of the packed tokens side by side.
        buckets: of the micro-batch.
        p: drop probability; 0 outside training.

    Returns:
        [rows, hidden]; 0 on filling rows.
    """
    return _BucketedAttention.apply(qkv, buckets, heads, p)


class _BucketedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx, qkv: Tensor, buckets: list[Bucket], heads: int, p: float) -> Tensor:
        width = qkv.shape[1] // 3
        context = qkv.new_empty(len(qkv), width)
        context[buckets[-1].rows.stop :] = 0  # the filling
        ctx.buckets, ctx.heads, ctx.shape, ctx.scale = buckets, heads, qkv.shape, 1 / (1 - p)
        ctx.masks, saved = [], []
        for bucket in buckets:
            q, k, v = _by_head(qkv[bucket.rows].index_select(0, bucket.packed), bucket, heads, 3)
            if bucket.bias is None:
                scores = torch.bmm(q, k.transpose(1, 2))
            else:
                scores = torch.baddbmm(bucket.bias.repeat_interleave(heads, 0), q, k.transpose(1, 2))
            probabilities, mask, dropped = _dropped_softmax(scores, p)
            attended = torch.bmm(dropped, v)
            torch.index_select(_by_token(attended, bucket, heads), 0, bucket.flat, out=context[bucket.rows])
            ctx.masks.append(mask)
            saved += [q, k, v, probabilities]
        ctx.save_for_backward(*saved)
        return context.mul_(ctx.scale) if p > 0 else context

    @staticmethod
    def backward(ctx, gradient: Tensor):
        saved = ctx.saved_tensors
        gradient_qkv = gradient.new_empty(ctx.shape)
        gradient_qkv[ctx.buckets[-1].rows.stop :] = 0
        if ctx.masks[0] is not None:
            gradient = gradient * ctx.scale
        for number, (bucket, mask) in enumerate(zip(ctx.buckets, ctx.masks, strict=True)):
            q, k, v, probabilities = saved[4 * number : 4 * number + 4]
            padded = gradient[bucket.rows].index_select(0, bucket.packed)
            if bucket.bias is not None:
                padded.index_fill_(0, bucket.padding, 0)
            (padded,) = _by_head(padded, bucket, ctx.heads, 1)
            by_head = q.new_empty(3, *q.shape)
            _gradients(padded, q, k, v, probabilities, mask, out=by_head)
            by_token = by_head.view(3, bucket.documents, ctx.heads, bucket.width, -1).permute(1, 3, 0, 2, 4)
            by_token = by_token.reshape(bucket.documents * bucket.width, -1)
            torch.index_select(by_token, 0, bucket.flat, out=gradient_qkv[bucket.rows])
        return gradient_qkv, None, None, None


def _by_head(x: Tensor, bucket: Bucket, heads: int, parts: int) -> Tensor:
    """Split heads: [documents * width, parts * hidden] -> [parts, documents * heads, width, hidden / heads]."""
    x = x.view(bucket.documents, bucket.width, parts, heads, -1).permute(2, 0, 3, 1, 4)
    return x.reshape(parts, bucket.documents * heads, bucket.width, -1)


def _by_token(x: Tensor, bucket: Bucket, heads: int) -> Tensor:
    """Join heads: [documents * heads, width, hidden / heads] -> [documents * width, hidden]."""
    x = x.view(bucket.documents, heads, bucket.width, -1).transpose(1, 2)
    return x.reshape(bucket.documents * bucket.width, -1)
