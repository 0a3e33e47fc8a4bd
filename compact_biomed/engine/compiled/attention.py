"""Attention within documents that follow one another without padding: one document and head at a time, in cache.

No cell of padding is computed, and no attention map reaches memory. The backward pass recomputes the probabilities and
the random bits of their dropout.
"""

import numpy as np
from numba import njit

from compact_biomed.engine.compiled.language import (
    ENTRY,
    LOOP,
    exp,
    f32,
    from_ordered,
    hashed,
    keep_factor,
    ordered,
    put,
    to_f32,
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
    memory = _memory(starts, width, 1)
    for task in range(share, documents * heads, shares):
        head, document = task // documents, task % documents
        rows = slice(starts[document], starts[document + 1])
        of_task = hashed(key + u32(task))
        _forward_one(qkv[rows], head * width, width, of_task, threshold, scale, context[rows], memory)


@njit(**LOOP)
def _backward(qkv, starts, heads, key, threshold, scale, gradient, gradient_qkv, share, shares):
    documents, width = len(starts) - 1, gradient.shape[1] // heads
    memory = _memory(starts, width, 3)
    for task in range(share, documents * heads, shares):
        head, document = task // documents, task % documents
        rows = slice(starts[document], starts[document + 1])
        of_task, target = hashed(key + u32(task)), gradient_qkv[rows]
        _backward_one(qkv[rows], head * width, width, of_task, threshold, scale, gradient[rows], target, memory)


@njit(**LOOP)
def _forward_one(qkv, first, width, key, threshold, scale, context, memory):
    rows, hidden = context.shape
    vectors, maps = memory
    q, k, v = _matrix(vectors[0], rows, width), _matrix(vectors[1], rows, width), _matrix(vectors[2], rows, width)
    p, attended = _matrix(maps[0], rows, rows), _matrix(vectors[3], rows, width)
    _read(qkv, first, q)
    _read(qkv, hidden + first, k)
    _read(qkv, 2 * hidden + first, v)
    np.dot(q, k.T, p)
    _softmax(p)
    if threshold > 0:
        _drop(p.reshape(-1), key, threshold)
    np.dot(p, v, attended)
    _write(attended, scale, context, first)


@njit(**LOOP)
def _backward_one(qkv, first, width, key, threshold, scale, gradient, gradient_qkv, memory):
    rows, hidden = gradient.shape
    vectors, maps = memory
    q, k, v = _matrix(vectors[0], rows, width), _matrix(vectors[1], rows, width), _matrix(vectors[2], rows, width)
    g, result = _matrix(vectors[3], rows, width), _matrix(vectors[4], rows, width)
    p, gradient_p, dropped = _matrix(maps[0], rows, rows), _matrix(maps[1], rows, rows), _matrix(maps[2], rows, rows)
    _read(qkv, first, q)
    _read(qkv, hidden + first, k)
    _read(qkv, 2 * hidden + first, v)
    _read(gradient, first, g)
    np.dot(q, k.T, p)
    np.dot(g, v.T, gradient_p)
    _softmax(p)
    _drop_both(p.reshape(-1), gradient_p.reshape(-1), key, threshold, dropped.reshape(-1))
    np.dot(dropped.T, g, result)
    _write(result, scale, gradient_qkv, 2 * hidden + first)
    for i in range(rows):
        _through_softmax(p[i], gradient_p[i])
    np.dot(gradient_p, k, result)
    _write(result, scale, gradient_qkv, first)
    np.dot(gradient_p.T, q, result)
    _write(result, scale, gradient_qkv, hidden + first)


@njit(**LOOP)
def _memory(starts, width, maps):
    """Return memory for matrices of vectors and for attention maps of any of the documents: one allocation each.

    An allocation per document would be given back to the system, and its pages filled with zeros, again and again.
    """
    longest = 0
    for document in range(len(starts) - 1):
        longest = max(longest, starts[document + 1] - starts[document])
    return np.empty((5, longest * width), f32), np.empty((maps, longest * longest), f32)


@njit(**LOOP)
def _matrix(memory, rows, columns):
    return memory[: rows * columns].reshape(rows, columns)


@njit(**LOOP)
def _read(matrix, first, columns):
    """Fill `columns` with as many columns of a matrix, from `first` on, as float32."""
    for i in range(columns.shape[0]):
        row, source = columns[i], matrix[i, first : first + columns.shape[1]]
        for j in range(row.size):
            row[j] = to_f32(source[j])


@njit(**LOOP)
def _write(values, scale, matrix, first):
    for i in range(values.shape[0]):
        row, target = values[i], matrix[i, first : first + values.shape[1]]
        for j in range(row.size):
            put(target, j, row[j] * scale)


@njit(**LOOP)
def _softmax(scores):
    """Replace each row by its softmax."""
    for i in range(len(scores)):
        _below_highest(scores[i])
    _exp(scores.reshape(-1))
    for i in range(len(scores)):
        _scaled_to_one(scores[i])


@njit(**LOOP)
def _below_highest(row):
    highest = ordered(row[0])
    for j in range(row.size):
        number = ordered(row[j])
        highest = number if number > highest else highest
    top = from_ordered(highest)
    for j in range(row.size):
        row[j] -= top


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
