"""Attention over packed tokens for training: within documents, which lie one behind the other without padding."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from compact_biomed import compiled
from compact_biomed.models.dropout import random_key
from compact_biomed.models.packed_attention import packed_attention, runs

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
