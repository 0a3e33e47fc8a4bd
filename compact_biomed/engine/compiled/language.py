"""The elements of the loops: numbers of either type, the exponential function, random bits, sums over rows.

Each is written so that the compiler can vectorize a loop around it: no branches, no tables, no 64-bit integers. numba
has no bfloat16, so such tensors come as the uint16 of their bits. Loops compute in float32; `to_f32` reads a number of
either type, and `put` writes one.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

f32, u16, u32, i32 = np.float32, np.uint16, np.uint32, np.int32

# Sums may be computed in another order (as vectors), but NaN stays NaN. A loop is vectorized if it runs over whole
# slices, in a separate function.
LOOP = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "error_model": "numpy", "nogil": True}
# Divisions and roots, too, may be off by a few of their last bits. The compiler may then assume that nothing is NaN;
# without comparisons, sums and products of NaN are NaN all the same (tests check it).
ROUGH_LOOP = {**LOOP, "fastmath": True}
# An entry point, which Python calls and which shares its work among the cores.
ENTRY = {"error_model": "numpy", "nogil": True, "cache": True}
_SCALAR = {"fastmath": True, "inline": "always"}


# ---- bfloat16 and float32


@intrinsic
def _as_float(context, bits):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _as_bits(context, number):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.uint32(types.float32), generate


@njit(**_SCALAR)
def from_bf16(bits):
    """Convert a bfloat16 to float32."""
    return _as_float(u32(u32(bits) << u32(16)))


@njit(**_SCALAR)
def to_bf16(number):
    """Round a float32 to the nearest bfloat16, ties to even. A NaN that arithmetic makes stays NaN."""
    bits = _as_bits(number)
    return u16(u32(bits + u32(0x7FFF) + ((bits >> u32(16)) & u32(1))) >> u32(16))


def to_f32(x):
    """Return a float32, or the bits of a bfloat16, as float32."""
    raise NotImplementedError("for compiled code only")


@overload(to_f32, inline="always")
def _to_f32(x):
    return (lambda x: from_bf16(x)) if isinstance(x, types.Integer) else (lambda x: x)


def put(target, j, number):
    """Write a float32 to target[j], rounded if these are the bits of bfloat16."""
    raise NotImplementedError("for compiled code only")


@overload(put, inline="always")
def _put(target, j, number):
    def as_bf16(target, j, number):
        target[j] = to_bf16(number)

    def as_f32(target, j, number):
        target[j] = number

    return as_bf16 if isinstance(target.dtype, types.Integer) else as_f32


@njit(**_SCALAR)
def ordered(number):
    """Map float32 to int32 in the same order: of integers, unlike floats, the compiler vectorizes the highest."""
    return _mirrored(i32(_as_bits(number)))


@njit(**_SCALAR)
def from_ordered(number):
    """Return the float32 that `ordered` maps to this int32."""
    return _as_float(u32(_mirrored(number)))


@njit(**_SCALAR)
def _mirrored(bits):
    """Flip all bits but the sign of a negative number: of floats, the larger bits are then the lower ones."""
    return i32(bits ^ i32(i32(bits >> i32(31)) & i32(0x7FFFFFFF)))


# ---- The exponential function and random bits


@njit(**_SCALAR)
def exp(x):
    """Return exp(x) for x <= 0, to a relative error of 2e-7; below -87, 1e-38."""
    y = max(x * f32(1.44269504), f32(-126))
    whole = np.floor(y + f32(0.5))
    f = y - whole  # 2^f is the Chebyshev polynomial on [-1/2, 1/2] with the least relative error
    p = f32(0.055507133) + f * (f32(0.0096755413) + f * f32(0.0013276471))
    p = f32(1.00000007) + f * (f32(0.69314697) + f * (f32(0.2402212) + f * p))
    return _as_float(u32(i32(_as_bits(p)) + (i32(whole) << i32(23))))


@njit(**_SCALAR)
def hashed(x):
    """Permute the 32-bit numbers so that each bit of the result depends on all bits of x."""
    # Without the casts numba would compute in 64 bits, which takes four times as long.
    x = u32(x)
    x = u32(x ^ u32(x >> u32(16)))
    x = u32(x * u32(0x7FEB352D))
    x = u32(x ^ u32(x >> u32(15)))
    x = u32(x * u32(0x846CA68B))
    return u32(x ^ u32(x >> u32(16)))


@njit(**_SCALAR)
def keep_factor(key, position, threshold):
    """Return 0 if dropout drops this position, else 1. Key and position decide; `threshold` of 2^32 are dropped."""
    return f32(1) if hashed(u32(key + u32(u32(position) * u32(0x9E3779B9)))) >= threshold else f32(0)


# ---- Sums over the rows of a matrix
# They are computed in blocks and added up in order, so that the sum is the same for any number of cores.


_BLOCK_ROWS = 16


@njit(**LOOP)
def block_count(rows):
    """Return the number of blocks of a matrix; one for a matrix without rows."""
    return max(1, (rows + _BLOCK_ROWS - 1) // _BLOCK_ROWS)


@njit(**LOOP)
def rows_of_block(block, rows):
    """Return the indices of the rows in a block."""
    return range(block * _BLOCK_ROWS, min(rows, (block + 1) * _BLOCK_ROWS))


@njit(**LOOP)
def sum_blocks(parts):
    """Add up the sums of the blocks [blocks, width] in place -> [width]."""
    total = parts[0]
    for part in range(1, len(parts)):
        for j in range(total.size):
            total[j] += parts[part, j]
    return total
