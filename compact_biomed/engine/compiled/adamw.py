"""AdamW in one pass over memory, instead of one per operation, and the norm of the gradient before it."""

import numpy as np
from numba import njit

from compact_biomed.engine.compiled.language import ENTRY, LOOP, ROUGH_LOOP, f32, put, to_f32
from compact_biomed.engine.compiled.parallel import in_threads

_PIECE = 1 << 14  # numbers at a time, in the first-level caches


@njit(**ENTRY)
def square_sum(vector, threads):
    """Return the sum of squares of a vector, float32 or bfloat16, as float64."""
    parts = np.empty((vector.size + _PIECE - 1) // _PIECE, np.float64)
    in_threads(_square_sums, (vector, parts), threads)
    return parts.sum()


@njit(**ENTRY)
def update(
    weights, mean, square, gradient, copy, factor, rate, decay, beta1, beta2, correction1, correction2, eps, threads
):
    """Make a step of AdamW (Loshchilov and Hutter 2019, algorithm 2).

    Args:
        weights, mean, square: [n] float32, the weights and the moments of the gradient; updated in place.
        gradient: [n], float32 or bfloat16.
        copy: [n], float32 or bfloat16, overwritten with the new weights.
        factor: multiplies the gradient.
        rate, decay: the learning rate and the weight decay, which is multiplied by it.
        beta1, beta2, eps: of AdamW.
        correction1, correction2: 1 - beta^step of each.
        threads: number of threads.
    """
    numbers = (factor, f32(1) - rate * decay, beta1, beta2, rate / correction1, f32(1) / np.sqrt(correction2), eps)
    in_threads(_updates, (weights, mean, square, gradient, copy, numbers), threads)


@njit(**LOOP)
def _square_sums(vector, parts, share, shares):
    for i in range(share, len(parts), shares):
        parts[i] = _square_sum(vector[i * _PIECE : (i + 1) * _PIECE])


@njit(**LOOP)
def _updates(weights, mean, square, gradient, copy, numbers, share, shares):
    for i in range(share, (weights.size + _PIECE - 1) // _PIECE, shares):
        piece = slice(i * _PIECE, (i + 1) * _PIECE)
        _update(weights[piece], mean[piece], square[piece], gradient[piece], copy[piece], numbers)


@njit(**LOOP)
def _square_sum(vector):
    total = f32(0)
    for i in range(vector.size):
        x = to_f32(vector[i])
        total += x * x
    return total


@njit(**ROUGH_LOOP)
def _update(weights, mean, square, gradient, copy, numbers):
    factor, shrink, beta1, beta2, step, root, eps = numbers
    for i in range(weights.size):
        g = to_f32(gradient[i]) * factor
        m = mean[i] + (g - mean[i]) * (f32(1) - beta1)
        v = square[i] * beta2 + g * g * (f32(1) - beta2)
        weight = weights[i] * shrink - step * m / (np.sqrt(v) * root + eps)
        weights[i], mean[i], square[i] = weight, m, v
        put(copy, i, weight)
