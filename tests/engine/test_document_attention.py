"""Attention within documents by compiled loops: values, gradients, dropout."""

import pytest
import torch

from compact_biomed.engine import attention, compiled
from compact_biomed.engine.attention import attention_within
from compact_biomed.engine.dropout import random_stream

LENGTHS = [61, 40, 33, 12, 5, 1]
HEADS, WIDTH = 3, 32
HIDDEN = HEADS * WIDTH


def mask_of(lengths: list[int], width: int = 64) -> torch.Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


def within(lengths: list[int], like: torch.Tensor, width: int = 64):
    """Attention within documents of these lengths, for tensors of the type of `like`."""
    mask = mask_of(lengths, width)
    return attention_within(mask, mask.shape, like)


def drawn(total: int, dtype: torch.dtype = torch.bfloat16) -> tuple[torch.Tensor, torch.Tensor]:
    """Query, key and value, and a gradient, with a few rows of filling."""
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(total + 7, 3 * HIDDEN, generator=generator)
    qkv[:, :HIDDEN] *= WIDTH**-0.5
    return qkv.to(dtype), torch.randn(total + 7, HIDDEN, generator=generator).to(dtype)


def by_definition(qkv: torch.Tensor, lengths: list[int], keep: list[torch.Tensor] | None = None) -> torch.Tensor:
    """Each document by itself; `keep`: factors of its probabilities [heads, n, n]."""
    contexts = []
    for i, document in enumerate(qkv[: sum(lengths)].split(lengths)):
        q, k, v = (x.view(len(document), HEADS, WIDTH).transpose(0, 1) for x in document.split(HIDDEN, 1))
        p = (q @ k.transpose(1, 2)).softmax(-1)
        contexts.append((((p if keep is None else p * keep[i]) @ v).transpose(0, 1)).flatten(1))
    return torch.cat(contexts)


def assert_like(got: torch.Tensor, exact: torch.Tensor) -> None:
    """To the rounding of inputs and results; what is between is float32."""
    difference = (got.double() - exact).norm() / exact.norm()
    assert float(difference) < (3e-3 if got.dtype is torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[::-1], [64, 64], [1]])
def test_values_and_gradients(lengths: list[int], dtype: torch.dtype) -> None:
    total = sum(lengths)
    qkv, gradient = drawn(total, dtype)
    ours, exact = qkv.clone().requires_grad_(), qkv.double().requires_grad_()
    context = within(lengths, qkv)(ours, HEADS, 0.0)
    expected = by_definition(exact, lengths)
    assert_like(context[:total].detach(), expected.detach())
    assert not context[total:].any()
    context.backward(gradient)
    expected.backward(gradient[:total].double())
    assert_like(ours.grad[:total], exact.grad[:total])
    assert not ours.grad[total:].any()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_gradients_with_dropout_are_those_of_the_same_cells(dtype: torch.dtype) -> None:
    """With values of one cell each, the context shows the probabilities after dropout, and so the mask."""
    lengths, p = [32, 20, 9], 0.3
    total = sum(lengths)
    qkv, gradient = drawn(total, dtype)
    shown = qkv.clone()
    shown[:, 2 * HIDDEN :] = 0
    for first, n in zip((0, 32, 52), lengths, strict=True):
        rows = torch.arange(n)
        for head in range(HEADS):
            shown[first + rows, 2 * HIDDEN + head * WIDTH + rows] = 1
    attend = within(lengths, qkv)
    with random_stream(1):
        dropped = attend(shown, HEADS, p)[:total]
    keep = []
    for document, n in zip(dropped.split(lengths), lengths, strict=True):
        cells = document.view(n, HEADS, WIDTH).transpose(0, 1)[:, :, :n]
        keep.append((cells != 0).double() / (1 - p))
    share = torch.cat([x.flatten() for x in keep]).bool().double().mean().item()
    assert abs(share - (1 - p)) < 0.03
    assert not torch.equal(keep[0][0], keep[0][1])
    ours, exact = qkv.clone().requires_grad_(), qkv.double().requires_grad_()
    with random_stream(1):
        context = attend(ours, HEADS, p)
    expected = by_definition(exact, lengths, keep)
    assert_like(context[:total].detach(), expected.detach())
    context.backward(gradient)
    expected.backward(gradient[:total].double())
    assert_like(ours.grad[:total], exact.grad[:total])


def test_the_stream_decides_and_the_number_of_threads_does_not(one_thread) -> None:
    qkv, gradient = drawn(sum(LENGTHS))
    results = []
    for key, threads in ((1, 1), (1, 2), (2, 2)):
        torch.set_num_threads(threads)
        ours = qkv.clone().requires_grad_()
        with random_stream(key), compiled.one_blas_thread():
            context = within(LENGTHS, qkv)(ours, HEADS, 0.1)
        context.backward(gradient)
        results.append((context.detach(), ours.grad))
    assert all(torch.equal(a, b) for a, b in zip(results[0], results[1], strict=True))
    assert not torch.equal(results[1][0], results[2][0])


@pytest.mark.parametrize(
    ("lengths", "dtype", "compiled_"),
    [
        ([64] * 3, torch.bfloat16, True),
        ([200, 30, 30], torch.bfloat16, False),
        ([200, 30, 30], torch.float32, True),
        ([20], torch.float64, False),
    ],
    ids=["short", "long", "float32", "float64"],
)
def test_of_longer_documents_and_other_types_buckets_are_made(lengths, dtype, compiled_: bool, monkeypatch) -> None:
    called = []
    monkeypatch.setattr(attention, "length_buckets", lambda *arguments: called.append(arguments))
    within(lengths, torch.zeros(1, dtype=dtype), 256)
    assert bool(called) != compiled_


@pytest.mark.parametrize(("length", "dtype"), [(64, torch.bfloat16), (200, torch.float32)])
def test_documents_of_one_length_need_no_mask(length: int, dtype: torch.dtype) -> None:
    qkv, _ = drawn(2 * length - 7, dtype)
    context = attention_within(None, torch.Size((2, length)), qkv)(qkv, HEADS, 0.0)
    assert torch.equal(context, within([length, length], qkv, length)(qkv, HEADS, 0.0))
    assert attention_within(None, torch.Size((2, length)), qkv.double()) is None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_what_is_not_a_number_stays_so(bad: float, dtype: torch.dtype) -> None:
    lengths = [20, 11]
    for part in range(3):  # query, key and value
        qkv, _ = drawn(31, dtype)
        qkv[3, part * HIDDEN] = bad
        context = within(lengths, qkv)(qkv, HEADS, 0.0)[:31]
        expected = by_definition(qkv.double(), lengths)
        assert torch.equal(context.isfinite(), expected.isfinite())
