"""Packing and padding: nothing is lost, padding takes no part, gradients go the same way back."""

import pytest
import torch

from compact_biomed.engine.layout import Layout, filled, select

LENGTHS = [5, 2, 7]
MASK = (torch.arange(7) < torch.tensor(LENGTHS)[:, None]).long()


def numbered(width: int = 3) -> torch.Tensor:
    """[batch, length, width], every cell different."""
    return torch.arange(MASK.numel() * width, dtype=torch.float64).view(*MASK.shape, width) + 1


def test_real_tokens_come_first_in_their_order() -> None:
    layout = Layout(MASK, MASK.shape)
    packed = layout.pack(numbered())
    assert layout.real == sum(LENGTHS)
    assert len(packed) == 32  # few shapes occur
    torch.testing.assert_close(packed[: layout.real], numbered()[MASK.bool()])


def test_padding_again_restores_real_tokens() -> None:
    layout = Layout(MASK, MASK.shape)
    padded = layout.pad(layout.pack(numbered()))
    assert padded.shape == (*MASK.shape, 3)
    torch.testing.assert_close(padded[MASK.bool()], numbered()[MASK.bool()])
    assert torch.isfinite(padded).all()


def test_filling_is_a_multiple_even_where_none_is_needed() -> None:
    mask = torch.ones(4, 8)
    assert len(Layout(mask, mask.shape).pack(torch.zeros(4, 8, 2))) == 32
    mask[0, -1] = 0
    assert len(Layout(mask, mask.shape).pack(torch.zeros(4, 8, 2))) == 32


def test_coarse_filling_has_few_steps_and_little_waste() -> None:
    assert [filled(n) for n in (0, 1, 32, 33, 5000)] == [0, 32, 32, 64, 5024]
    sizes = [filled(n, coarse=True) for n in range(1, 8193)]
    assert all(n <= size < max(n * 17 / 16, n + 32) + 1 for n, size in enumerate(sizes, 1))
    assert len({size for size in sizes if size > 4096}) == 16
    mask = (torch.arange(64) < torch.full((64, 1), 33)).long()
    assert len(Layout(mask, mask.shape, coarse=True).pack(torch.zeros(64, 64, 2))) == 2176


def test_rows_are_indices_of_the_packed() -> None:
    wanted = torch.zeros_like(MASK, dtype=torch.bool)
    wanted[0, 4] = wanted[2, 0] = wanted[2, 6] = True
    for mask in (MASK, None):
        layout = Layout(mask, MASK.shape)
        torch.testing.assert_close(layout.pack(numbered())[layout.rows(wanted)], numbered()[wanted])


def test_without_a_mask_every_position_is_kept() -> None:
    layout = Layout(None, MASK.shape)
    packed = layout.pack(numbered())
    assert layout.real == len(packed) == MASK.numel()
    torch.testing.assert_close(layout.pad(packed), numbered(), rtol=0, atol=0)


@pytest.mark.parametrize("mask", [MASK, None], ids=["packed", "kept"])
def test_gradients_reach_what_was_read(mask) -> None:
    """Of real tokens, as autograd's own indexing gives them; filling and padding get none."""
    layout, real = Layout(mask, MASK.shape), MASK.bool() if mask is not None else torch.ones_like(MASK).bool()
    weights = torch.randn(int(real.sum()), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, plain = numbered().requires_grad_(), numbered().requires_grad_()
    packed = layout.pack(ours) ** 2
    (layout.pad(packed)[real] * weights).sum().backward()
    (plain[real] ** 2 * weights).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad, rtol=0, atol=0)


def test_the_gradient_of_padding_is_dropped_not_added_to_a_token() -> None:
    layout = Layout(MASK, MASK.shape)
    packed = layout.pack(numbered()).detach().requires_grad_()
    layout.pad(packed).sum().backward()  # padding repeats a token's row
    expected = torch.zeros_like(packed)
    expected[: layout.real] = 1
    torch.testing.assert_close(packed.grad, expected, rtol=0, atol=0)


def test_selected_rows_give_their_gradient_back() -> None:
    x, index = torch.randn(6, 3, dtype=torch.float64, requires_grad=True), torch.tensor([4, 0, 5])
    picked = select(x, index)
    assert torch.equal(picked, x[index])
    weight = torch.randn(3, 3, dtype=torch.float64)
    (gradient,) = torch.autograd.grad((picked * weight).sum(), x)
    (expected,) = torch.autograd.grad((x[index] * weight).sum(), x)
    assert torch.equal(gradient, expected)
