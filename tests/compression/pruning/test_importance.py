"""Importance: against gates and plain loops; dead heads and units are found."""

import pytest
import torch
from gates import gated, open_gates
from small_tasks import small_task_model

from compact_biomed.compression.pruning.importance import layers, linear, magnitude, taylor
from compact_biomed.compression.pruning.select import best_units, least_heads
from compact_biomed.errors import UserError
from compact_biomed.evaluation.learner import micro_batches
from compact_biomed.objectives.task import TaskObjective

TYPES = ("bert", "distilbert")


def features(head: str, lengths=(5, 11, 40)) -> list[dict]:
    answers = {
        "token": lambda n: {"labels": [-100, *(i % 3 for i in range(n - 2)), -100]},
        "sequence": lambda n: {"labels": n % 3},
        "span": lambda n: {"start": n // 3, "end": n // 2},
    }
    return [{"input_ids": [5 + (7 * i + n) % 50 for i in range(n)], **answers[head](n)} for n in lengths]


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("head", ["token", "sequence", "span"])
def test_taylor_is_the_mean_slope_at_gates(model_type: str, head: str) -> None:
    model, given = small_task_model(model_type, head), features(head)
    gates = open_gates(model)
    expected = [torch.zeros_like(gate) for gate in gates]
    objective = TaskObjective(model, head, fast=False)
    for feature in given:
        ((_, part),) = micro_batches([feature], head=head, pad_id=0, tokens=64, types=model_type == "bert")
        with gated(model, *gates):
            slopes = torch.autograd.grad(objective(*part).loss_sum, gates)
        for total, slope in zip(expected, slopes, strict=True):
            total += slope.abs() / len(given)
    for found, wanted in zip(taylor(model, head, given), expected, strict=True):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("model_type", TYPES)
def test_magnitude_is_the_norm_of_all_that_vanishes(model_type: str) -> None:
    model = small_task_model(model_type, "token")
    found = magnitude(model)
    layer = layers(model)[1]
    width = model.config.hidden_size // 4
    rows = [linear(model, name) for name in (layer.q, layer.k, layer.v)]
    own = slice(2 * width, 3 * width)  # head 2
    parts = [x for module in rows for x in (module.weight[own], module.bias[own])]
    parts.append(linear(model, layer.attention_output).weight[:, own])
    assert found.heads[1, 2] == pytest.approx(torch.cat([p.flatten() for p in parts]).norm().item())
    inner, outer = linear(model, layer.inner), linear(model, layer.outer)
    unit = torch.cat([inner.weight[7], inner.bias[7:8], outer.weight[:, 7]])
    assert found.units[1, 7] == pytest.approx(unit.norm().item())


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("way", ["taylor", "magnitude"])
def test_what_is_dead_is_found(model_type: str, way: str) -> None:
    model = small_task_model(model_type, "token")
    first, second = layers(model)
    width = model.config.hidden_size // 4
    with torch.no_grad():
        for name in (second.q, second.k, second.v):
            linear(model, name).weight[width : 2 * width] = linear(model, name).bias[width : 2 * width] = 0
        linear(model, second.attention_output).weight[:, width : 2 * width] = 0
        linear(model, first.inner).weight[30] = linear(model, first.inner).bias[30] = 0
        linear(model, first.outer).weight[:, 30] = 0
    found = magnitude(model) if way == "magnitude" else taylor(model, "token", features("token"))
    assert least_heads(found.heads, 1 / 8).nonzero().tolist() == [[1, 1]]
    assert 30 not in best_units(found.units, 1 / 40)[0]


def test_what_is_read_together_changes_nothing() -> None:
    model, given = small_task_model("bert", "token"), features("token")
    alone = [taylor(model, "token", [feature]) for feature in given]
    together = taylor(model, "token", given)
    torch.testing.assert_close(together.heads, sum(x.heads for x in alone) / 3)
    torch.testing.assert_close(together.units, sum(x.units for x in alone) / 3)


def test_another_architecture_is_refused() -> None:
    with pytest.raises(UserError, match=r"a mobilebert cannot be pruned here \(bert and distilbert can\)"):
        magnitude(small_task_model("mobilebert", "token"))
