"""Pruned weights, heads and units: the right number, the least important, and the function of shut gates."""

from pathlib import Path

import pytest
import torch
from gates import gated, logits, open_gates
from small_tasks import AUTO_CLASSES, small_task_model

from compact_biomed.compression.pruning.importance import layers, linear, magnitude
from compact_biomed.compression.pruning.select import (
    best_units,
    clear,
    head_weights,
    least_heads,
    least_weights,
    numbers,
    without_dead_heads,
    without_units,
)
from compact_biomed.errors import UserError


@pytest.mark.parametrize("model_type", ["bert", "distilbert"])
@pytest.mark.parametrize("scope", ["matrix", "model"])
def test_the_smallest_go_and_their_number_is_exact(model_type: str, scope: str) -> None:
    model = small_task_model(model_type, "token")
    names = [f"{name}.weight" for layer in layers(model) for name in layer]
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    gone = least_weights(model, 0.3, scope=scope)
    assert list(gone) == names
    total = sum(before[name].numel() for name in names)
    clear(model, gone)
    left = numbers(model)
    if scope == "matrix":
        assert all(int(gone[name].sum()) == round(0.3 * before[name].numel()) for name in names)
    else:
        assert sum(int(each.sum()) for each in gone.values()) == round(0.3 * total)
        assert len({round(float(each.float().mean()), 3) for each in gone.values()}) > 1
    assert left["parameters"] - left["nonzero"] == sum(int(each.sum()) for each in gone.values())
    groups = [[name] for name in names] if scope == "matrix" else [names]
    for group in groups:
        largest = max(before[name][gone[name]].abs().max() for name in group)
        assert largest <= min(before[name][~gone[name]].abs().min() for name in group)
    for name, parameter in model.named_parameters():  # all else as it was
        kept = ~gone[name] if name in gone else slice(None)
        assert torch.equal(parameter[kept], before[name][kept])
    again = least_weights(model, 0.3, scope=scope)
    assert all(torch.equal(again[name], gone[name]) for name in names)


def test_equal_weights_go_in_the_right_number() -> None:
    model = small_task_model("bert", "token")
    with torch.no_grad():
        for layer in layers(model):
            for name in layer:
                model.get_parameter(f"{name}.weight").fill_(0.5)
    assert all(int(gone.sum()) == round(0.25 * gone.numel()) for gone in least_weights(model, 0.25).values())


def test_shares_of_weights_that_cannot_be_done() -> None:
    model = small_task_model("bert", "token")
    with pytest.raises(UserError, match="weights is none"):
        least_weights(model, 1e-6)
    with pytest.raises(UserError, match="weights leaves 0, and 1 have to stay"):
        least_weights(model, 0.99999)


TYPES = ("bert", "distilbert")
GONE = torch.tensor([[True, False, False, False], [False, True, False, True]])  # 3 of 2 x 4 heads


def without_heads(model_type: str):
    """A model without the heads of `GONE`, and its logits with those gates shut instead."""
    model = small_task_model(model_type, "token")
    heads, units = open_gates(model)
    with gated(model, heads.detach() * ~GONE, units.detach()):
        expected = logits(model)
    clear(model, head_weights(model, GONE))
    return model, expected


@pytest.mark.parametrize("model_type", TYPES)
def test_heads_of_zeros_are_heads_that_are_shut_and_heads_that_are_not_there(model_type: str) -> None:
    model, expected = without_heads(model_type)
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-12)
    before = numbers(model)
    assert without_dead_heads(model) == 3
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-12)
    hidden, width = 24, 6
    per_head = 3 * (width * hidden + width) + hidden * width
    assert numbers(model)["parameters"] == before["parameters"] - 3 * per_head
    assert [linear(model, layer.q).out_features for layer in layers(model)] == [3 * width, 2 * width]
    assert without_dead_heads(small_task_model(model_type, "token")) == 0


def test_a_layer_without_a_living_head_keeps_one() -> None:
    model = small_task_model("bert", "token")
    clear(model, head_weights(model, torch.ones(2, 4, dtype=torch.bool)))
    expected = logits(model)
    assert without_dead_heads(model) == 6
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=1e-12)
    assert without_dead_heads(small_task_model("mobilebert", "token")) == 0


@pytest.mark.parametrize("model_type", TYPES)
def test_zeros_are_at_rest(model_type: str) -> None:
    model, _ = without_heads(model_type)
    removed = head_weights(model, GONE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    before = model.get_parameter(next(iter(removed))).detach().clone()
    for _ in range(3):
        model.train()(input_ids=torch.arange(5, 25).view(2, 10)).logits.square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert all(not model.get_parameter(name)[gone].any() for name, gone in removed.items())
    assert not torch.equal(before, model.get_parameter(next(iter(removed))))


@pytest.mark.parametrize("model_type", TYPES)
@pytest.mark.parametrize("head", ["token", "sequence", "span"])
def test_units_that_are_not_there_are_units_that_are_shut(model_type: str, head: str, tmp_path: Path) -> None:
    import transformers

    model = small_task_model(model_type, head)
    kept = best_units(magnitude(model).units, 0.3)
    heads, units = open_gates(model)
    shut = torch.zeros_like(units).scatter_(1, kept, 1)
    with gated(model, heads.detach(), shut):
        expected = logits(model)
    smaller = without_units(model, kept)
    torch.testing.assert_close(logits(smaller), expected, rtol=0, atol=1e-12)
    wide = 40 - 12
    assert numbers(model)["parameters"] - numbers(smaller)["parameters"] == 2 * 12 * (24 + 1 + 24)
    assert smaller.config.to_dict()["hidden_dim" if model_type == "distilbert" else "intermediate_size"] == wide
    assert model.config.to_dict()["hidden_dim" if model_type == "distilbert" else "intermediate_size"] == 40
    smaller.float().save_pretrained(tmp_path)
    opened = getattr(transformers, AUTO_CLASSES[head]).from_pretrained(tmp_path)
    assert torch.equal(logits(opened), logits(smaller))


def test_the_least_heads_by_hand() -> None:
    scores = torch.tensor([[3.0, 4.0, 0.5], [30.0, 40.0, 6.0]])  # layers of one profile, ten times as large
    assert least_heads(scores, 2 / 6).tolist() == [[False, False, True], [False, False, True]]
    # The best of a layer stays, though another layer's second is better: 0.5 beside 0.7.
    found = least_heads(torch.tensor([[1.0, 1.0, 0.0, 0.0], [2.0, 2.0, 2.0, 2.0]]), 6 / 8)
    assert found.tolist() == [[False, True, True, True]] * 2
    again = least_heads(scores.masked_fill(least_heads(scores, 0.5), 0.0), 0.5)
    assert torch.equal(again, least_heads(scores, 0.5))


def test_the_best_units_by_hand() -> None:
    scores = torch.tensor([[1.0, 5.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0]])
    assert best_units(scores, 0.5).tolist() == [[1, 3], [0, 1]]


@pytest.mark.parametrize(
    ("share", "said"),
    [(0.9, r"0.9 of 8 heads leaves 1, and 2 have to stay \(at most 0.750\)"), (0.01, "0.01 of 8 heads is none")],
)
def test_shares_of_heads_and_units_that_cannot_be_done(share: float, said: str) -> None:
    with pytest.raises(UserError, match=said):
        least_heads(torch.rand(2, 4), share)
    with pytest.raises(UserError, match="feed-forward units leaves 0"):
        best_units(torch.rand(2, 4), 0.99)
