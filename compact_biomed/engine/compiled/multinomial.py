"""Multinomial draws: the numbers of numpy's generator, in half its time where most categories are rare.

numpy draws each category with all preparations of a binomial number. Here what depends on the category alone is
computed once for all draws.
"""

from math import exp, sqrt

import numpy as np
from numba import njit

_FEW = 30.0  # expected number up to which numpy adds up probabilities, and draws one uniform number for it


@njit(cache=True, nogil=True)
def draw(rng, count, out):
    """Fill `out` [draws, categories] as `rng.multinomial(count.sum(), count / count.sum(), size=draws)` would.

    The generator then is in the same state. One uniform number decides on a rare category (inversion: Kachitvichyanukul
    and Schmeiser 1988, Binomial random variate generation, algorithm BINV).

    Args:
        rng: a `numpy.random.Generator`.
        count: how often each category occurs, at least once, int64.
        out: float64, zeros.
    """
    last, total = len(count) - 1, count.sum()
    share, log_other = np.empty(last), np.empty(last)
    remaining = 1.0
    for category in range(last):
        share[category] = count[category] / total / remaining
        log_other[category] = np.log1p(-share[category])
        remaining -= count[category] / total
    for row in range(len(out)):
        left = float(total)
        for category in range(last):
            p = share[category]
            expected = left * p
            if p > 0.5 or expected > _FEW:
                number = float(rng.binomial(int(left), p))
            else:
                none = exp(left * log_other[category])
                odds = p / (1.0 - p)
                uniform, probability, number = rng.random(), none, 0.0
                while uniform > probability:
                    number += 1.0
                    if number > expected + 10.0 and number > min(left, np.floor(_most(left, p))):
                        uniform, probability, number = rng.random(), none, 0.0
                    else:
                        uniform -= probability
                        probability *= (left - number + 1.0) * odds / number
            out[row, category] = number
            left -= number
            if left <= 0.0:
                break
        else:
            out[row, last] = left


@njit(cache=True)
def _most(n, p):
    """Return the number at which numpy rejects a draw."""
    return n * p + 10.0 * sqrt(n * p * (1.0 - p) + 1.0)
