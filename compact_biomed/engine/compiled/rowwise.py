"""LayerNorm of a sum with dropout, forward and backward, each in one pass over its rows."""

import numpy as np
from numba import njit

from compact_biomed.engine.compiled.language import (
    LOOP,
    ROUGH_LOOP,
    SHARED,
    added_up,
    blocks,
    exp,
    f32,
    kept,
    mixed,
    narrow,
    rows_of,
    u32,
    wide,
)
from compact_biomed.engine.compiled.parallel import in_threads


@njit(**SHARED)
def norm_forward(x, residual, weight, bias, eps, key, least, scale, normed, deviations, y, threads):
    """LayerNorm(dropout(x) + residual).

    Args:
        x, residual: [rows, width] bfloat16.
        weight, bias: [width] bfloat16.
        eps: of LayerNorm.
        key, least: of dropout; see `bits.kept`.
        scale: of what dropout leaves.
        normed: as x, is written: the result before weight and bias.
        deviations: [rows] float32, is written: one over the standard deviation.
        y: as x, is written.
        threads: their number.
    """
    in_threads(_norm_forward, (x, residual, weight, bias, eps, key, least, scale, normed, deviations, y), threads)


@njit(**SHARED)
def norm_backward(
    gradient, normed, deviations, weight, key, least, scale, gradient_x, gradient_residual, gradient_weight,
    gradient_bias, threads,
):  # fmt: skip
    """The gradients of `forward`'s inputs from that of `y`.

    Args:
        gradient: [rows, width] bfloat16.
        gradient_x, gradient_residual: the same, are written.
        gradient_weight, gradient_bias: [width] bfloat16, are written.
    """
    rows, width = gradient.shape
    parts = np.zeros((blocks(rows), 2 * width), f32)
    arguments = (gradient, normed, deviations, weight, key, least, scale, gradient_x, gradient_residual, parts)
    in_threads(_norm_backward, arguments, threads)
    total = added_up(parts)
    for j in range(width):
        gradient_weight[j], gradient_bias[j] = narrow(total[j]), narrow(total[width + j])


@njit(**LOOP)
def _norm_forward(x, residual, weight, bias, eps, key, least, scale, normed, deviations, y, share, shares):
    rows, width = x.shape
    total = np.empty(width, f32)
    for block in range(share, blocks(rows), shares):
        for i in rows_of(block, rows):
            _add(x[i], residual[i], mixed(key + u32(i)), least, scale, total)
            deviations[i] = _normalize(total, eps, normed[i])
            _stretch(total, weight, bias, y[i])


@njit(**LOOP)
def _norm_backward(
    gradient, normed, deviations, weight, key, least, scale, gradient_x, gradient_residual, parts, share, shares
):
    rows, width = gradient.shape
    total = np.empty(width, f32)
    for block in range(share, len(parts), shares):
        sums = parts[block]
        for i in rows_of(block, rows):
            _gradient(gradient[i], normed[i], deviations[i], weight, total, sums[:width], sums[width:])
            _split(total, mixed(key + u32(i)), least, scale, gradient_x[i], gradient_residual[i])


@njit(**LOOP)
def _add(x, residual, key, least, scale, total):
    for j in range(total.size):
        total[j] = wide(residual[j]) + wide(x[j]) * (kept(key, j, least) * scale)


@njit(**LOOP)
def _normalize(total, eps, normed):
    n = f32(total.size)
    mean = f32(0)
    for j in range(total.size):
        mean += total[j]
    mean /= n
    variance = f32(0)
    for j in range(total.size):
        total[j] -= mean
        variance += total[j] * total[j]
    deviation = f32(1) / np.sqrt(variance / n + eps)
    for j in range(total.size):
        total[j] *= deviation
        normed[j] = narrow(total[j])
    return deviation


@njit(**LOOP)
def _stretch(total, weight, bias, y):
    for j in range(total.size):
        y[j] = narrow(total[j] * wide(weight[j]) + wide(bias[j]))


@njit(**LOOP)
def _gradient(gradient, normed, deviation, weight, total, sum_weight, sum_bias):
    n = f32(total.size)
    mean, along = f32(0), f32(0)
    for j in range(total.size):
        g, x = wide(gradient[j]), wide(normed[j])
        sum_weight[j] += g * x
        sum_bias[j] += g
        g *= wide(weight[j])
        total[j] = g
        mean += g
        along += g * x
    mean, along = mean / n, along / n
    for j in range(total.size):
        total[j] = deviation * (total[j] - mean - wide(normed[j]) * along)


@njit(**LOOP)
def _split(total, key, least, scale, gradient_x, gradient_residual):
    for j in range(total.size):
        gradient_residual[j] = narrow(total[j])
        gradient_x[j] = narrow(total[j] * (kept(key, j, least) * scale))


# ----------------------------------------------------------------------------------------------------
# GELU and its derivative, each in one pass over memory.


@njit(**SHARED)
def gelu_backward(x, gradient, sums, threads):
    """The gradient of GELU's input.

    Args:
        x: [rows, width] bfloat16, the input.
        gradient: the same, of the output; is overwritten with that of the input.
        sums: [width] bfloat16, is written: its sum over the rows.
        threads: their number.
    """
    rows, width = x.shape
    parts = np.zeros((blocks(rows), width), f32)
    in_threads(_gelu_backward, (x, gradient, parts), threads)
    total = added_up(parts)
    for j in range(width):
        sums[j] = narrow(total[j])


@njit(**LOOP)
def _gelu_backward(x, gradient, parts, share, shares):
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
