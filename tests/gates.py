"""The reference of the pruning tests: a model with a gate at each head and each feed-forward unit."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from compact_biomed.compression.pruning.importance import layers, linear


@contextmanager
def gated(model, heads: Tensor, units: Tensor) -> Iterator[None]:
    """Multiply the context of each head and the activation of each unit by its gate.

    Args:
        heads: [layers, heads].
        units: [layers, units].
    """
    hooks = []
    for layer, head_gates, unit_gates in zip(layers(model), heads, units, strict=True):
        output = linear(model, layer.attention_output)
        wide = head_gates.repeat_interleave(output.in_features // len(head_gates))
        hooks.append(output.register_forward_pre_hook(lambda _, given, gate=wide: (given[0] * gate,)))
        outer = linear(model, layer.outer)
        hooks.append(outer.register_forward_pre_hook(lambda _, given, gate=unit_gates: (given[0] * gate,)))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def open_gates(model) -> tuple[Tensor, Tensor]:
    """Return gates of 1 that require a gradient."""
    names = layers(model)
    units = linear(model, names[0].inner).out_features
    sizes = (len(names), model.config.num_attention_heads), (len(names), units)
    return tuple(torch.ones(size, dtype=model.dtype, requires_grad=True) for size in sizes)


def logits(model, *, length: int = 9) -> Tensor:
    """Return the logits of a few made-up ids."""
    ids = torch.arange(5, 5 + 3 * length).view(3, length) % 55 + 5
    with torch.no_grad():
        output = model.eval()(input_ids=ids)
    return torch.stack([output.start_logits, output.end_logits], -1) if "start_logits" in output else output.logits
