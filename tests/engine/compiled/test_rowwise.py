"""GELU's derivative against float64."""

import pytest
import torch
from torch.nn import functional as F

from compact_biomed.engine import compiled


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.bfloat16, 2**-8), (torch.float32, 2e-7)])
@pytest.mark.parametrize("shape", [(1, 1), (37, 50), (64, 33)])
def test_against_float64(shape: tuple[int, int], dtype: torch.dtype, rounding: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x = (3 * torch.randn(shape, generator=generator)).to(dtype)
    gradient = torch.randn(shape, generator=generator).to(dtype)
    exact = x.double().requires_grad_()
    F.gelu(exact).backward(gradient.double())
    got, sums = gradient.clone(), torch.empty(shape[1], dtype=dtype)
    compiled.call("rowwise", "gelu_backward", x, got, sums)
    # As exact as rounding is; the polynomial errs by 1.5e-7.
    torch.testing.assert_close(got.double(), exact.grad, rtol=rounding, atol=1e-6)
    torch.testing.assert_close(sums.double(), exact.grad.sum(0), rtol=rounding, atol=1e-4)


def test_far_out_it_is_zero_or_one() -> None:
    x = torch.tensor([[-100.0, -12.0, 0.0, 12.0, 100.0]]).bfloat16()
    got = torch.ones_like(x)
    compiled.call("rowwise", "gelu_backward", x, got, torch.empty(5, dtype=torch.bfloat16))
    assert got.tolist()[0] == pytest.approx([0.0, 0.0, 0.5, 1.0, 1.0], abs=1e-30)


def test_the_number_of_threads_changes_nothing(one_thread) -> None:
    x = torch.randn(100, 64, generator=torch.Generator().manual_seed(0)).bfloat16()
    results = []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        got, sums = torch.ones_like(x), torch.empty(64, dtype=torch.bfloat16)
        compiled.call("rowwise", "gelu_backward", x, got, sums)
        results.append((got, sums))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_without_rows_the_sum_is_zero() -> None:
    sums = torch.full((3,), 7.0).bfloat16()
    compiled.call("rowwise", "gelu_backward", *torch.empty(2, 0, 3).bfloat16(), sums)
    assert sums.tolist() == [0, 0, 0]


def test_what_is_not_a_number_stays_so() -> None:
    x, gradient = torch.zeros(2, 3).bfloat16(), torch.ones(2, 3).bfloat16()
    x[0, 1], gradient[1, 2] = torch.nan, torch.nan
    sums = torch.empty(3, dtype=torch.bfloat16)
    compiled.call("rowwise", "gelu_backward", x, gradient, sums)
    assert gradient.isnan().nonzero().tolist() == [[0, 1], [1, 2]]
    assert sums.isnan().tolist() == [False, True, True]
