"""Losses on soft labels of heads that are no softmax, against loops in Python."""

import math

import pytest
import torch

from compact_biomed.objectives import losses

ROWS, LABELS = 4, 3


def draw() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(ROWS, LABELS, generator=generator, dtype=torch.float64).requires_grad_() for _ in "ab")


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def binary(s: float, t: float) -> float:
    return -sigmoid(t) * math.log(sigmoid(s)) - (1 - sigmoid(t)) * math.log(1 - sigmoid(s))


CASES = pytest.mark.parametrize(
    ("loss", "cell"),
    [(losses.soft_binary_cross_entropy, binary), (losses.soft_mse, lambda s, t: (s - t) ** 2)],
)


@CASES
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_agrees_with_the_loop(loss, cell, temperature: float) -> None:
    student, teacher = draw()
    cells = zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True)
    total = sum(cell(s / temperature, t / temperature) for s, t in cells) / LABELS
    given = {"temperature": temperature}
    assert loss(student, teacher, reduction="sum", **given).item() == pytest.approx(total, rel=1e-12)
    assert loss(student, teacher, **given).item() == pytest.approx(total / ROWS, rel=1e-12)


@CASES
def test_the_gradient_is_that_of_the_values_and_the_teacher_has_none(loss, cell) -> None:
    student, teacher = draw()
    torch.autograd.gradcheck(lambda x: loss(x, teacher, temperature=2.0), student)
    loss(student, teacher).backward()
    assert student.grad.any() and teacher.grad is None


@CASES
def test_it_is_least_where_both_agree_and_nothing_costs_nothing(loss, cell) -> None:
    student, teacher = draw()
    same = loss(teacher, teacher)
    assert same < loss(student, teacher)
    assert torch.autograd.grad(same, teacher)[0].abs().max() < 1e-12
    assert loss(student[:0], teacher[:0]) == 0
    assert loss(student.bfloat16(), teacher.half()).dtype == torch.float32
