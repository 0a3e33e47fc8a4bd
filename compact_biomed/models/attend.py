"""How a layer's attention is computed: over which documents side by side, for which rows, and with which maps."""

import torch
from torch import Tensor

from compact_biomed.models.attention import attention, attention_and_maps
from compact_biomed.models.document_attention import Packed
from compact_biomed.models.layout import Layout, select


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
