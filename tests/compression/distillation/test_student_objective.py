"""The loss of a student against a naive one in float64: values, gradients, and what no gradient reaches."""

import pytest
import torch
from small_tasks import AUTO_CLASSES, LABELS, random_task_batch, small_task_model
from torch.nn import functional as F

from compact_biomed.compression.distillation.method import StudentObjective, task_terms
from compact_biomed.objectives.task import TaskObjective
from compact_biomed.objectives.textbrewer import TextBrewerLoss

HEADS = pytest.mark.parametrize("head", AUTO_CLASSES)
T, WEIGHT = 3.0, 0.7
LENGTHS, WIDTH = [20, 13, 5, 7], 24
LABELED = torch.tensor([True, False, True, False])


def batch_of(head: str):
    """A batch of which two documents are labeled, with soft labels at other positions than the hard ones."""
    ids, mask, types, targets = random_task_batch("bert", head, LENGTHS, WIDTH)
    generator = torch.Generator().manual_seed(9)
    soft_positions = torch.zeros_like(mask, dtype=torch.bool)
    if head == "token":
        soft_positions = (torch.rand(mask.shape, generator=generator) < 0.5) & mask.bool()
    elif head == "span":
        soft_positions = mask.bool()
    else:
        soft_positions[:, 0] = True
    outputs = {"regression": 1, "span": 2}.get(head, LABELS)
    soft = torch.randn(int(soft_positions.sum()), outputs, generator=generator, dtype=torch.float64) * 3
    return ids, mask, types, targets, LABELED, soft_positions, soft


def kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    p, q = (torch.softmax(x / T, -1) for x in (teacher, student))
    return (p * (p / q).log()).sum()


def naive(model, head: str, ids, mask, types, targets, labeled, soft_positions, soft) -> torch.Tensor:
    """Document by document, as the formulas read; transformers computes the logits."""
    output = model(input_ids=ids, attention_mask=mask, token_type_ids=types)
    hard, softly, row = [], [], 0
    for i, length in enumerate(LENGTHS):
        own = soft[row : row + int(soft_positions[i].sum())]
        row += len(own)
        if head == "span":
            for side, logits in enumerate((output.start_logits[i, :length], output.end_logits[i, :length])):
                hard.append(-torch.log_softmax(logits, -1)[targets[i, side]] / 2 * labeled[i])
                softly.append(kl(logits, own[:, side]) / 2)
            continue
        logits = output.logits[i]
        if head == "token":
            for position in range(length):
                if targets[i, position] >= 0:
                    hard.append(-torch.log_softmax(logits[position], -1)[targets[i, position]] * labeled[i])
            softly.append(kl(logits[soft_positions[i]], own))
        elif head == "sequence":
            hard.append(-torch.log_softmax(logits, -1)[targets[i]] * labeled[i])
            softly.append(kl(logits, own[0]))
        elif head == "multilabel":
            hard.append(F.binary_cross_entropy(torch.sigmoid(logits), targets[i]) * labeled[i])
            softly.append(F.binary_cross_entropy(torch.sigmoid(logits / T), torch.sigmoid(own[0] / T)))
        else:
            hard.append((logits[0] - targets[i]) ** 2 * labeled[i])
            softly.append((logits[0] - own[0, 0]) ** 2 / T**2)
    return sum(hard) + WEIGHT * T**2 * sum(softly)


def terms_of(head: str, soft_weight: float = WEIGHT):
    return task_terms(head, temperature=T, soft_weight=soft_weight)


@HEADS
@pytest.mark.parametrize("fast", [True, False])
def test_the_loss_is_the_naive_one(head: str, fast: bool) -> None:
    model = small_task_model("bert", head)
    batch = batch_of(head)
    expected = naive(model, head, *batch)
    expected.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    objective = StudentObjective(model, head, terms=terms_of(head), dtype=torch.float64, fast=fast).eval()
    soft = batch[-1].requires_grad_()
    output = objective(*batch)
    output.loss_sum.backward()
    torch.testing.assert_close(output.loss_sum, expected, rtol=1e-9, atol=1e-9)
    for name, gradient in gradients.items():
        got = dict(model.named_parameters())[name].grad
        torch.testing.assert_close(got, gradient, rtol=1e-8, atol=1e-9, msg=name)
    assert all(gradient.any() for gradient in gradients.values())
    assert soft.grad is None  # nothing reaches the teacher


@HEADS
def test_without_soft_weight_it_is_the_plain_loss_to_the_bit(head: str) -> None:
    model = small_task_model("bert", head)
    ids, mask, types, targets, _, soft_positions, soft = batch_of(head)
    plain = TaskObjective(model, head, dtype=torch.float64).eval()(ids, mask, types, targets)
    objective = StudentObjective(model, head, terms=terms_of(head, 0.0), dtype=torch.float64).eval()
    got = objective(ids, mask, types, targets, torch.ones(4, dtype=torch.bool), soft_positions & False, soft[:0])
    assert torch.equal(got.loss_sum, plain.loss_sum) and got.rows == plain.rows


@pytest.mark.parametrize("head", ["token", "sequence"])
def test_textbrewer_computes_the_same(head: str) -> None:
    """Its own distiller, from the same configuration, where every row has both labels."""
    model = small_task_model("bert", head)
    ids, mask, types, targets, *_ = batch_of(head)
    soft_positions = targets != -100 if head == "token" else batch_of(head)[-2]
    soft = torch.randn(int(soft_positions.sum()), LABELS, dtype=torch.float64)
    objective = StudentObjective(model, head, terms=terms_of(head), dtype=torch.float64).eval()
    got = objective(ids, mask, types, targets, torch.ones(4, dtype=torch.bool), soft_positions, soft)
    logits = objective.logits(ids, mask, types, soft_positions)
    labels = targets[soft_positions] if head == "token" else targets
    evaluation = TextBrewerLoss(terms_of(head))
    expected, _ = evaluation({"logits": logits, "labels": labels}, {"logits": soft}, mask)
    torch.testing.assert_close(got.loss_sum / got.rows, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 20.0])
def test_tokens_that_are_not_there_take_no_part(temperature: float) -> None:
    model = small_task_model("bert", "span")
    ids, mask, types, targets, labeled, soft_positions, soft = batch_of("span")
    wanted = task_terms("span", temperature=temperature, soft_weight=1.0)
    objective = StudentObjective(model, "span", terms=wanted, dtype=torch.float64).eval()
    whole = objective(ids, mask, types, targets, labeled, soft_positions, soft).loss_sum
    apart, row = [], 0
    for i, length in enumerate(LENGTHS):
        cut = (x[i : i + 1, :length] for x in (ids, mask, types))
        rows = soft[row : row + length]
        apart.append(objective(*cut, targets[i : i + 1], labeled[i : i + 1], soft_positions[i : i + 1, :length], rows))
        row += length
    torch.testing.assert_close(sum(part.loss_sum for part in apart), whole, rtol=1e-9, atol=1e-9)
