"""Lookup, linear layer, feed-forward and cross-entropy against explicit formulas."""

import pytest
import torch
from torch.nn import functional as F
from transformers.activations import ACT2FN

from compact_biomed.engine import kernels
from compact_biomed.engine.kernels import collected_lookups, cross_entropy, feed_forward, gradients_into, linear, lookup


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cross_entropy_against_torch(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(50, 97, generator=generator, dtype=torch.float64) * 3).to(dtype)
    targets = torch.randint(97, (50,), generator=generator)
    ours, exact = logits.clone().requires_grad_(), logits.double().requires_grad_()
    loss, correct = cross_entropy(ours, targets)
    (loss * 0.5).backward()
    expected = F.cross_entropy(exact, targets, reduction="sum")
    (expected * 0.5).backward()
    tolerance = 1e-12 if dtype == torch.float64 else 1e-6
    torch.testing.assert_close(loss.detach().double(), expected.detach(), rtol=tolerance, atol=0)
    torch.testing.assert_close(ours.grad.double(), exact.grad, rtol=0, atol=tolerance)
    assert int(correct) == int((logits.argmax(-1) == targets).sum())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_cross_entropy_of_half_precision_logits_is_summed_in_float32(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(4000, 50, generator=generator) * 3).to(dtype).requires_grad_()
    targets = torch.randint(50, (4000,), generator=generator)
    loss, _ = cross_entropy(logits, targets)
    assert loss.dtype == torch.float32
    exact = F.cross_entropy(logits.detach().double(), targets, reduction="sum")
    assert abs(loss.item() / exact.item() - 1) < 1e-5
    loss.backward()
    assert logits.grad.dtype == dtype


def test_cross_entropy_of_extreme_logits() -> None:
    """Where softmax underflows to 0, its logarithm would be infinite."""
    logits = torch.tensor([[300.0, 0.0, -300.0], [1e4, -1e4, 0.0], [0.0, 0.0, 0.0]], requires_grad=True)
    targets = torch.tensor([2, 1, 0])
    loss, correct = cross_entropy(logits, targets)
    assert loss.item() == pytest.approx(600 + 2e4 + 1.0986123, rel=1e-6)
    assert int(correct) == 1
    loss.backward()
    torch.testing.assert_close(logits.grad[:2], torch.tensor([[1.0, 0.0, -1.0], [1.0, -1.0, 0.0]]))


def test_cross_entropy_of_no_rows() -> None:
    logits = torch.zeros(0, 7, requires_grad=True)
    loss, correct = cross_entropy(logits, torch.zeros(0, dtype=torch.int64))
    loss.backward()
    assert (loss.item(), int(correct)) == (0.0, 0)
    assert logits.grad.shape == (0, 7)


def test_lookup_is_an_embedding_whose_gradient_can_stay_rows() -> None:
    table = torch.randn(9, 4, dtype=torch.float64, requires_grad=True)
    ids, weight = torch.tensor([[3, 0, 3], [8, 0, 1]]), torch.randn(2, 3, 4, dtype=torch.float64)
    expected = F.embedding(ids, table, padding_idx=0)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), table)
    got = lookup(table, ids, 0)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    (dense,) = torch.autograd.grad((got * weight).sum(), table)
    torch.testing.assert_close(dense, expected_gradient, rtol=1e-12, atol=0)
    with collected_lookups() as lookups:
        (nothing,) = torch.autograd.grad((lookup(table, ids, 0) * weight).sum(), table, allow_unused=True)
    ((pointer, rows, gradient),) = lookups
    assert nothing is None and pointer == table.data_ptr()
    torch.testing.assert_close(
        torch.zeros_like(table).index_add_(0, rows, gradient), expected_gradient, rtol=1e-12, atol=0
    )


@pytest.mark.parametrize("limit", [0, kernels.MAX_SAVED_BYTES])
@pytest.mark.parametrize("by_columns", [False, True])
def test_feed_forward_against_the_formula(limit: int, by_columns: bool, monkeypatch) -> None:
    monkeypatch.setattr(kernels, "MAX_SAVED_BYTES", limit)  # the activation is recomputed, or saved
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 6), (10, 6), (10,), (6, 10), (6,)]
    exact = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    ours = [x.detach().clone() for x in exact]
    if by_columns:  # in memory
        ours = [x.t().contiguous().t() if x.ndim == 2 else x for x in ours]
    ours = [x.requires_grad_() for x in ours]
    weight = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    x, w1, b1, w2, b2 = exact
    expected = F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)
    (expected * weight).sum().backward()
    got = feed_forward(*ours, F.gelu)
    (got * weight).sum().backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by_columns", [False, True])
def test_gradients_of_matrices_go_to_their_buffers(by_columns: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 6), (6, 6), (6,), (10, 6), (10,), (6, 10), (6,)]
    x, *weights = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)
    if by_columns:
        weights = [w.t().contiguous().t() if w.ndim == 2 else w for w in weights]
    weights = [w.requires_grad_() for w in weights]
    w0, b0, w1, b1, w2, b2 = weights

    def result() -> torch.Tensor:
        return (feed_forward(linear(x, w0, b0), w1, b1, w2, b2, F.gelu) ** 2).sum()

    expected = torch.autograd.grad(result(), weights)
    buffers = {w.data_ptr(): torch.full_like(w, torch.nan) for w in (w0, w2)}
    offered = dict(buffers)
    with gradients_into(buffers):
        gradients = torch.autograd.grad(result(), weights, allow_unused=True)
    assert not buffers and gradients[0] is None and gradients[4] is None
    for w, got, exact in zip(weights, gradients, expected, strict=True):
        got = offered[w.data_ptr()] if got is None else got
        torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-12)


def test_a_matrix_used_twice_has_both_its_gradients() -> None:
    """The buffer takes the first, whichever that is; autograd returns the other."""
    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64, requires_grad=True)
    bias = torch.zeros(3, dtype=torch.float64)

    def result() -> torch.Tensor:
        return (linear(linear(x, w, bias).tanh(), w, bias) ** 2).sum()

    (expected,) = torch.autograd.grad(result(), w)
    buffer = torch.zeros_like(w)
    with gradients_into({w.data_ptr(): buffer}):
        (rest,) = torch.autograd.grad(result(), w)
    assert buffer.any() and rest.any()
    torch.testing.assert_close(buffer + rest, expected, rtol=1e-12, atol=1e-12)


def test_the_buffer_of_a_matrix_is_not_that_of_its_first_rows() -> None:
    x, w = torch.randn(4, 3, dtype=torch.float64), torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    buffer = torch.zeros_like(w)
    with gradients_into({w.data_ptr(): buffer}):
        (gradient,) = torch.autograd.grad(linear(x, w[:2], torch.zeros(2, dtype=torch.float64)).sum(), w)
    assert not buffer.any() and not gradient[2:].any()
    torch.testing.assert_close(gradient[:2], x.sum(0).expand(2, 3), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("limit", [0, kernels.MAX_SAVED_BYTES])
def test_feed_forward_in_bfloat16(limit: int, monkeypatch) -> None:
    monkeypatch.setattr(kernels, "MAX_SAVED_BYTES", limit)
    generator = torch.Generator().manual_seed(0)
    shapes = [(70, 32), (64, 32), (64,), (32, 64), (32,)]
    ours = [torch.randn(shape, generator=generator).bfloat16().requires_grad_() for shape in shapes]
    exact = [x.detach().double().requires_grad_() for x in ours]
    x, w1, b1, w2, b2 = exact
    expected = F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)
    got = feed_forward(*ours, ACT2FN["gelu"])
    expected.sum().backward()
    got.sum().backward()
    for a, b in ((got, expected), *((a.grad, b.grad) for a, b in zip(ours, exact, strict=True))):
        assert float((a.detach().double() - b.detach()).norm() / b.detach().norm()) < 1e-2
