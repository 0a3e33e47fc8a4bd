"""Score the heads and feed-forward units of an encoder by their weights, or by what the loss would be without them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compact_biomed.engine.encoders import POST_NORM_LAYERS, is_supported
from compact_biomed.errors import UserError
from compact_biomed.evaluation.learner import Feature, batching_options, micro_batches
from compact_biomed.objectives.task import TaskObjective

_TOKENS = 2048  # per micro-batch


class Importance(NamedTuple):
    """The scores of all heads and units; none is negative."""

    heads: Tensor  # [layers, heads]
    units: Tensor  # [layers, units]


class Layer(NamedTuple):
    """The names of the linear modules of a layer, as `get_submodule` of its model takes them."""

    q: str
    k: str
    v: str
    attention_output: str
    inner: str
    outer: str


def is_prunable(config) -> bool:
    """Return whether `layers` knows the architecture."""
    return config.model_type in POST_NORM_LAYERS and is_supported(config)


def layers(model: PreTrainedModel) -> list[Layer]:
    """Return the layers of a BERT or DistilBERT under a task head.

    Raises:
        UserError: another architecture.
    """
    config = model.config
    if not is_prunable(config):
        raise UserError(
            f"a {config.model_type} cannot be pruned here",
            where=config.name_or_path,
            remedy=f"{' and '.join(POST_NORM_LAYERS)} can",
        )
    path, names = POST_NORM_LAYERS[config.model_type]
    return [
        Layer(*(f"{model.base_model_prefix}.{path}{i}.{names[part]}" for part in Layer._fields))
        for i in range(config.num_hidden_layers)
    ]


def linear(model: nn.Module, name: str) -> nn.Linear:
    """Return the linear module of that name."""
    return model.get_submodule(name)


@torch.no_grad()
def magnitude(model: PreTrainedModel) -> Importance:
    """Return the L2 norm of all weights that belong to a head or a unit.

    Of a head these are rows of query, key and value and columns of the output; of a unit, its row and its column.

    Args:
        model: a BERT or DistilBERT under a task head.
    """

    def rows(name: str) -> Tensor:
        return linear(model, name).weight.square().sum(1) + linear(model, name).bias.square()

    def columns(name: str) -> Tensor:
        return linear(model, name).weight.square().sum(0)

    heads, units = [], []
    for layer in layers(model):
        squares = rows(layer.q) + rows(layer.k) + rows(layer.v) + columns(layer.attention_output)
        heads.append(squares.view(model.config.num_attention_heads, -1).sum(1).sqrt())
        units.append((rows(layer.inner) + columns(layer.outer)).sqrt())
    return Importance(torch.stack(heads), torch.stack(units))


def taylor(model: PreTrainedModel, head: str, features: Sequence[Feature]) -> Importance:
    """Return the first-order change of the loss if the context of a head, or the activation of a unit, were zero.

    The mean over features of |sum over tokens (and widths of the head) of activation x d loss / d activation|, which
    is |d loss / d gate| at a gate of 1 (Michel, Levy and Neubig 2019, section 4.1; units likewise). The loss of a
    feature is the sum over its labels; dropout is off.

    Args:
        model: a BERT or DistilBERT under a task head.
        head: a key of `objectives.task.HEADS`.
        features: encoded examples with labels.
    """
    objective = TaskObjective(model, head, fast=False).eval()
    names = layers(model)
    shapes = len(names), model.config.num_attention_heads
    heads = torch.zeros(shapes)
    units = torch.zeros(len(names), linear(model, names[0].inner).out_features)
    batching = batching_options(model.config) | {"head": head, "device": model.device}
    observed = [name for layer in names for name in (layer.attention_output, layer.outer)]
    for _, batch in micro_batches(features, tokens=_TOKENS, **batching):
        with torch.enable_grad(), _inputs(model, observed) as inputs:
            loss = objective(*batch).loss_sum
            slopes = torch.autograd.grad(loss, inputs)
        gates = [(x * slope).detach().sum(1).cpu() for x, slope in zip(inputs, slopes, strict=True)]  # [batch, width]
        for i, (context, activation) in enumerate(zip(gates[::2], gates[1::2], strict=True)):
            heads[i] += context.view(len(context), shapes[1], -1).sum(2).abs().sum(0)
            units[i] += activation.abs().sum(0)
    return Importance(heads / len(features), units / len(features))


@contextmanager
def _inputs(model: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """Collect the inputs of the named modules in the order of their calls: [batch, length, width] each."""
    inputs: list[Tensor] = []
    hooks = [
        linear(model, name).register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
        for name in names
    ]
    try:
        yield inputs
    finally:
        for hook in hooks:
            hook.remove()
