"""Single weights: as many as asked for, the smallest, and the same again."""

import pytest
import torch
from small_tasks import small_task_model

from compact_biomed.compress.pruning.importance import layers
from compact_biomed.compress.pruning.select import clear, least_weights, numbers
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


def test_shares_that_cannot_be_done() -> None:
    model = small_task_model("bert", "token")
    with pytest.raises(UserError, match="weights is none"):
        least_weights(model, 1e-6)
    with pytest.raises(UserError, match="weights leaves 0, and 1 have to stay"):
        least_weights(model, 0.99999)
