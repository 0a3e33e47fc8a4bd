"""Dropout on CPUs by integer multiplication, reproducible in any number of threads.

torch's CPU dropout draws one Bernoulli number per cell. Here random bits come from numpy's SFC64, four 16-bit draws per
word, and a cell is dropped by multiplying the *bits* of the float by 0 or 1. The drop probability is exact to 2**-16.
A large mask is drawn again in the backward pass, which is faster than keeping it in memory.

Random numbers come from a stream that the caller sets for its thread (`random_stream`). So micro-batches that are
computed side by side draw the same numbers in every run, whatever the threads' timing.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

_local = threading.local()

# Larger tensors are recomputed in the backward pass: writing them to memory and reading them back takes longer.
MAX_SAVED_BYTES = 2 << 20

# Masks of less than a quarter of this are cut from a block of so many draws; larger ones are drawn one by one.
_DRAWS_PER_BLOCK = 1 << 16

# A float type and the integer type of the same width: multiplying the bits by 0 or 1 clears or keeps the number.
_BITS = {
    torch.bfloat16: torch.int16,
    torch.float16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}


# ---- Streams of random numbers


@contextmanager
def random_stream(*key: int, modules: bool = False) -> Iterator[None]:
    """Draw this thread's dropout within the block from a stream that `key` alone determines.

    Args:
        key: non-negative integers.
        modules: also seed torch's own generator, for modules that draw from it. All threads
            share that one: then only one thread may be in such a block.
    """
    seeds = np.random.SeedSequence(key)
    before = getattr(_local, "stream", None)
    _local.stream = _Stream(seeds)
    if modules:
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0] >> 1))
    try:
        yield
    finally:
        _local.stream = before


class _Stream:
    """A stream of random numbers: keys for large masks, and draws for small ones, many at a time."""

    def __init__(self, seeds: np.random.SeedSequence):
        self._generator = np.random.Generator(np.random.SFC64(seeds))
        self._draws = torch.empty(0, dtype=torch.int16)

    def key(self) -> int:
        return int(self._generator.integers(0, 2**63))

    def draws(self, n: int) -> Tensor:
        """Return [n] int16, uniform over all values; the caller may overwrite it."""
        if 4 * n >= _DRAWS_PER_BLOCK:
            return _draws(self._generator, n)
        if n > len(self._draws):
            self._draws = _draws(self._generator, _DRAWS_PER_BLOCK)
        taken, self._draws = self._draws[:n], self._draws[n:]
        return taken


def _draws(generator: np.random.Generator, n: int) -> Tensor:
    """Return [n] int16, uniform over all values, four to a word."""
    words = generator.bit_generator.random_raw((n + 3) // 4)
    return torch.from_numpy(words.view(np.int16)[:n])


def _stream() -> _Stream:
    stream: _Stream | None = getattr(_local, "stream", None)
    if stream is None:
        raise RuntimeError("dropout outside a random_stream block: its random numbers would not be reproducible")
    return stream


def random_key(p: float) -> tuple[np.uint32, np.uint32, np.float32]:
    """Draw a dropout for `engine.compiled` from this thread's stream.

    Returns:
        Its key, the number of 2**32 cases in which a cell is dropped, and the scale of the others.
    """
    if p == 0:
        return np.uint32(0), np.uint32(0), np.float32(1)
    return np.uint32(_stream().key() & 0xFFFFFFFF), np.uint32(round(p * 2**32)), np.float32(1 / (1 - p))


# ---- Masks


class Mask:
    """A dropout mask for both passes: a small one is stored, a large one is drawn again from its key.

    Args:
        shape, dtype: of the values that it is applied to.
        p: drop probability.
    """

    def __init__(self, shape: torch.Size, dtype: torch.dtype, p: float):
        self._shape, self._bits, self._p = shape, _BITS[dtype], p
        stream, n = _stream(), shape.numel()
        self._stored, self._key = None, 0
        if n * dtype.itemsize <= MAX_SAVED_BYTES:
            self._stored = self._from(stream.draws(n))
        else:
            self._key = stream.key()

    def __call__(self) -> Tensor:
        """Return 0/1 integers of the width of the type: 0 with probability p (to 2**-16)."""
        if self._stored is not None:
            return self._stored
        return self._from(_draws(np.random.Generator(np.random.SFC64(self._key)), self._shape.numel()))

    def _from(self, draws: Tensor) -> Tensor:
        draws, threshold = draws.view(self._shape), round(self._p * 65536) - 32768
        if self._bits is torch.int16:
            return torch.ge(draws, threshold, out=draws)
        return draws.ge(threshold).to(self._bits)


def clear(values: Tensor, keep: Tensor) -> Tensor:
    """Return a copy of `values` with +-0 where keep is 0."""
    return (values.view(keep.dtype) * keep).view(values.dtype)


# ---- Dropout itself


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """Apply inverted dropout, as `torch.nn.functional.dropout`."""
    return _DropoutFunction.apply(x.contiguous(), p) if training and p > 0 else x


def dropout_add(x: Tensor, residual: Tensor, p: float, training: bool) -> Tensor:
    """Return dropout(x) + residual, of the same shape, with one pass and one rounding less."""
    return _DropoutAdd.apply(x.contiguous(), residual, p) if training and p > 0 else x + residual


class Dropout(nn.Dropout):
    """`torch.nn.Dropout` on the stream of `random_stream`; it has no parameters."""

    def forward(self, x: Tensor) -> Tensor:
        return dropout(x, self.p, self.training)


class _DropoutFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, p: float) -> Tensor:
        ctx.mask, ctx.scale = Mask(x.shape, x.dtype, p), 1 / (1 - p)
        return clear(x, ctx.mask()).mul_(ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        return clear(gradient.contiguous(), ctx.mask()).mul_(ctx.scale), None


class _DropoutAdd(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, residual: Tensor, p: float) -> Tensor:
        ctx.mask, ctx.scale = Mask(x.shape, x.dtype, p), 1 / (1 - p)
        return torch.add(residual, clear(x, ctx.mask()), alpha=ctx.scale)

    @staticmethod
    def backward(ctx, gradient: Tensor):
        gradient = gradient.contiguous()
        return clear(gradient, ctx.mask()).mul_(ctx.scale), gradient, None
