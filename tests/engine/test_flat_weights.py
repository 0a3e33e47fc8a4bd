"""Parameters as views of vectors: the gradients are those of the parameters, and nothing is left of it afterwards."""

import copy

import pytest
import torch
from small_tasks import small_task_model
from torch import nn

from compact_biomed.engine.flat_weights import FlatWeights
from compact_biomed.engine.microbatch import Replicas
from compact_biomed.evaluation.descent import decay_groups
from compact_biomed.evaluation.learner import batching_options, micro_batches
from compact_biomed.objectives.task import TaskObjective

MODELS = pytest.mark.parametrize("model_type", ["bert", "distilbert", "mobilebert"])
FAST = pytest.mark.parametrize("fast", [True, False])
IDS = [[2, 7, 9, 11, 3], [2, 5, 3], [2, 6, 8, 10, 12, 14, 3]]


def objective_of(model_type: str, *, fast: bool = True, dtype: torch.dtype = torch.float64) -> TaskObjective:
    return TaskObjective(small_task_model(model_type, "token"), "token", dtype=dtype, fast=fast)


def parts_of(objective: TaskObjective, tokens: int = 1000) -> list[tuple]:
    features = [{"input_ids": ids, "labels": [i % 3 for i in range(len(ids))]} for ids in IDS]
    batches = micro_batches(features, head="token", tokens=tokens, **batching_options(objective.model.config))
    return [part for _, part in batches]


def flattened(objective: TaskObjective) -> FlatWeights:
    flat = FlatWeights(objective, decay_groups(objective, 0.1))
    flat.adopt()
    return flat


def gradients(objective: TaskObjective, parts: list[tuple]) -> dict[str, torch.Tensor]:
    Replicas(objective).backward(parts, scale=0.5, stream=(1, 2))
    return {name: parameter.grad for name, parameter in objective.named_parameters()}


@MODELS
@FAST
@pytest.mark.parametrize("tokens", [1000, 1])
def test_gradients_are_those_of_the_parameters(model_type: str, fast: bool, tokens: int) -> None:
    objective = objective_of(model_type, fast=fast)
    objective.train()
    parts = parts_of(objective, tokens)
    expected = gradients(copy.deepcopy(objective), parts)
    flat = flattened(objective)
    outcome = flat.backward(Replicas(objective), parts, scale=0.5, stream=(1, 2))
    assert outcome.rows == sum(map(len, IDS))
    # A step along the gradient, of all vectors at once, is one of each parameter.
    before = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    for group, gradient in zip(flat.groups, flat.gradients, strict=True):
        group["params"][0].sub_(gradient)
    flat.release()
    for name, parameter in objective.named_parameters():
        torch.testing.assert_close(parameter.detach(), before[name] - expected[name], rtol=0, atol=1e-12, msg=name)


@MODELS
def test_a_second_step_forgets_the_first(model_type: str) -> None:
    objective = objective_of(model_type).eval()
    flat, parts = flattened(objective), parts_of(objective)
    gradients_of_steps = []
    for _ in range(2):
        flat.backward(Replicas(objective), parts, scale=0.5, stream=(1, 2))
        gradients_of_steps.append([gradient.clone() for gradient in flat.gradients])
    for first, second in zip(*gradients_of_steps, strict=True):
        torch.testing.assert_close(second, first, rtol=0, atol=0)


@MODELS
@FAST
def test_what_is_adopted_and_released_is_the_same_model(model_type: str, fast: bool) -> None:
    objective = objective_of(model_type, fast=fast)
    before = copy.deepcopy(objective.state_dict())
    flat = flattened(objective)
    within = {name: parameter.detach().clone() for name, parameter in objective.named_parameters()}
    flat.release()
    assert all(torch.equal(before[name], tensor) for name, tensor in within.items())
    for name, parameter in objective.named_parameters():
        assert torch.equal(before[name], parameter), name
        assert parameter.is_contiguous() and parameter.grad is None
        assert parameter.untyped_storage().nbytes() == parameter.numel() * 8, "holds on to the vector"


def test_one_vector_for_each_group_and_every_parameter_in_it() -> None:
    objective = objective_of("bert")
    groups = decay_groups(objective, 0.1)
    flat = FlatWeights(objective, groups)
    for before, after in zip(groups, flat.groups, strict=True):
        (vector,) = after["params"]
        assert vector.shape == (sum(p.numel() for p in before["params"]),)
        assert after["weight_decay"] == before["weight_decay"]


@pytest.mark.parametrize(("tokens", "dtype"), [(1000, torch.bfloat16), (1, torch.float32)])
def test_gradients_of_several_parts_are_added_up_in_float32(tokens: int, dtype: torch.dtype) -> None:
    objective = TaskObjective(small_task_model("bert", "token").float(), "token", dtype=torch.bfloat16).eval()
    flat = flattened(objective)
    flat.backward(Replicas(objective), parts_of(objective, tokens), scale=0.5, stream=(1, 2))
    assert {gradient.dtype for gradient in flat.gradients} == {dtype}
    exact = gradients(objective_of("bert").eval(), parts_of(objective, tokens))
    norm = torch.stack([gradient.norm() for gradient in exact.values()]).norm()
    assert torch.cat([g.float() for g in flat.gradients]).norm().item() == pytest.approx(norm.item(), rel=0.03)


@FAST
def test_a_parameter_without_gradient_is_left_alone(fast: bool) -> None:
    objective = objective_of("bert", fast=fast).eval()
    objective.model.spare = nn.Parameter(torch.ones(3, dtype=torch.float64))
    objective.model.scale = nn.Parameter(torch.tensor(2.0, dtype=torch.float64))  # without a dimension
    classifier = objective.model.classifier.weight.detach().clone()
    flat = flattened(objective)
    flat.backward(Replicas(objective), parts_of(objective), scale=0.5, stream=(1, 2))
    for group in flat.groups:
        group["params"][0].mul_(0.5)
    flat.release()
    assert objective.model.spare.tolist() == [1, 1, 1] and objective.model.scale.item() == 2
    assert torch.equal(objective.model.classifier.weight, classifier * 0.5)
