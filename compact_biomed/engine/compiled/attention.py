"""Attention within documents that follow one another without padding: one document and head at a time, in cache.

No cell of padding is computed, and no attention map reaches memory. The backward pass recomputes the probabilities and
the random bits of their dropout.
"""

import numpy as np
from numba import njit

from compact_biomed.engine.compiled.language import (
    ENTRY,
    LOOP,
    ROUGH_LOOP,
    exp,
    f32,
    from_bf16,
    hashed,
    keep_factor,
    to_bf16,
    u32,
)
from compact_biomed.engine.compiled.parallel import in_threads


@njit(**ENTRY)
def forward(qkv, starts, heads, key, threshold, scale, context, threads):
    """Compute softmax(q k^T) with dropout, times v.

    Args:
        qkv: [rows, 3 * hidden] bfloat16, query (already scaled), key and value side by side.
        starts: [documents + 1] int64, the first row of each document, and the end of the last.
        heads: number of heads.
        key, threshold: of dropout; see `language.keep_factor`.
        scale: of what dropout keeps.
        context: [rows, hidden] bfloat16, overwritten with the result.
        threads: number of threads.
    """
    in_threads(_forward, (qkv, starts, heads, key, threshold, scale, context), threads)


@njit(**ENTRY)
def backward(qkv, starts, heads, key, threshold, scale, gradient, gradient_qkv, threads):
    """Write the gradient of `qkv` to `gradient_qkv`, from that of `context`; other arguments as for `forward`."""
    in_threads(_backward, (qkv, starts, heads, key, threshold, scale, gradient, gradient_qkv), threads)


@njit(**LOOP)
def _forward(qkv, starts, heads, key, threshold, scale, context, share, shares):
    documents, width = len(starts) - 1, context.shape[1] // heads
    for task in range(share, documents * heads, shares):
        head, document = task // documents, task % documents
        rows = slice(starts[document], starts[document + 1])
        _forward_one(qkv[rows], head * width, width, hashed(key + u32(task)), threshold, scale, context[rows])


@njit(**LOOP)
def _backward(qkv, starts, heads, key, threshold, scale, gradient, gradient_qkv, share, shares):
    documents, width = len(starts) - 1, gradient.shape[1] // heads
    for task in range(share, documents * heads, shares):
        head, document = task // documents, task % documents
        rows = slice(starts[document], starts[document + 1])
        _backward_one(
            qkv[rows],
            head * width,
            width,
            hashed(key + u32(task)),
            threshold,
            scale,
            gradient[rows],
            gradient_qkv[rows],
        )


@njit(**LOOP)
def _forward_one(qkv, first, width, key, threshold, scale, context):
    hidden = context.shape[1]
    q, k, v = _read(qkv, first, width), _read(qkv, hidden + first, width), _read(qkv, 2 * hidden + first, width)
    p = np.dot(q, k.T)
    _softmax(p)
    if threshold > 0:
        _drop(p.reshape(-1), key, threshold)
    _write(np.dot(p, v), scale, context, first)


@njit(**LOOP)
def _backward_one(qkv, first, width, key, threshold, scale, gradient, gradient_qkv):
    hidden = gradient.shape[1]
    q, k, v = _read(qkv, first, width), _read(qkv, hidden + first, width), _read(qkv, 2 * hidden + first, width)
    g = _read(gradient, first, width)
    p, gradient_p = np.dot(q, k.T), np.dot(g, v.T)
    _softmax(p)
    dropped = np.empty_like(p)
    _drop_both(p.reshape(-1), gradient_p.reshape(-1), key, threshold, dropped.reshape(-1))
    for i in range(len(p)):
        _through_softmax(p[i], gradient_p[i])
    _write(np.dot(gradient_p, k), scale, gradient_qkv, first)
    _write(np.dot(gradient_p.T, q), scale, gradient_qkv, hidden + first)
    _write(np.dot(dropped.T, g), scale, gradient_qkv, 2 * hidden + first)


@njit(**LOOP)
def _read(matrix, first, width):
    """Return `width` columns from `first` on as float32."""
    columns = np.empty((matrix.shape[0], width), f32)
    for i in range(matrix.shape[0]):
        row, source = columns[i], matrix[i, first : first + width]
        for j in range(width):
            row[j] = from_bf16(source[j])
    return columns


@njit(**LOOP)
def _write(values, scale, matrix, first):
    for i in range(values.shape[0]):
        row, target = values[i], matrix[i, first : first + values.shape[1]]
        for j in range(row.size):
            target[j] = to_bf16(row[j] * scale)


@njit(**LOOP)
def _softmax(scores):
    """Replace each row by its softmax."""
    for i in range(len(scores)):
        _below_highest(scores[i])
    _exp(scores.reshape(-1))
    for i in range(len(scores)):
        _scaled_to_one(scores[i])


@njit(**ROUGH_LOOP)
def _below_highest(row):
    highest = row[0]
    for j in range(row.size):
        highest = max(highest, row[j])
    for j in range(row.size):
        row[j] -= highest


@njit(**LOOP)
def _exp(values):
    for j in range(values.size):
        values[j] = exp(values[j])


@njit(**LOOP)
def _scaled_to_one(row):
    total = f32(0)
    for j in range(row.size):
        total += row[j]
    scale = f32(1) / total
    for j in range(row.size):
        row[j] *= scale


@njit(**LOOP)
def _drop(values, key, threshold):
    for j in range(values.size):
        values[j] *= keep_factor(key, j, threshold)


@njit(**LOOP)
def _drop_both(values, gradient, key, threshold, target):
    for j in range(values.size):
        keep = keep_factor(key, j, threshold)
        target[j] = values[j] * keep
        gradient[j] *= keep


@njit(**LOOP)
def _through_softmax(p, gradient):
    """Turn the gradient of probabilities into that of scores, in place."""
    total = f32(0)
    for j in range(p.size):
        total += p[j] * gradient[j]
    for j in range(p.size):
        gradient[j] = p[j] * (gradient[j] - total)
