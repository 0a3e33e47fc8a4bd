"""Every loss against a loop in Python, and what must hold of all of them."""

import pytest
import torch
from loss_cases import ALL, CORRECTED, PROJECTION, PUBLISHED, Case, each, mask_of, tensors_of

from compact_biomed.objectives import losses

LENGTHS = [5, 2, 3]
# The script divides by cells or positions, those of padding included: from length 5 to 8.
SHRINKING = [("attention_kl", 5 / 8), ("attention_mse", 25 / 64), ("hidden_mse", 5 / 8)]


@pytest.fixture(autouse=True)
def _float64_projection():
    PROJECTION.to(torch.float64)
    PROJECTION.zero_grad(set_to_none=True)


def draw(case: Case, mask, seed: int = 0):
    """(student, teacher, mask); tensors with a gradient, the teacher's included."""
    inputs = case.inputs(mask, torch.Generator().manual_seed(seed))
    return *(each(lambda x: x.requires_grad_(x.is_floating_point()), x) for x in inputs), mask


def grow(x, axes: tuple[int, ...], by: int, filler: float):
    """`x` with `by` more places of padding on each axis."""

    def grown(y):
        for axis in axes:
            shape = list(y.shape)
            shape[axis] = by
            y = torch.cat([y, torch.full(shape, filler, dtype=y.dtype)], axis)
        return y

    return each(grown, x)


@pytest.mark.parametrize("name", ALL)
def test_agrees_with_the_loop(name: str) -> None:
    student, teacher, mask = draw(ALL[name], mask_of(LENGTHS, 6))
    total, count = ALL[name].oracle(student, teacher, mask)
    assert total > 0
    assert ALL[name].loss(student, teacher, mask, reduction="sum").item() == pytest.approx(total, rel=1e-10)
    assert ALL[name].loss(student, teacher, mask).item() == pytest.approx(total / count, rel=1e-10)
    # Masks come as int64 from tokenizers.
    if name != "mlm_cross_entropy":
        assert ALL[name].loss(student, teacher, mask.long()).item() == pytest.approx(total / count, rel=1e-10)


@pytest.mark.parametrize("name", ALL)
def test_gradient_is_that_of_the_values(name: str) -> None:
    """Against finite differences, of the student and, through it, of everything behind it."""
    student, teacher, mask = draw(ALL[name], mask_of([3, 1], 3))
    several = not isinstance(student, torch.Tensor)
    if name == "attention_kl, published":  # finite differences need a distance from log 0
        student = (student.detach() + 0.01).requires_grad_()

    def of(*parts):
        return ALL[name].loss(parts if several else parts[0], teacher, mask)

    torch.autograd.gradcheck(of, tensors_of(student))


@pytest.mark.parametrize("name", ALL)
def test_gradients_reach_student_and_projection_and_never_the_teacher(name: str) -> None:
    student, teacher, mask = draw(ALL[name], mask_of(LENGTHS, 6))
    ALL[name].loss(student, teacher, mask).backward()
    assert all(x.grad.abs().sum() > 0 for x in tensors_of(student))
    assert all(x.grad is None for x in tensors_of(teacher))
    if name.startswith("hidden_mse"):
        assert all(x.grad.abs().sum() > 0 for x in PROJECTION.parameters())


@pytest.mark.parametrize("name", CORRECTED)
def test_corrected_does_not_see_padding(name: str) -> None:
    """Neither how much there is nor what stands in it, in values and in gradients."""
    case, mask = CORRECTED[name], mask_of(LENGTHS, 5)
    student, teacher, _ = draw(case, mask)
    value = case.loss(student, teacher, mask)
    value.backward()
    for filler in (0, 7):
        wider = each(lambda x: x.detach().clone().requires_grad_(), grow(student, case.padding, 3, filler))
        padded_value = case.loss(wider, grow(teacher, case.padding, 3, filler), mask_of(LENGTHS, 8))
        assert padded_value.item() == pytest.approx(value.item(), rel=1e-12)
        padded_value.backward()
        for narrow, wide in zip(tensors_of(student), tensors_of(wider), strict=True):
            for axis in case.padding:
                assert wide.grad.narrow(axis, 5, 3).abs().sum() == 0
            inner = wide.grad
            for axis in case.padding:
                inner = inner.narrow(axis, 0, 5)
            torch.testing.assert_close(inner, narrow.grad, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("name", "factor"), SHRINKING)
def test_published_shrinks_with_padding_on_which_both_agree(name: str, factor: float) -> None:
    """One and the same text weighs less beside a longer one."""
    case, mask = PUBLISHED[name], mask_of(LENGTHS, 5)
    student, teacher, _ = draw(case, mask)
    with torch.no_grad():
        if name == "hidden_mse":
            PROJECTION.bias.zero_()  # so that zeros agree
        value = case.loss(student, teacher, mask).item()
        wider = (grow(x, case.padding, 3, 0) for x in (student, teacher))
        assert case.loss(*wider, mask_of(LENGTHS, 8)).item() == pytest.approx(value * factor, rel=1e-12)


@pytest.mark.parametrize("name", ["hidden_mse", "attention_mse"])
def test_published_compares_padding(name: str) -> None:
    case, mask = PUBLISHED[name], mask_of([3, 1], 3)
    student, teacher, _ = draw(case, mask)
    other = teacher.detach().clone()
    other.select(case.padding[0], 2)[1] += 1
    assert case.loss(student, teacher, mask) != case.loss(student, other, mask)
    assert CORRECTED[name].loss(student, teacher, mask) == CORRECTED[name].loss(student, other, mask)


@pytest.mark.parametrize("name", ALL)
def test_sums_over_parts_of_a_batch_are_the_sum(name: str) -> None:
    case, mask = ALL[name], mask_of(LENGTHS, 6)
    student, teacher, _ = draw(case, mask)
    whole = case.loss(student, teacher, mask, reduction="sum")
    parts = [
        case.loss(*(each(lambda x, p=part: x[p], x) for x in (student, teacher)), mask[part], reduction="sum")
        for part in (slice(0, 1), slice(1, 3))
    ]
    assert sum(parts).item() == pytest.approx(whole.item(), rel=1e-12)


@pytest.mark.parametrize("name", [*CORRECTED, "attention_kl, published"])
def test_an_empty_mask_is_zero_with_zero_gradients(name: str) -> None:
    student, teacher, mask = draw(ALL[name], torch.zeros(2, 3, dtype=torch.bool))
    for reduction in ("sum", "mean"):
        value = ALL[name].loss(student, teacher, mask, reduction=reduction)
        assert value.item() == 0
        value.backward()
        for x in tensors_of(student):
            assert (x.grad == 0).all()


@pytest.mark.parametrize("name", ALL)
def test_bfloat16_is_finite_and_computed_in_float32(name: str) -> None:
    student, teacher, mask = draw(ALL[name], mask_of(LENGTHS, 6))
    exact = ALL[name].loss(student, teacher, mask).item()
    student = each(lambda x: (x * 1).detach().bfloat16().requires_grad_(), student)
    teacher = each(lambda x: x.detach().bfloat16() if x.is_floating_point() else x, teacher)
    value = ALL[name].loss(student, teacher, mask)
    value.backward()
    assert value.dtype == torch.float32
    assert value.item() == pytest.approx(exact, rel=0.03)
    assert all(x.grad.isfinite().all() for x in tensors_of(student))


DIVERGENCES = [name for name in CORRECTED if name not in ("soft_cross_entropy", "mlm_cross_entropy", "hidden_mse")]


@pytest.mark.parametrize("name", DIVERGENCES)
def test_a_perfect_student_has_no_loss(name: str) -> None:
    _, teacher, mask = draw(CORRECTED[name], mask_of(LENGTHS, 6))
    assert CORRECTED[name].loss(teacher, teacher, mask).item() == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_extreme_inputs_stay_finite(dtype: torch.dtype) -> None:
    """Certain and wrong: logits of 1e4, maps with all weight on different tokens."""
    logits = torch.tensor([[1e4, -1e4, 0.0]], dtype=dtype, requires_grad=True)
    maps = torch.eye(2, dtype=dtype)[None, None].clone().requires_grad_()
    mask = torch.ones(1, 2, dtype=torch.bool)
    for loss in (losses.soft_kl(logits, logits.flip(1)), losses.attention_kl(maps, maps.flip(-1), mask)):
        loss.backward()
        assert loss.isfinite()
    assert logits.grad.isfinite().all()
    assert maps.grad.isfinite().all()


def test_a_cosine_takes_a_projection() -> None:
    student, teacher = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 6, dtype=torch.float64)
    mask = mask_of([3, 1], 3)
    value = losses.hidden_cosine(student, teacher, mask, projection=PROJECTION)
    assert value.item() == pytest.approx(losses.hidden_cosine(PROJECTION(student), teacher, mask).item(), rel=1e-12)
    value.backward()
    assert PROJECTION.weight.grad.abs().sum() > 0


def test_counts() -> None:
    mask = mask_of([5, 2, 0], 6)
    assert losses.tokens(mask) == 7
    assert losses.pairs(mask) == 25 + 4
    assert losses.padded_rows(mask) == 42
    assert losses.everything(mask) == 18
    assert losses.all_cells(mask) == 108


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(ValueError, match="'average'"):
        losses.hidden_cosine(torch.ones(1, 2), torch.ones(1, 2), reduction="average")
