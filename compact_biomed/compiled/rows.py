"""Rows of a matrix in blocks: sums over all rows are made of the blocks', in order, however many cores there are."""

from numba import njit

from compact_biomed.compiled.bits import LOOP

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
