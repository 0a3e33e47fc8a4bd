"""Dropout against explicit formulas; random numbers that repeat."""

import threading

import pytest
import torch

from compact_biomed.engine import dropout as module
from compact_biomed.engine.dropout import Dropout, Mask, dropout, dropout_add, random_stream

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def next_mask(shape: torch.Size, dtype: torch.dtype, p: float) -> torch.Tensor:
    """The mask that the next dropout of the stream would make."""
    return Mask(shape, dtype, p)()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.999])
def test_keep_rate(dtype: torch.dtype, p: float) -> None:
    n = 400_001  # not a multiple of the four draws in a word
    with random_stream(3):
        keep = next_mask(torch.Size([n]), dtype, p)
    assert set(keep.unique().tolist()) <= {0, 1}
    # Five standard deviations, and the 2**-16 of the threshold.
    assert abs(float(keep.double().mean()) - (1 - p)) < 5 * (p * (1 - p) / n) ** 0.5 + 2**-16


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_keeps_scaled_values_and_its_gradient_is_the_mask(dtype: torch.dtype) -> None:
    x = torch.randn(40, 50, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    with random_stream(1, 2):
        y = dropout(x, 0.25, True)
    with random_stream(1, 2):
        keep = next_mask(x.shape, dtype, 0.25).bool()
    expected = torch.where(keep, x.detach() * (1 / 0.75), torch.zeros((), dtype=dtype))
    torch.testing.assert_close(y.detach(), expected, rtol=0, atol=0)
    gradient = torch.randn(40, 50, generator=torch.Generator().manual_seed(1)).to(dtype)
    y.backward(gradient)
    torch.testing.assert_close(x.grad, torch.where(keep, gradient * (1 / 0.75), 0.0), rtol=0, atol=0)


def test_dropped_infinities_and_nans_are_gone() -> None:
    """The bits are cleared; a product with 0 would give NaN."""
    with random_stream(5):
        y = dropout(torch.full((1000,), float("nan")), 0.5, True)
    assert 300 < int((y == 0).sum()) < 700


def test_dropout_takes_strided_input_and_strided_gradients() -> None:
    x = torch.randn(30, 20, dtype=torch.float64).t().requires_grad_()
    with random_stream(1):
        y = dropout(x, 0.5, True)
    y.t().backward(torch.ones(30, 20, dtype=torch.float64))
    torch.testing.assert_close(x.grad, torch.where(y.detach() != 0, 2.0, 0.0).double())


def test_no_dropout_outside_training_or_at_zero() -> None:
    x = torch.randn(8)
    assert dropout(x, 0.5, False) is x  # and no random stream is needed
    assert dropout(x, 0.0, True) is x
    assert Dropout(0.5).eval()(x) is x


def test_dropout_outside_of_a_stream_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="random_stream"):
        dropout(torch.ones(4), 0.5, True)
    with random_stream(1):
        pass
    with pytest.raises(RuntimeError, match="random_stream"):  # the block's end counts
        Dropout(0.5).train()(torch.ones(4))


def draws(*key: int) -> list[int]:
    with random_stream(*key):
        return next_mask(torch.Size([64]), torch.float32, 0.5).tolist()


def test_streams_repeat_and_differ_by_key() -> None:
    assert draws(1, 2, 3) == draws(1, 2, 3)
    # Five numbers, as in training: seed, step, process, batch of the step, micro-batch.
    keys = [(42, 0, 0, 0, 0), *((42, *(int(i == j) for j in range(4))) for i in range(4)), (43, 0, 0, 0, 0)]
    assert len({tuple(draws(*key)) for key in keys}) == len(keys)


def test_an_inner_stream_leaves_the_outer_where_it_was() -> None:
    with random_stream(1):
        first = next_mask(torch.Size([64]), torch.float32, 0.5)
        second = next_mask(torch.Size([64]), torch.float32, 0.5)
    assert not torch.equal(first, second)
    with random_stream(1):
        next_mask(torch.Size([64]), torch.float32, 0.5)
        with random_stream(9):
            next_mask(torch.Size([64]), torch.float32, 0.5)
        assert torch.equal(next_mask(torch.Size([64]), torch.float32, 0.5), second)


def test_threads_do_not_share_streams() -> None:
    expected = {key: draws(key) + draws(key) for key in range(4)}
    seen: dict[int, list[int]] = {}
    together = threading.Barrier(4)

    def work(key: int) -> None:
        together.wait()
        first = draws(key)
        together.wait()
        seen[key] = first + draws(key)

    threads = [threading.Thread(target=work, args=(key,)) for key in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == expected


def test_a_stream_belongs_to_one_thread() -> None:
    errors = []

    def outside() -> None:
        try:
            dropout(torch.ones(4), 0.5, True)
        except RuntimeError as error:
            errors.append(error)

    with random_stream(1):
        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
    assert len(errors) == 1


def test_a_mask_is_the_same_in_both_passes_however_large(monkeypatch) -> None:
    for limit in (module.MAX_SAVED_BYTES, 0):
        monkeypatch.setattr(module, "MAX_SAVED_BYTES", limit)
        with random_stream(1):
            mask = Mask(torch.Size([30, 50]), torch.float32, 0.3)
            dropout(torch.ones(2000), 0.5, True)  # others draw between
        assert torch.equal(mask(), mask())
        assert 0.6 < float(mask().double().mean()) < 0.8


def test_small_masks_share_no_draws() -> None:
    with random_stream(1):
        masks = [next_mask(torch.Size([1000]), torch.bfloat16, 0.5) for _ in range(600)]  # more than are drawn at once
    agreement = torch.stack([(masks[0] == other).double().mean() for other in masks[1:]])
    assert float((agreement - 0.5).abs().max()) < 0.1  # six standard deviations
    assert len({tuple(mask.tolist()) for mask in masks}) == 600


@pytest.mark.parametrize("dtype", DTYPES)
def test_dropout_add_is_dropout_and_a_sum(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, residual, weight = (torch.randn(40, 50, generator=generator).to(dtype) for _ in range(3))
    x, residual = x.requires_grad_(), residual.requires_grad_()
    with random_stream(1):
        y = dropout_add(x, residual, 0.25, True)
    with random_stream(1):
        expected = dropout(x.double(), 0.25, True) + residual.double()
    # The mask is drawn alike for every type; the sum is rounded once.
    torch.testing.assert_close(y.double(), expected, rtol=torch.finfo(dtype).eps, atol=torch.finfo(dtype).eps)
    got = torch.autograd.grad((y * weight).sum(), (x, residual))
    wanted = torch.autograd.grad((expected * weight).sum(), (x, residual))
    for a, b in zip(got, wanted, strict=True):
        torch.testing.assert_close(a.double(), b.double(), rtol=2 * torch.finfo(dtype).eps, atol=0)
    assert torch.equal(dropout_add(x, residual, 0.25, False), x + residual)
