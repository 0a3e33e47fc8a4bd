"""Dropout, attention and cross-entropy against explicit formulas; random numbers that repeat."""

import threading

import pytest
import torch
from torch.nn import functional as F

from compact_biomed.models.kernels import (
    Dropout,
    attention,
    attention_and_maps,
    collected_lookups,
    cross_entropy,
    draw_key,
    dropout,
    feed_forward,
    keep_mask,
    lookup,
    random_stream,
)

DTYPES = [torch.bfloat16, torch.float16, torch.float32, torch.float64]


def next_mask(shape: torch.Size, dtype: torch.dtype, p: float) -> torch.Tensor:
    """The mask that the next dropout of the stream would make."""
    return keep_mask(shape, dtype, p, draw_key())


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


def explicit_attention(q, k, v, bias, keep, p):
    scores = q @ k.transpose(-1, -2)
    probabilities = (scores if bias is None else scores + bias).softmax(-1)
    return (probabilities * keep / (1 - p)) @ v


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-6), (torch.bfloat16, 3e-2)]
)
def test_attention_against_the_formula(p: float, padded: bool, dtype: torch.dtype, tolerance: float) -> None:
    batch, heads, rows, columns, width = 2, 3, 5, 11, 8
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    q, k, v = (
        random(batch, rows, heads, width),
        random(batch, columns, heads, width),
        random(batch, columns, heads, width),
    )
    q, k, v = (x.transpose(1, 2).to(dtype) for x in (q, k, v))  # strided, as in the encoder
    weight, bias = random(batch, heads, rows, width), None
    if padded:
        mask = torch.arange(columns) < torch.tensor([[columns], [4]])
        bias = (1 - mask[:, None, None, :].double()) * torch.finfo(dtype).min
    with random_stream(4):
        shape = torch.Size([batch * heads, rows, columns])
        keep = next_mask(shape, dtype, p).view(batch, heads, rows, columns).double() if p else 1.0
    ours = [x.clone().requires_grad_() for x in (q, k, v)]
    with random_stream(4):
        value = attention(*ours, None if bias is None else bias.to(dtype), p=p)
    (value * weight.to(dtype)).sum().backward()
    exact = [x.double().requires_grad_() for x in (q, k, v)]
    expected = explicit_attention(*exact, bias, keep, p)
    (expected * weight.to(dtype).double()).sum().backward()
    pairs = [(value.detach(), expected.detach())] + [(a.grad, b.grad) for a, b in zip(ours, exact, strict=True)]
    for got, wanted in pairs:
        assert got.dtype == dtype
        assert float((got.double() - wanted).abs().max()) <= tolerance * max(float(wanted.abs().max()), 1.0)


@pytest.mark.parametrize("p", [0.0, 0.3])
@pytest.mark.parametrize(
    "wanted", [("scores",), ("attention",), ("dropped",), ("dropped", "scores"), ("scores", "attention", "dropped")]
)
def test_maps_against_the_formula(p: float, wanted: tuple[str, ...]) -> None:
    """Values and gradients of the context and of each map, both of which the loss depends on."""
    batch, heads, length, width = 2, 3, 7, 4
    generator = torch.Generator().manual_seed(0)
    ours = [torch.randn(batch, heads, length, width, generator=generator, dtype=torch.float64) for _ in range(3)]
    exact = [x.clone().requires_grad_() for x in ours]
    ours = [x.requires_grad_() for x in ours]
    mask = torch.arange(length) < torch.tensor([[length], [3]])
    bias = (1 - mask[:, None, None, :].double()) * torch.finfo(torch.float64).min
    with random_stream(4):
        shape = torch.Size([batch * heads, length, length])
        keep = next_mask(shape, torch.float64, p).view(batch, heads, length, length).double() if p else 1.0
    with random_stream(4):
        context, *maps = attention_and_maps(*ours, bias, p=p, wanted=wanted)
    with random_stream(4):
        torch.testing.assert_close(context, attention(*ours, bias, p=p), rtol=0, atol=0)
    q, k, v = exact
    formula = {"scores": q @ k.transpose(-1, -2) + bias}
    formula["attention"] = formula["scores"].softmax(-1)
    formula["dropped"] = formula["attention"] * keep / (1 - p)
    expected = [formula["dropped"] @ v, *(formula[name] for name in wanted)]
    losses = [0, 0]
    for got, want in zip([context, *maps], expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-12)
        # Masked scores of -1e308 would drown the rest of the sum.
        weight = torch.randn(got.shape, generator=generator, dtype=torch.float64)
        real = mask[:, None, None, :].expand_as(got) if got.shape[-1] == length else torch.ones_like(got).bool()
        losses = [a + (x[real] * weight[real]).sum() for a, x in zip(losses, (got, want), strict=True)]
    for loss in losses:
        loss.backward()
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-10, atol=1e-12)


def test_a_map_alone_has_a_gradient() -> None:
    """Where the loss does not read the context."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, 2, 5, 4, generator=generator, dtype=torch.float64) for _ in range(3))
    q.requires_grad_()
    _, map_ = attention_and_maps(q, k, v, None, wanted=["attention"])
    (got,) = torch.autograd.grad(map_.square().sum(), q)
    (expected,) = torch.autograd.grad((q @ k.transpose(-1, -2)).softmax(-1).square().sum(), q)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


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
    (wanted,) = torch.autograd.grad((expected * weight).sum(), table)
    got = lookup(table, ids, 0)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)
    (dense,) = torch.autograd.grad((got * weight).sum(), table)
    torch.testing.assert_close(dense, wanted, rtol=1e-12, atol=0)
    with collected_lookups() as found:
        (nothing,) = torch.autograd.grad((lookup(table, ids, 0) * weight).sum(), table, allow_unused=True)
    ((place, rows, gradient),) = found
    assert nothing is None and place == table.data_ptr()
    torch.testing.assert_close(torch.zeros_like(table).index_add_(0, rows, gradient), wanted, rtol=1e-12, atol=0)


def test_feed_forward_against_the_formula() -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = [(7, 6), (10, 6), (10,), (6, 10), (6,)]
    exact = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    ours = [x.detach().clone().requires_grad_() for x in exact]
    weight = torch.randn(7, 6, generator=generator, dtype=torch.float64)
    x, w1, b1, w2, b2 = exact
    expected = F.linear(F.gelu(F.linear(x, w1, b1)), w2, b2)
    (expected * weight).sum().backward()
    got = feed_forward(*ours, F.gelu)
    (got * weight).sum().backward()
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
    for a, b in zip(ours, exact, strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-12, atol=1e-12)
