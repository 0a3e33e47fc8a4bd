"""bfloat16 as in torch, an exponential function that is exact enough, and random bits."""

import numpy as np
import pytest
import torch
from numba import njit

from compact_biomed.engine.compiled import language


def test_each_bfloat16_is_read_and_written_as_torch_does() -> None:
    loop = njit(lambda x: language.from_bf16(x))
    every = np.arange(1 << 16, dtype=np.uint16)
    expected = torch.from_numpy(every.view(np.int16)).view(torch.bfloat16).float().numpy()
    got = np.array([loop(x) for x in every], np.float32)
    finite = np.isfinite(expected)
    np.testing.assert_array_equal(got[finite], expected[finite])
    back = njit(lambda x: language.to_bf16(x))
    assert all(back(x) == bit for x, bit in zip(expected[finite], every[finite], strict=True))


def test_rounding_is_to_the_nearest_and_ties_go_to_even() -> None:
    back = njit(lambda x: language.to_bf16(x))
    generator = torch.Generator().manual_seed(0)
    values = torch.cat([torch.randn(2000, generator=generator), torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, -1 - 2**-8])])
    expected = values.bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert [back(np.float32(x)) for x in values.tolist()] == expected.tolist()


def test_ordered_numbers_keep_their_order_and_come_back() -> None:
    ordered, back = njit(lambda x: language.ordered(x)), njit(lambda x: language.from_ordered(x))
    numbers = np.array([-np.inf, -3e38, -1.5, -1e-40, -0.0, 0.0, 1e-40, 1, 1.5, 3e38, np.inf], np.float32)
    mapped = [ordered(x) for x in numbers]
    assert mapped == sorted(mapped)
    np.testing.assert_array_equal(np.array([back(np.int32(x)) for x in mapped], np.float32), numbers)


def test_the_exponential_function() -> None:
    loop = njit(lambda x: language.exp(x))
    x = np.linspace(-87, 0, 20_001).astype(np.float32)
    got = np.array([loop(v) for v in x], np.float64)
    assert np.max(np.abs(got / np.exp(x.astype(np.float64)) - 1)) < 3e-7 + 87 * 6e-8  # of x log2(e), rounded
    assert all(0 <= loop(np.float32(v)) < 2e-38 for v in (-90.0, -1e4, -3e38))


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_keeps_as_many_as_it_should(p: float) -> None:
    @njit
    def drawn(key, threshold, factors):
        for i in range(factors.size):
            factors[i] = language.keep_factor(key, i, threshold)

    n = 200_000
    factors = np.zeros((3, n), np.float32)
    for row, key in zip(factors, (5, 6, 5), strict=True):
        drawn(np.uint32(key), np.uint32(p * 2**32), row)
    assert np.array_equal(factors[0], factors[2]) and set(np.unique(factors)) == {0.0, 1.0}
    assert abs(factors[0].mean() - (1 - p)) < 4 * (p * (1 - p) / n) ** 0.5
    # Neither neighbors nor other keys go together.
    for one, other in ((factors[0, 1:], factors[0, :-1]), (factors[0], factors[1])):
        assert abs(np.corrcoef(one, other)[0, 1]) < 4 / n**0.5
