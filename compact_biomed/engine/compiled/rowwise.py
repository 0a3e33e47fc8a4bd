"""Functions of single rows, each in one pass over them.

LayerNorm is fused with the residual sum and the dropout before it, forward and backward. The derivative of GELU is
fused with the sum over rows that is the gradient of the bias.
"""

import numpy as np
from numba import njit

from compact_biomed.engine.compiled.language import (
    ENTRY,
    LOOP,
    ROUGH_LOOP,
    block_count,
    exp,
    f32,
    hashed,
    keep_factor,
    put,
    rows_of_block,
    sum_blocks,
    to_f32,
    u32,
)
from compact_biomed.engine.compiled.parallel import in_threads


@njit(**ENTRY)
def norm_forward(x, residual, weight, bias, eps, key, threshold, scale, normed, deviations, y, threads):
    """Compute LayerNorm(dropout(x) + residual).

    Args:
        x, residual: [rows, width] bfloat16.
        weight, bias: [width] bfloat16.
        eps: of LayerNorm.
        key, threshold: of dropout; see `language.keep_factor`.
        scale: of what dropout keeps.
        normed: as x, overwritten with the result before weight and bias.
        deviations: [rows] float32, overwritten with one over the standard deviation.
        y: as x, overwritten with the result.
        threads: number of threads.
    """
    in_threads(_norm_forward, (x, residual, weight, bias, eps, key, threshold, scale, normed, deviations, y), threads)


@njit(**ENTRY)
def norm_backward(
    gradient,
    normed,
    deviations,
    weight,
    key,
    threshold,
    scale,
    gradient_x,
    gradient_residual,
    gradient_weight,
    gradient_bias,
    threads,
):
    """Compute the gradients of the inputs of `norm_forward` from that of `y`.

    The other arguments are those of `norm_forward`.

    Args:
        gradient: [rows, width] bfloat16.
        gradient_x, gradient_residual: the same, overwritten.
        gradient_weight, gradient_bias: [width] bfloat16, overwritten.
    """
    rows, width = gradient.shape
    parts = np.zeros((block_count(rows), 2 * width), f32)
    arguments = (gradient, normed, deviations, weight, key, threshold, scale, gradient_x, gradient_residual, parts)
    in_threads(_norm_backward, arguments, threads)
    total = sum_blocks(parts)
    for j in range(width):
        put(gradient_weight, j, total[j])
        put(gradient_bias, j, total[width + j])


@njit(**LOOP)
def _norm_forward(x, residual, weight, bias, eps, key, threshold, scale, normed, deviations, y, share, shares):
    rows, width = x.shape
    total = np.empty(width, f32)
    for block in range(share, block_count(rows), shares):
        for i in rows_of_block(block, rows):
            _add(x[i], residual[i], hashed(key + u32(i)), threshold, scale, total)
            deviations[i] = _normalize(total, eps, normed[i])
            _stretch(total, weight, bias, y[i])


@njit(**LOOP)
def _norm_backward(
    gradient, normed, deviations, weight, key, threshold, scale, gradient_x, gradient_residual, parts, share, shares
):
    rows, width = gradient.shape
    total = np.empty(width, f32)
    for block in range(share, len(parts), shares):
        sums = parts[block]
        for i in rows_of_block(block, rows):
            _gradient(gradient[i], normed[i], deviations[i], weight, total, sums[:width], sums[width:])
            _split(total, hashed(key + u32(i)), threshold, scale, gradient_x[i], gradient_residual[i])


@njit(**LOOP)
def _add(x, residual, key, threshold, scale, total):
    for j in range(total.size):
        total[j] = to_f32(residual[j]) + to_f32(x[j]) * (keep_factor(key, j, threshold) * scale)


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
        put(normed, j, total[j])
    return deviation


@njit(**LOOP)
def _stretch(total, weight, bias, y):
    for j in range(total.size):
        put(y, j, total[j] * to_f32(weight[j]) + to_f32(bias[j]))


@njit(**LOOP)
def _gradient(gradient, normed, deviation, weight, total, sum_weight, sum_bias):
    n = f32(total.size)
    mean, along = f32(0), f32(0)
    for j in range(total.size):
        g, x = to_f32(gradient[j]), to_f32(normed[j])
        sum_weight[j] += g * x
        sum_bias[j] += g
        g *= to_f32(weight[j])
        total[j] = g
        mean += g
        along += g * x
    mean, along = mean / n, along / n
    for j in range(total.size):
        total[j] = deviation * (total[j] - mean - to_f32(normed[j]) * along)


@njit(**LOOP)
def _split(total, key, threshold, scale, gradient_x, gradient_residual):
    for j in range(total.size):
        put(gradient_residual, j, total[j])
        put(gradient_x, j, total[j] * (keep_factor(key, j, threshold) * scale))


# ---- Derivative of GELU


@njit(**ENTRY)
def gelu_backward(x, gradient, sums, threads):
    """Compute the gradient of the input of GELU.

    Args:
        x: [rows, width] bfloat16, the input.
        gradient: the same, of the output; overwritten with that of the input.
        sums: [width] bfloat16, overwritten with its sum over the rows.
        threads: number of threads.
    """
    rows, width = x.shape
    parts = np.zeros((block_count(rows), width), f32)
    in_threads(_gelu_backward, (x, gradient, parts), threads)
    total = sum_blocks(parts)
    for j in range(width):
        put(sums, j, total[j])


@njit(**LOOP)
def _gelu_backward(x, gradient, parts, share, shares):
    for block in range(share, len(parts), shares):
        for i in rows_of_block(block, x.shape[0]):
            _gelu_row(x[i], gradient[i], parts[block])


@njit(**ROUGH_LOOP)
def _gelu_row(x, gradient, sums):
    for j in range(x.size):
        y = to_f32(x[j])
        bell = exp(f32(-0.5) * y * y)
        # 1 - Phi(|y|), by Abramowitz and Stegun 7.1.26
        t = f32(1) / (f32(1) + f32(0.3275911 * 0.5**0.5) * abs(y))
        p = f32(1.421413741) + t * (f32(-1.453152027) + t * f32(1.061405429))
        tail = f32(0.5) * bell * t * (f32(0.254829592) + t * (f32(-0.284496736) + t * p))
        below = tail if y < f32(0) else f32(1) - tail
        g = to_f32(gradient[j]) * (below + y * bell * f32(0.3989422804))
        sums[j] += g
        put(gradient, j, g)
