"""Attention over packed tokens for training: documents of like length go side by side, none is padded to the longest.

A batch of sentences of 20 to 90 tokens, all padded to 96, has five cells of padding in its attention maps for each
that counts. Here the documents of a micro-batch are cut into runs of like width, and each run is attended to by
itself, straight from the joined projections and back. The mathematics is that of `models.attention`.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from compact_biomed.models.attention import derivatives, dropped_softmax

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
