"""One pass of clipping and AdamW is torch's two."""

import copy

import pytest
import torch
from torch import nn

from compact_biomed.engine import flat_weights
from compact_biomed.engine.flat_weights import ClippedAdamW


def groups_of(vectors: list[nn.Parameter]) -> list[dict]:
    return [{"params": [v], "weight_decay": decay} for v, decay in zip(vectors, (0.1, 0.0), strict=True)]


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
@pytest.mark.parametrize("piece", [7, 1000])
def test_against_torch(max_norm: float, piece: int, monkeypatch) -> None:
    monkeypatch.setattr(flat_weights, "_PIECE", piece)
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(n, dtype=torch.float64, generator=generator)) for n in (50, 7)]
    theirs = copy.deepcopy(ours)
    optimizer = ClippedAdamW(groups_of(ours), 0.01, max_norm)
    expected = torch.optim.AdamW(groups_of(theirs), lr=0.01)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)) for o in (optimizer, expected)]
    for _ in range(4):
        gradients = [torch.randn(len(v), dtype=torch.float64, generator=generator) for v in ours]
        for vector, gradient in zip(theirs, gradients, strict=True):
            vector.grad = gradient.clone()
        nn.utils.clip_grad_norm_(theirs, max_norm)
        optimizer.step(gradients)
        expected.step()
        for schedule in schedules:
            schedule.step()
    for got, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("compute", [flat_weights._Pieces, flat_weights._Compiled])
def test_bf16_gradients_are_clipped_to_a_norm_that_is_not_rounded_to_bf16(compute) -> None:
    generator = torch.Generator().manual_seed(0)
    gradient = torch.randn(2_000_000, generator=generator).bfloat16()
    exact = gradient.double().norm().item()
    norm = compute.norm([gradient[:1_500_000], gradient[1_500_000:]]).item()
    assert norm == pytest.approx(exact, rel=5e-4)  # bf16 has 4e-3


def test_the_gradients_are_left_as_they_are() -> None:
    vector = nn.Parameter(torch.ones(5))
    gradient = torch.full((5,), 10.0)
    ClippedAdamW([{"params": [vector], "weight_decay": 0.0}], 0.1, 1.0).step([gradient])
    assert gradient.tolist() == [10.0] * 5
    torch.testing.assert_close(vector.detach(), torch.full((5,), 0.9), rtol=0, atol=1e-5)


@pytest.mark.parametrize("of_copies", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_compiled_steps_against_torch(dtype: torch.dtype, max_norm: float, of_copies: torch.dtype) -> None:
    """With copies the loops compute: in float32, so that torch's float64 is met to its rounding."""
    generator = torch.Generator().manual_seed(0)
    ours = [nn.Parameter(torch.randn(n, generator=generator)) for n in (50_000, 7)]
    theirs = [nn.Parameter(v.detach().double()) for v in ours]
    copies = [torch.empty_like(v, dtype=of_copies) for v in ours]
    optimizer = ClippedAdamW(groups_of(ours), 0.01, max_norm)
    expected = torch.optim.AdamW(groups_of(theirs), lr=0.01)
    schedules = [torch.optim.lr_scheduler.LambdaLR(o, lambda step: 1 / (1 + step)) for o in (optimizer, expected)]
    for _ in range(4):
        gradients = [torch.randn(len(v), generator=generator).to(dtype) for v in ours]
        for vector, gradient in zip(theirs, gradients, strict=True):
            vector.grad = gradient.double()
        nn.utils.clip_grad_norm_(theirs, max_norm)
        optimizer.step(gradients, copies)
        expected.step()
        for schedule in schedules:
            schedule.step()
    for got, copied, wanted in zip(ours, copies, theirs, strict=True):
        torch.testing.assert_close(got.detach().double(), wanted.detach(), rtol=1e-5, atol=1e-5)
        assert torch.equal(copied, got.detach().to(of_copies))


def test_copies_in_other_types_are_written_too() -> None:
    vector, copy_ = nn.Parameter(torch.ones(5)), torch.empty(5, dtype=torch.float64)
    ClippedAdamW([{"params": [vector], "weight_decay": 0.0}], 0.1, 1.0).step([torch.ones(5)], [copy_])
    assert torch.equal(copy_, vector.detach().double())


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_a_gradient_that_is_not_a_number_shows_in_the_weights(max_norm: float) -> None:
    vector, gradient = nn.Parameter(torch.ones(40)), torch.ones(40, dtype=torch.bfloat16)
    copied = torch.zeros_like(gradient)
    gradient[3] = torch.nan
    ClippedAdamW([{"params": [vector], "weight_decay": 0.1}], 0.1, max_norm).step([gradient], [copied])
    assert vector.isnan().all() and copied.isnan().all()  # as torch: the norm is not a number


def test_a_mean_that_is_not_a_number_stays_so() -> None:
    vector, gradient = nn.Parameter(torch.ones(40)), torch.ones(40, dtype=torch.bfloat16)
    copied = torch.zeros_like(gradient)
    optimizer = ClippedAdamW([{"params": [vector], "weight_decay": 0.1}], 0.1, 1.0)
    optimizer.state[vector]["exp_avg"][3] = torch.nan
    optimizer.step([gradient], [copied])
    assert vector.isnan().nonzero().tolist() == copied.isnan().nonzero().tolist() == [[3]]
