"""Attention and its maps against explicit formulas."""

import pytest
import torch

from compact_biomed.engine.attention import attention, attention_and_maps
from compact_biomed.engine.dropout import Mask, random_stream


def next_mask(shape: torch.Size, dtype: torch.dtype, p: float) -> torch.Tensor:
    """The mask that the next dropout of the stream would make."""
    return Mask(shape, dtype, p)()


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
        context, *maps = attention_and_maps(*ours, bias, p=p, maps=wanted)
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
    _, map_ = attention_and_maps(q, k, v, None, maps=["attention"])
    (got,) = torch.autograd.grad(map_.square().sum(), q)
    (expected,) = torch.autograd.grad((q @ k.transpose(-1, -2)).softmax(-1).square().sum(), q)
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)
