"""TextBrewer's evaluation, our own, and the published formulas agree for all three students.

The formulas are written out once more below, on tensors as a model gives them: values and
gradients must be the same.
"""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from term_outputs import leaves, random_outputs, terms_of
from torch import Tensor
from torch.nn import functional as F

from compact_biomed.objectives.evaluate import build_projections, evaluate, total
from compact_biomed.objectives.textbrewer import TextBrewerLoss, from_textbrewer, library, to_textbrewer

MASK = (torch.arange(7) < torch.tensor([7, 4, 2])[:, None]).long()
ROWS = 5


def _mlm(student: dict) -> Tensor:
    return F.cross_entropy(student["logits"], student["labels"])


def _kl(student: dict, teacher: dict, temperature: float) -> Tensor:
    p = (teacher["logits"].detach() / temperature).softmax(-1)
    log_q = (student["logits"] / temperature).log_softmax(-1)
    return (p * (p.log() - log_q)).sum() / ROWS


def _cosine(student: Tensor, teacher: Tensor) -> Tensor:
    s, t = student[MASK == 1], teacher.detach()[MASK == 1]
    return F.cosine_embedding_loss(s, t, torch.ones(len(s)))


def _cell_averaged_kl(student: Tensor, teacher: Tensor) -> Tensor:
    rows = (MASK == 1)[:, None].expand(student.shape[:3])
    s, t = student[rows] + 1e-12, teacher.detach()[rows] + 1e-12
    return (t * (t.log() - s.log())).mean()


def distilbiobert(s: dict, t: dict, _) -> Tensor:
    return 2.0 * _mlm(s) + 5.0 * 4 * _kl(s, t, 2.0) + 1.0 * _cosine(s["hidden"][-1], t["hidden"][-1])


def compactbiobert(s: dict, t: dict, _) -> Tensor:
    layers = range(len(s["attention"]))
    attention = sum(_cell_averaged_kl(s["attention"][i], t["attention"][2 * i + 1]) for i in layers)
    hidden = sum(_cosine(s["hidden"][1:][i], t["hidden"][1:][2 * i + 1]) for i in layers)
    return 1.0 * _mlm(s) + 3.0 * (attention + hidden) + 5.0 * _kl(s, t, 1.0)


def tinybiobert(s: dict, t: dict, project) -> Tensor:
    block = len(t["attention"]) // len(s["attention"])
    maps = zip(s["attention"], t["attention"][block - 1 :: block], strict=True)
    states = zip(s["hidden"], t["hidden"][::block], strict=True)
    loss = sum(((a - b.detach()) ** 2).mean() for a, b in maps)
    loss = loss + sum(((project(a) - b.detach()) ** 2).mean() for a, b in states)
    return loss - (t["logits"].detach().softmax(-1) * s["logits"].log_softmax(-1)).sum(-1).mean()


@dataclass(frozen=True)
class Student:
    layers: int
    teacher_layers: int
    width: int
    teacher_width: int
    formula: Callable[[dict, dict, Callable], Tensor]

    def terms(self, published: bool = True):
        name = self.formula.__name__
        quirk = {"compactbiobert": "cell_average", "tinybiobert": "padding_in_mse"}.get(name)
        changes = {quirk: True} if quirk and published else {}
        return terms_of(name, self.layers, self.teacher_layers, (self.width, self.teacher_width), **changes)


STUDENTS = {
    "distilbiobert": Student(6, 12, 8, 8, distilbiobert),
    "compactbiobert": Student(6, 12, 8, 8, compactbiobert),
    "tinybiobert": Student(4, 12, 4, 8, tinybiobert),
    "distilbiobert, mini": Student(3, 6, 8, 8, distilbiobert),
    "compactbiobert, mini": Student(3, 6, 8, 8, compactbiobert),
    "tinybiobert, mini": Student(2, 6, 4, 8, tinybiobert),
}


def outputs_of(model: Student) -> tuple[dict, dict]:
    return (
        random_outputs(model.layers, model.width, MASK, rows=ROWS, seed=1),
        random_outputs(model.teacher_layers, model.teacher_width, MASK, rows=ROWS, seed=2),
    )


def with_gradients(loss: Tensor, student: dict, teacher: dict, projections) -> tuple[Tensor, list[Tensor | None]]:
    inputs = [*leaves(student), *projections.parameters()]
    gradients = torch.autograd.grad(loss, inputs, allow_unused=True, retain_graph=True)
    assert any(g is not None for g in gradients)
    of_teacher = torch.autograd.grad(loss, leaves(teacher), allow_unused=True, retain_graph=True)
    assert all(g is None for g in of_teacher)
    return loss.detach(), list(gradients)


def assert_same(got, expected, *, offset: float = 0.0) -> None:
    torch.testing.assert_close(got[0], expected[0] + offset, rtol=1e-12, atol=1e-12)
    assert len(got[1]) == len(expected[1])
    for a, b in zip(got[1], expected[1], strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", STUDENTS)
def test_textbrewer_our_losses_and_the_published_formula_agree(name: str) -> None:
    model = STUDENTS[name]
    student, teacher = outputs_of(model)
    terms = model.terms()
    projections = build_projections(terms).double()
    assert len(projections) == (model.formula is tinybiobert)
    project = projections["states"] if projections else None
    formula = with_gradients(model.formula(student, teacher, project), student, teacher, projections)
    values = evaluate(terms, student, teacher, MASK, projections=projections)
    assert_same(with_gradients(total(terms, values), student, teacher, projections), formula)
    loss, of_textbrewer = TextBrewerLoss(terms, projections)(student, teacher, MASK)
    assert_same(with_gradients(loss, student, teacher, projections), formula)
    assert list(of_textbrewer) == list(values)
    for term in terms:
        torch.testing.assert_close(of_textbrewer[term.name], values[term.name], rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", STUDENTS)
def test_textbrewer_and_our_losses_agree_on_the_corrected_terms(name: str) -> None:
    model = STUDENTS[name]
    student, teacher = outputs_of(model)
    terms = model.terms(published=False)
    projections = build_projections(terms).double()
    loss, _ = TextBrewerLoss(terms, projections)(student, teacher, MASK)
    ours = total(terms, evaluate(terms, student, teacher, MASK, projections=projections))
    pair = [with_gradients(x, student, teacher, projections) for x in (loss, ours)]
    assert_same(*pair)


def entropy(logits: Tensor, temperature: float) -> Tensor:
    p = (logits.detach() / temperature).softmax(-1)
    return -(p * p.log()).sum(-1).mean()


def test_textbrewers_own_losses_give_distilbiobert_but_for_the_teachers_entropy() -> None:
    model = STUDENTS["distilbiobert"]
    student, teacher = outputs_of(model)
    config = library().DistillationConfig(
        temperature=2,
        kd_loss_type="ce",
        kd_loss_weight=20,
        hard_label_weight=2,
        intermediate_matches=[{"layer_S": 6, "layer_T": 12, "feature": "hidden", "loss": "cos", "weight": 1}],
    )
    formula = with_gradients(distilbiobert(student, teacher, None), student, teacher, torch.nn.ModuleDict())
    loss, _ = TextBrewerLoss(from_textbrewer(config), config=config)(student, teacher, MASK)
    offset = 20 * entropy(teacher["logits"], 2.0).item()
    assert_same(with_gradients(loss, student, teacher, torch.nn.ModuleDict()), formula, offset=offset)


def test_textbrewers_own_squares_are_our_corrected_ones() -> None:
    model = STUDENTS["tinybiobert"]
    student, teacher = outputs_of(model)
    terms = model.terms(published=False)
    ours, own = to_textbrewer(terms), to_textbrewer(terms)
    for entry in own.intermediate_matches:
        entry.loss = entry.loss.removeprefix("cb_")
    own.kd_loss_type = "ce"
    projections = build_projections(terms).double()
    assert from_textbrewer(own) == from_textbrewer(ours) == terms
    losses = [TextBrewerLoss(terms, projections, config=config)(student, teacher, MASK)[0] for config in (own, ours)]
    assert_same(*(with_gradients(loss, student, teacher, projections) for loss in losses))


def test_tinybert_compares_raw_scores() -> None:
    terms = terms_of("tinybiobert", 2, 6, (4, 8), raw_scores=True)
    scores = [(t.loss, t.layer_T) for t in terms if t.feature == "scores"]
    assert scores == [("attention_score_mse", 2), ("attention_score_mse", 5)]
