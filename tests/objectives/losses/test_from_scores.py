"""The attention losses from scores are those of the scores' softmax."""

import pytest
import torch
from loss_cases import mask_of

from compact_biomed.objectives import losses

LOSSES = {
    "kl": (losses.attention_kl_from_scores, losses.attention_kl),
    "mse": (losses.attention_mse_from_scores, losses.attention_mse),
}
BOTH = pytest.mark.parametrize("name", LOSSES)
LENGTHS, HEADS = [5, 2, 3], 2


def scores(mask: torch.Tensor, seed: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Random, with the padding mask added as a model adds it."""
    generator = torch.Generator().manual_seed(seed)
    batch, length = mask.shape
    x = 3 * torch.randn(batch, HEADS, length, length, generator=generator, dtype=torch.float64)
    bias = torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)
    return (x.to(dtype) + bias[:, None, None]).requires_grad_()


def with_gradient(loss: torch.Tensor, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return loss.detach(), torch.autograd.grad(loss, x)[0]


@BOTH
@pytest.mark.parametrize("published", [False, True], ids=["corrected", "published"])
@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("padded", [5, 8])
def test_values_and_gradients(
    name: str, published: bool, reduction: str, padded: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The 1e-12 that the KL of maps adds to probabilities is all that they differ by.
    monkeypatch.setattr("compact_biomed.objectives.losses._FLOOR", 1e-300)
    from_scores, of_maps = LOSSES[name]
    mask = mask_of(LENGTHS, padded)
    student, teacher = scores(mask, 1), scores(mask, 2)
    options = {"published": published, "reduction": reduction}
    loss, gradient = with_gradient(from_scores(student, teacher, mask, **options), student)
    expected, wanted = with_gradient(of_maps(student.softmax(-1), teacher.softmax(-1), mask, **options), student)
    assert expected > 0
    torch.testing.assert_close(loss, expected, rtol=1e-10, atol=0)
    torch.testing.assert_close(gradient, wanted, rtol=1e-10, atol=1e-14)
    torch.testing.assert_close(from_scores(student, teacher, mask.long(), **options).detach(), loss)


def test_without_its_floor_the_kl_moves_little() -> None:
    mask = mask_of(LENGTHS, 5)
    student, teacher = scores(mask, 1), scores(mask, 2)
    of_maps = losses.attention_kl(student.softmax(-1), teacher.softmax(-1), mask)
    assert losses.attention_kl_from_scores(student, teacher, mask).item() == pytest.approx(of_maps.item(), rel=1e-7)


@BOTH
@pytest.mark.parametrize("published", [False, True], ids=["corrected", "published"])
def test_finite_differences(name: str, published: bool) -> None:
    mask = mask_of([3, 3], 3)
    teacher = scores(mask, 2)
    torch.autograd.gradcheck(lambda x: LOSSES[name][0](x, teacher, mask, published=published), scores(mask, 1))


@BOTH
def test_a_scaled_loss_has_a_scaled_gradient_and_the_teacher_none(name: str) -> None:
    mask = mask_of(LENGTHS, 5)
    student, teacher = scores(mask, 1), scores(mask, 2)
    loss = LOSSES[name][0](student, teacher, mask)
    once, thrice = (torch.autograd.grad(factor * loss, student, retain_graph=True)[0] for factor in (1, 3))
    torch.testing.assert_close(thrice, 3 * once)
    loss.backward()
    assert teacher.grad is None


@BOTH
def test_padding_changes_nothing(name: str) -> None:
    """How much of it there is, in values and gradients; what the rows of padding hold."""
    narrow, wide = mask_of(LENGTHS, 5), mask_of(LENGTHS, 8)
    found = []
    for filler in (0.0, 50.0):
        inner = [scores(narrow, seed).detach() for seed in (1, 2)]
        outer = [scores(wide, seed).detach() + filler * ~wide[:, None, :, None] for seed in (3, 4)]
        for small, large in zip(inner, outer, strict=True):
            large[:, :, :5, :5] = small
        value, gradient = with_gradient(LOSSES[name][0](outer[0].requires_grad_(), outer[1], wide), outer[0])
        assert gradient[:, :, 5:].abs().sum() == gradient[..., 5:].abs().sum() == 0
        found.append((value, gradient[:, :, :5, :5]))
        small = inner[0].requires_grad_()
        found.append(with_gradient(LOSSES[name][0](small, inner[1], narrow), small))
    for value, gradient in found[1:]:
        torch.testing.assert_close(value, found[0][0], rtol=1e-12, atol=0)
        torch.testing.assert_close(gradient, found[0][1], rtol=1e-12, atol=1e-14)


@BOTH
def test_published_denominators(name: str) -> None:
    mask = mask_of(LENGTHS, 8)
    student, teacher = scores(mask, 1), scores(mask, 2)
    total = LOSSES[name][0](student, teacher, mask, published=True, reduction="sum")
    mean = LOSSES[name][0](student, teacher, mask, published=True)
    cells = HEADS * 8 * (sum(LENGTHS) if name == "kl" else len(LENGTHS) * 8)
    torch.testing.assert_close(mean, total / cells, rtol=1e-12, atol=0)
    corrected = LOSSES[name][0](student, teacher, mask, reduction="sum") / LOSSES[name][0](student, teacher, mask)
    counted = HEADS * (sum(LENGTHS) if name == "kl" else sum(n * n for n in LENGTHS))
    assert corrected.item() == pytest.approx(counted, rel=1e-12)


@BOTH
def test_bfloat16_is_finite_and_summed_in_float32(name: str) -> None:
    mask = mask_of(LENGTHS, 8)
    student, teacher = scores(mask, 1, torch.bfloat16), scores(mask, 2, torch.bfloat16)
    value, gradient = with_gradient(LOSSES[name][0](student, teacher, mask), student)
    assert (value.dtype, gradient.dtype) == (torch.float32, torch.bfloat16)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().sum() > 0
    exact = LOSSES[name][0](student.detach().double(), teacher.detach().double(), mask)
    assert value.item() == pytest.approx(exact.item(), rel=1e-5)


@BOTH
def test_an_empty_mask_is_zero(name: str) -> None:
    mask = torch.zeros(2, 3, dtype=torch.bool)
    student = scores(mask, 1)
    for reduction in ("sum", "mean"):
        value, gradient = with_gradient(LOSSES[name][0](student, scores(mask, 2), mask, reduction=reduction), student)
        assert value == 0
        assert (gradient == 0).all()
