"""GELU and its derivative, each in one pass over memory."""

import numpy as np
from numba import njit

from compact_biomed.compiled.bits import LOOP, ROUGH_LOOP, SHARED, exp, f32, narrow, wide
from compact_biomed.compiled.parallel import in_threads
from compact_biomed.compiled.rows import added_up, blocks, rows_of


@njit(**SHARED)
def backward(x, gradient, sums, threads):
    """The gradient of GELU's input.

    Args:
        x: [rows, width] bfloat16, the input.
        gradient: the same, of the output; is overwritten with that of the input.
        sums: [width] bfloat16, is written: its sum over the rows.
        threads: their number.
    """
    rows, width = x.shape
    parts = np.zeros((blocks(rows), width), f32)
    in_threads(_backward, (x, gradient, parts), threads)
    total = added_up(parts)
    for j in range(width):
        sums[j] = narrow(total[j])


@njit(**LOOP)
def _backward(x, gradient, parts, share, shares):
    for block in range(share, len(parts), shares):
        for i in rows_of(block, x.shape[0]):
            _row(x[i], gradient[i], parts[block])


@njit(**ROUGH_LOOP)
def _row(x, gradient, sums):
    for j in range(x.size):
        y = wide(x[j])
        bell = exp(f32(-0.5) * y * y)
        # 1 - Phi(|y|), by Abramowitz and Stegun 7.1.26
        t = f32(1) / (f32(1) + f32(0.3275911 * 0.5**0.5) * abs(y))
        p = f32(1.421413741) + t * (f32(-1.453152027) + t * f32(1.061405429))
        tail = f32(0.5) * bell * t * (f32(0.254829592) + t * (f32(-0.284496736) + t * p))
        below = tail if y < f32(0) else f32(1) - tail
        g = wide(gradient[j]) * (below + y * bell * f32(0.3989422804))
        sums[j] += g
        gradient[j] = narrow(g)
