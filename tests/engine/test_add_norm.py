"""LayerNorm of a sum with dropout: torch's operations, and the compiled loops against float64."""

import pytest
import torch
from torch.nn import functional as F

from compact_biomed.engine import compiled
from compact_biomed.engine.dropout import random_stream
from compact_biomed.engine.kernels import add_norm

EPS = 1e-5


def inputs(rows: int, width: int, dtype: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((rows, width), (rows, width), (width,), (width,))
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]


def assert_like(got: torch.Tensor, exact: torch.Tensor, tolerance: float) -> None:
    assert float((got.double() - exact).norm() / exact.norm()) < tolerance


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 4e-3)]
)
@pytest.mark.parametrize("shape", [(1, 8), (50, 40), (33, 384)])
def test_values_and_gradients(shape: tuple[int, int], dtype: torch.dtype, tolerance: float) -> None:
    values = inputs(*shape, dtype)
    ours, exact = ([x.to(t).clone().requires_grad_() for x in values] for t in (dtype, torch.float64))
    y = add_norm(*ours, eps=EPS, p=0.0, training=True)
    expected = F.layer_norm(exact[0] + exact[1], shape[1:], *exact[2:], EPS)
    assert_like(y.detach(), expected.detach(), tolerance)
    gradient = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)
    y.backward(gradient)
    expected.backward(gradient.double())
    for a, b in zip(ours, exact, strict=True):
        assert_like(a.grad, b.grad, tolerance)


def test_dropout_of_the_loops() -> None:
    """The two gradients show which cells dropout kept; with these, value and gradients are those of the formula."""
    p, values = 0.25, inputs(64, 96, torch.bfloat16)
    ours, exact = ([x.to(t).clone().requires_grad_() for x in values] for t in (torch.bfloat16, torch.float64))
    with random_stream(3):
        y = add_norm(*ours, eps=EPS, p=p, training=True)
    gradient = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    y.backward(gradient)
    keep = (ours[0].grad != 0).double()
    assert abs(float(keep.mean()) - (1 - p)) < 0.03
    expected = F.layer_norm(exact[0] * keep / (1 - p) + exact[1], (96,), *exact[2:], EPS)
    expected.backward(gradient.double())
    assert_like(y.detach(), expected.detach(), 4e-3)
    for a, b in zip(ours, exact, strict=True):
        assert_like(a.grad, b.grad, 4e-3)


def test_outside_training_nothing_is_dropped() -> None:
    values = inputs(5, 16, torch.bfloat16)
    y = add_norm(*values, eps=EPS, p=0.5, training=False)
    assert torch.equal(y, F.layer_norm(values[0] + values[1], (16,), *values[2:], EPS))


def test_the_number_of_threads_changes_nothing(one_thread) -> None:
    values, results = inputs(100, 48, torch.bfloat16), []
    for threads in (1, 3):
        torch.set_num_threads(threads)
        ours = [x.clone().requires_grad_() for x in values]
        with random_stream(3):
            y = add_norm(*ours, eps=EPS, p=0.1, training=True)
        y.sum().backward()
        results.append([y.detach(), *(x.grad for x in ours)])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_what_is_not_a_number_stays_so() -> None:
    values = inputs(4, 16, torch.bfloat16)
    values[0][2, 3] = float("nan")
    assert compiled.usable(*values)
    y = add_norm(*values, eps=EPS, p=0.0, training=True)
    assert y[2].isnan().all() and not y[[0, 1, 3]].isnan().any()


def test_without_rows_the_gradients_are_zero() -> None:
    values = [x.requires_grad_() for x in inputs(0, 16, torch.bfloat16)]
    assert compiled.usable(*values)
    torch.full((1 << 12,), 7.0)  # freed memory that is not zero, for what would be read by mistake
    with random_stream(3):
        add_norm(*values, eps=EPS, p=0.1, training=True).sum().backward()
    assert all(not x.grad.any() for x in values)
