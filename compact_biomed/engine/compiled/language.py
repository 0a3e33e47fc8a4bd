"""What the loops are made of: bfloat16, the exponential function, random bits.

numba has no bfloat16: such tensors come as the uint16 of their bits.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, overload

f32, u16, u32, i32 = np.float32, np.uint16, np.uint32, np.int32

# Sums may be made in another order (as vectors), but what is not a number stays so. A loop is vectorized where it runs
# over whole slices, in a function of its own.
LOOP = {"fastmath": {"reassoc", "contract", "arcp", "nsz"}, "error_model": "numpy", "nogil": True}
# Where divisions and roots may be off by a few of their last bits, too. The compiler may then suppose that nothing is
# NaN; where no numbers are compared, sums and products of NaN are NaN all the same (tests see to it).
ROUGH_LOOP = {**LOOP, "fastmath": True}
# What one calls from Python; shares its work among the cores.
SHARED = {"error_model": "numpy", "nogil": True, "cache": True}
_SCALAR = {"fastmath": True, "inline": "always"}


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
def wide(bits):
    """A bfloat16 as float32."""
    return _as_float(u32(u32(bits) << u32(16)))


@njit(**_SCALAR)
def narrow(number):
    """A float32 as bfloat16, rounded to nearest, ties to even. NaN stays NaN if it is one that arithmetic makes."""
    bits = _as_bits(number)
    return u16(u32(bits + u32(0x7FFF) + ((bits >> u32(16)) & u32(1))) >> u32(16))


def number(x):
    """A float32, or the bits of a bfloat16, as float32."""
    raise NotImplementedError("for compiled code only")


@overload(number, inline="always")
def _number(x):
    return (lambda x: wide(x)) if isinstance(x, types.Integer) else (lambda x: x)


@njit(**_SCALAR)
def exp(x):
    """exp(x) for x <= 0, to 2e-7 of it; below -87, 1e-38."""
    y = max(x * f32(1.44269504), f32(-126))
    whole = np.floor(y + f32(0.5))
    f = y - whole  # 2^f is the Chebyshev polynomial on [-1/2, 1/2] with the least relative error
    p = f32(0.055507133) + f * (f32(0.0096755413) + f * f32(0.0013276471))
    p = f32(1.00000007) + f * (f32(0.69314697) + f * (f32(0.2402212) + f * p))
    return _as_float(u32(i32(_as_bits(p)) + (i32(whole) << i32(23))))


@njit(**_SCALAR)
def mixed(x):
    """A permutation of the 32-bit numbers in which each bit of the result depends on all of x."""
    # numba would go on in 64 bits, which take four times as long.
    x = u32(x)
    x = u32(x ^ u32(x >> u32(16)))
    x = u32(x * u32(0x7FEB352D))
    x = u32(x ^ u32(x >> u32(15)))
    x = u32(x * u32(0x846CA68B))
    return u32(x ^ u32(x >> u32(16)))


@njit(**_SCALAR)
def kept(key, place, least):
    """What dropout leaves at a place, 1 or 0: the latter in `least` of 2^32 cases. The key and the place decide."""
    return f32(1) if mixed(u32(key + u32(u32(place) * u32(0x9E3779B9)))) >= least else f32(0)


# ----------------------------------------------------------------------------------------------------
# Rows of a matrix in blocks: sums over all rows are made of the blocks', in order, however many cores there are.


_ROWS = 16


@njit(**LOOP)
def blocks(rows):
    """Of how many blocks so many rows consist; one, if there are none."""
    return max(1, (rows + _ROWS - 1) // _ROWS)


@njit(**LOOP)
def rows_of(block, rows):
    """The numbers of the rows in a block."""
    return range(block * _ROWS, min(rows, (block + 1) * _ROWS))


@njit(**LOOP)
def added_up(parts):
    """Sums of the blocks [blocks, width] -> of all rows [width], in place."""
    total = parts[0]
    for part in range(1, len(parts)):
        for j in range(total.size):
            total[j] += parts[part, j]
    return total
