"""Attention within documents that lie one behind the other: each document and head for itself, in cache.

Only what is read and written at the ends is in memory. The probabilities are made again in the backward pass, and so
are the random bits of their dropout.
"""

import numpy as np
from numba import njit

from compact_biomed.engine.compiled.language import LOOP, ROUGH_LOOP, SHARED, exp, f32, kept, mixed, narrow, u32, wide
from compact_biomed.engine.compiled.parallel import in_threads


@njit(**SHARED)
def forward(qkv, starts, heads, key, least, scale, context, threads):
    """softmax(q k^T) with dropout, times v.

    Args:
        qkv: [rows, 3 * hidden] bfloat16, query (scaled already), key and value side by side.
        starts: [documents + 1] int64, where the documents begin, and where the last ends.
        heads: their number.
        key, least: of dropout; see `bits.kept`.
        scale: of what dropout leaves.
        context: [rows, hidden] bfloat16, is written.
        threads: their number.
    """
    in_threads(_forward, (qkv, starts, heads, key, least, scale, context), threads)


@njit(**SHARED)
def backward(qkv, starts, heads, key, least, scale, gradient, found, threads):
    """The gradient of `qkv`, written to `found`, from that of `context`; all else as in `forward`."""
    in_threads(_backward, (qkv, starts, heads, key, least, scale, gradient, found), threads)


@njit(**LOOP)
def _forward(qkv, starts, heads, key, least, scale, context, share, shares):
    documents, width = len(starts) - 1, context.shape[1] // heads
    for task in range(share, documents * heads, shares):
        head, document = task // documents, task % documents
        rows = slice(starts[document], starts[document + 1])
        _forward_one(qkv[rows], head * width, width, mixed(key + u32(task)), least, scale, context[rows])


@njit(**LOOP)
def _backward(qkv, starts, heads, key, least, scale, gradient, found, share, shares):
    documents, width = len(starts) - 1, gradient.shape[1] // heads
    for task in range(share, documents * heads, shares):
        head, document = task // documents, task % documents
        rows = slice(starts[document], starts[document + 1])
        _backward_one(qkv[rows], head * width, width, mixed(key + u32(task)), least, scale, gradient[rows], found[rows])


@njit(**LOOP)
def _forward_one(qkv, first, width, key, least, scale, context):
    hidden = context.shape[1]
    q, k, v = _read(qkv, first, width), _read(qkv, hidden + first, width), _read(qkv, 2 * hidden + first, width)
    p = np.dot(q, k.T)
    _softmax(p)
    if least > 0:
        _drop(p.reshape(-1), key, least)
    _write(np.dot(p, v), scale, context, first)


@njit(**LOOP)
def _backward_one(qkv, first, width, key, least, scale, gradient, found):
    hidden = gradient.shape[1]
    q, k, v = _read(qkv, first, width), _read(qkv, hidden + first, width), _read(qkv, 2 * hidden + first, width)
    g = _read(gradient, first, width)
    p, gradient_p = np.dot(q, k.T), np.dot(g, v.T)
    _softmax(p)
    dropped = np.empty_like(p)
    _drop_both(p.reshape(-1), gradient_p.reshape(-1), key, least, dropped.reshape(-1))
    for i in range(len(p)):
        _through_softmax(p[i], gradient_p[i])
    _write(np.dot(gradient_p, k), scale, found, first)
    _write(np.dot(gradient_p.T, q), scale, found, hidden + first)
    _write(np.dot(dropped.T, g), scale, found, 2 * hidden + first)


@njit(**LOOP)
def _read(matrix, first, width):
    """`width` columns from `first` on, float32."""
    found = np.empty((matrix.shape[0], width), f32)
    for i in range(matrix.shape[0]):
        row, source = found[i], matrix[i, first : first + width]
        for j in range(width):
            row[j] = wide(source[j])
    return found


@njit(**LOOP)
def _write(values, scale, matrix, first):
    for i in range(values.shape[0]):
        row, target = values[i], matrix[i, first : first + values.shape[1]]
        for j in range(row.size):
            target[j] = narrow(row[j] * scale)


@njit(**LOOP)
def _softmax(scores):
    """Of each row, in place."""
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
def _drop(values, key, least):
    for j in range(values.size):
        values[j] *= kept(key, j, least)


@njit(**LOOP)
def _drop_both(values, gradient, key, least, target):
    for j in range(values.size):
        keep = kept(key, j, least)
        target[j] = values[j] * keep
        gradient[j] *= keep


@njit(**LOOP)
def _through_softmax(p, gradient):
    """The gradient of probabilities -> that of scores."""
    total = f32(0)
    for j in range(p.size):
        total += p[j] * gradient[j]
    for j in range(p.size):
        gradient[j] = p[j] * (gradient[j] - total)
