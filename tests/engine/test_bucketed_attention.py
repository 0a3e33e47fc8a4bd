"""Attention in buckets of documents of similar width is attention, with fewer cells of padding."""

import pytest
import torch

from compact_biomed.engine import attention as module
from compact_biomed.engine.attention import attention, bucketed_attention, length_buckets
from compact_biomed.engine.dropout import random_stream

LENGTHS = [90, 88, 61, 40, 33, 30, 12, 5, 1]
HEADS, WIDTH = 3, 4


def mask_of(lengths: list[int], width: int) -> torch.Tensor:
    return (torch.arange(width) < torch.tensor(lengths)[:, None]).long()


@pytest.fixture(params=[0, 6000, 10**9], ids=["a bucket per width", "few buckets", "one bucket"])
def overhead(request, monkeypatch) -> int:
    monkeypatch.setattr(module, "_BUCKET_OVERHEAD", request.param)
    return request.param


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[::-1], [5, 90, 12, 88, 1], [96, 96], [64]])
def test_buckets_hold_each_token_once(lengths: list[int], overhead: int) -> None:
    mask = mask_of(lengths, 96)
    buckets = length_buckets(mask, torch.float32)
    assert sum(bucket.documents for bucket in buckets) == len(lengths)
    row = first = 0
    for bucket in buckets:
        of_bucket = mask[first : first + bucket.documents, : bucket.width]
        assert bucket.rows == slice(row, row + int(of_bucket.sum()))
        assert torch.equal(of_bucket.flatten().nonzero().squeeze(1), bucket.flat)
        assert bucket.packed[bucket.flat].tolist() == list(range(len(bucket.flat)))
        assert sorted([*bucket.flat.tolist(), *bucket.padding.tolist()]) == list(range(bucket.documents * bucket.width))
        assert bucket.width % 32 == 0 and (bucket.bias is None) == (not len(bucket.padding))
        row, first = bucket.rows.stop, first + bucket.documents
    assert row == sum(lengths)


def test_padding_has_fewer_cells(monkeypatch) -> None:
    mask = mask_of(LENGTHS, 96)
    cells = sum(bucket.documents * bucket.width**2 for bucket in length_buckets(mask, torch.float32))
    assert 2 * cells < len(LENGTHS) * 96**2
    assert len(length_buckets(mask_of([40] * 9, 96), torch.float32)) == 1


def by_definition(qkv: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    """Each document by itself, head by head."""
    contexts = []
    for document in qkv[: sum(lengths)].split(lengths):
        q, k, v = (x.view(len(document), HEADS, WIDTH).transpose(0, 1) for x in document.split(HEADS * WIDTH, 1))
        contexts.append(((q @ k.transpose(1, 2)).softmax(-1) @ v).transpose(0, 1).flatten(1))
    return torch.cat(contexts)


@pytest.mark.parametrize("lengths", [LENGTHS, [5, 90, 12, 88, 1], [96, 96]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.bfloat16, 5e-2)])
def test_values_and_gradients(lengths: list[int], dtype: torch.dtype, tolerance: float, overhead: int) -> None:
    generator = torch.Generator().manual_seed(0)
    total, filling = sum(lengths), 7
    qkv = torch.randn(total + filling, 3 * HEADS * WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(total + filling, HEADS * WIDTH, generator=generator, dtype=torch.float64).to(dtype)
    ours, exact = qkv.clone().requires_grad_(), qkv.double().requires_grad_()
    context = bucketed_attention(ours, length_buckets(mask_of(lengths, 96), dtype), HEADS)
    expected = by_definition(exact, lengths)
    assert not context[total:].any()
    (context * weight).sum().backward()
    (expected * weight[:total].double()).sum().backward()
    assert not ours.grad[total:].any()
    for got, wanted in ((context.detach()[:total], expected.detach()), (ours.grad[:total], exact.grad[:total])):
        assert float((got.double() - wanted[: len(got)]).abs().max()) < tolerance * max(1.0, float(wanted.abs().max()))


def test_dropout_is_that_of_attention() -> None:
    """With one bucket and as wide, the same stream drops the same cells."""
    lengths, p = [32, 20, 9], 0.3
    mask = mask_of(lengths, 32)
    generator = torch.Generator().manual_seed(0)
    qkv = torch.randn(sum(lengths), 3 * HEADS * WIDTH, generator=generator, dtype=torch.float64)
    ours, other = qkv.clone().requires_grad_(), qkv.clone().requires_grad_()
    with random_stream(1):
        context = bucketed_attention(ours, length_buckets(mask, qkv.dtype), HEADS, p=p)
    padded = torch.zeros(3, 32, 3 * HEADS * WIDTH, dtype=qkv.dtype)
    padded = padded.index_put((mask.bool(),), other)
    q, k, v = (x.view(3, 32, HEADS, WIDTH).transpose(1, 2) for x in padded.split(HEADS * WIDTH, -1))
    bias = (1 - mask[:, None, None, :].double()) * torch.finfo(qkv.dtype).min
    with random_stream(1):
        expected = attention(q, k, v, bias, p=p).transpose(1, 2).flatten(2)[mask.bool()]
    torch.testing.assert_close(context, expected, rtol=1e-12, atol=1e-12)
    weight = torch.randn(context.shape, generator=generator, dtype=qkv.dtype)
    for value, x in ((context, ours), (expected, other)):
        (value * weight).sum().backward()
        assert x.grad is not None
    torch.testing.assert_close(ours.grad, other.grad, rtol=1e-12, atol=1e-12)


def test_dropout_is_scaled_to_keep_the_mean() -> None:
    lengths = [64] * 40
    qkv = torch.zeros(sum(lengths), 3 * HEADS * WIDTH)
    qkv[:, 2 * HEADS * WIDTH :] = 1.0  # uniform attention over values of one
    with random_stream(2):
        context = bucketed_attention(qkv, length_buckets(mask_of(lengths, 64), qkv.dtype), HEADS, p=0.25)
    assert abs(float(context.mean()) - 1) < 0.01 and float(context.std()) > 0.02
