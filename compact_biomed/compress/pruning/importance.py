"""How much a head or a feed-forward unit matters, by its weights or by what the loss would do without it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from compact_biomed.compress.pruning.parts import layers, linear
from compact_biomed.evaluation.batches import Feature, micro_batches, reading
from compact_biomed.evaluation.objective import TaskObjective

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_TOKENS = 2048  # of a micro-batch


class Importance(NamedTuple):
    heads: Tensor  # [layers, heads]
    units: Tensor  # [layers, units]


@torch.no_grad()
def magnitude(model: "PreTrainedModel") -> Importance:
    """L2 norm of all weights that vanish with a head (rows of query, key, value; columns of the output) or a unit.

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


def taylor(model: "PreTrainedModel", head: str, features: Sequence[Feature]) -> Importance:
    """First-order change of the loss if a head's context, or a unit's activation, were zero.

    The mean over features of |sum over tokens (and widths of the head) of activation x d loss / d activation|, which
    is |d loss / d gate| at a gate of 1 (Michel, Levy and Neubig 2019, section 4.1; units likewise). A feature's loss is
    the sum over its labels; dropout is off.

    Args:
        model: a BERT or DistilBERT under a task head.
        head: a name in `evaluation.heads.HEADS`.
        features: encoded examples with labels.
    """
    objective = TaskObjective(model, head, fast=False).eval()
    names = layers(model)
    shapes = len(names), model.config.num_attention_heads
    heads = torch.zeros(shapes)
    units = torch.zeros(len(names), linear(model, names[0].inner).out_features)
    batching = reading(model.config) | {"head": head, "device": model.device}
    for _, part in micro_batches(features, tokens=_TOKENS, **batching):
        with torch.enable_grad(), _inputs(model, [n for x in names for n in (x.attention_output, x.outer)]) as seen:
            loss = objective(*part).loss_sum
            slopes = torch.autograd.grad(loss, seen)
        gates = [(x * slope).detach().sum(1).cpu() for x, slope in zip(seen, slopes, strict=True)]  # [batch, width]
        for i, (context, activation) in enumerate(zip(gates[::2], gates[1::2], strict=True)):
            heads[i] += context.view(len(context), shapes[1], -1).sum(2).abs().sum(0)
            units[i] += activation.abs().sum(0)
    return Importance(heads / len(features), units / len(features))


@contextmanager
def _inputs(model: nn.Module, names: Sequence[str]) -> Iterator[list[Tensor]]:
    """The inputs of the named modules, in the order in which they are called: [batch, length, width] each."""
    seen: list[Tensor] = []
    hooks = [linear(model, name).register_forward_pre_hook(lambda _, given: seen.append(given[0])) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
