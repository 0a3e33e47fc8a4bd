"""The layout of a micro-batch: its real tokens packed into one matrix, without padding.

Everything but attention works on single tokens. So the encoder runs on a matrix of the real tokens of all documents,
one document after the other, and only attention sees the documents side by side, padded. On real abstracts this saves
the tenth of a micro-batch's work that would be padding.
"""

import torch
from torch import Tensor

_ROUND = 32  # row counts are multiples of it, so that matrix products have few shapes
_STEPS = 16  # or, for many rows, one of so many numbers between two powers of 2


def filled(n: int, *, coarse: bool = False) -> int:
    """Return the number of rows to compute for n: the kernel of a new shape is built first, and kept in memory.

    Args:
        coarse: use the few shapes of `_STEPS`, so that a test set, however large, hardly brings new ones. Up to a
            sixteenth of the rows is then filling.
    """
    step = max(_ROUND, (1 << max(n - 1, 0).bit_length()) // (2 * _STEPS)) if coarse else _ROUND
    return -(-n // step) * step


class Layout:
    """The tokens of a micro-batch, packed and padded.

    Args:
        attention_mask: [batch, length], 0 on padding; or None: every position is kept.
        shape: (batch, length).
        coarse: see `filled`.

    Attributes:
        real: number of real tokens, which are the first packed rows. The few rows behind them
            are filling, which nothing reads.
    """

    def __init__(self, attention_mask: Tensor | None, shape: torch.Size, *, coarse: bool = False):
        self.batch, self.length = shape
        self.real = self.batch * self.length
        self._flat = None
        if attention_mask is None:
            return
        flat = attention_mask.flatten().nonzero().squeeze(1)  # [real] their positions in the padded matrix
        self.real = real = len(flat)
        filling = flat.new_zeros(filled(real, coarse=coarse) - real)
        self._flat = torch.cat([flat, filling])  # packed row -> padded row
        self._filling = torch.arange(real, len(self._flat), device=flat.device)
        # padded row -> packed row; padding -> that of the token before it
        self._packed = (attention_mask.flatten().cumsum(0) - 1).clamp_(min=0)
        self._padding = (attention_mask.flatten() == 0).nonzero().squeeze(1)

    def pack(self, x: Tensor) -> Tensor:
        """Remove padding: [batch, length, width] -> [rows, width]."""
        x = x.reshape(-1, x.shape[-1])
        return x if self._flat is None else _Pick.apply(x, self._flat, self._packed, self._padding)

    def pad(self, x: Tensor) -> Tensor:
        """Add padding: [rows, width] -> [batch, length, width]. Values on padding are finite but undefined."""
        if self._flat is not None:
            x = _Pick.apply(x, self._packed, self._flat, self._filling)
        return x.view(self.batch, self.length, x.shape[-1])

    def rows(self, selected: Tensor) -> Tensor:
        """Return the packed rows of the positions set in `selected` [batch, length], none of which is padding."""
        flat = selected.flatten().nonzero().squeeze(1)
        return flat if self._flat is None else self._packed[flat]


class _Pick(torch.autograd.Function):
    """Rows of a matrix by index; the gradient is picked back, and zero at rows that were not picked."""

    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor, back: Tensor, unused: Tensor) -> Tensor:
        ctx.save_for_backward(back, unused)
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        back, unused = ctx.saved_tensors
        return gradient.index_select(0, back).index_fill_(0, unused, 0), None, None, None


def select(x: Tensor, index: Tensor) -> Tensor:
    """Return x[index] for an index without duplicates: its gradient is copied back, without adding up."""
    return _Select.apply(x, index)


class _Select(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, index: Tensor) -> Tensor:
        ctx.save_for_backward(index)
        ctx.shape = x.shape
        return x.index_select(0, index)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        (index,) = ctx.saved_tensors
        return gradient.new_zeros(ctx.shape).index_copy_(0, index, gradient), None
