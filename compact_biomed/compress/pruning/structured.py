"""Whole heads and whole feed-forward units.

A feed-forward network has one width in a configuration of transformers: so as many units go in every layer, and the
matrices get smaller. A head's width is `hidden_size / num_attention_heads` and the heads' together is `hidden_size`:
no configuration says that some are missing (transformers 5 has no `pruned_heads`). So a head is removed by zeros, its
layer free, and `without_dead_heads` makes the matrices smaller where no configuration is needed: in an export.
"""

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from compact_biomed.compress.pruning.parts import Removed, how_many, is_prunable, layers, linear

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WIDTH = {"bert": "intermediate_size", "distilbert": "hidden_dim"}


def least_heads(scores: Tensor, share: float) -> Tensor:
    """The least important heads of all layers; the best of each layer stays.

    Scores are divided by their L2 norm within the layer (Michel et al. 2019, section 4.1).

    Args:
        scores: [layers, heads], none negative.
        share: of all heads.

    Returns:
        [layers, heads] bool, True where a head goes.

    Raises:
        UserError: none would go, or a layer would lose all.
    """
    count = how_many(share, scores.numel(), leave=len(scores), of="heads")
    scores = nn.functional.normalize(scores, dim=1)
    scores.scatter_(1, scores.argmax(1, keepdim=True), torch.inf)
    gone = torch.zeros(scores.numel(), dtype=torch.bool)
    gone[scores.flatten().argsort(stable=True)[:count]] = True
    return gone.view_as(scores)


def head_weights(model: "PreTrainedModel", gone: Tensor) -> Removed:
    """All weights of some heads: rows of query, key and value with their biases, columns of the output.

    At zero they are at rest: such a head's context is zero, and so are all gradients of its weights.

    Args:
        gone: [layers, heads] bool.
    """
    removed: Removed = {}
    for layer, heads in zip(layers(model), gone.to(model.device), strict=True):
        wide = linear(model, layer.attention_output).in_features
        width = heads.repeat_interleave(wide // len(heads))  # [hidden]
        for name in (layer.q, layer.k, layer.v):
            removed |= {f"{name}.weight": width[:, None].expand(wide, wide).clone(), f"{name}.bias": width}
        removed[f"{layer.attention_output}.weight"] = width[None].expand(wide, wide).clone()
    return removed


def best_units(scores: Tensor, share: float) -> Tensor:
    """The units that stay in each layer, in their order: [layers, remaining].

    Args:
        scores: [layers, units].
        share: of each layer's units, to be removed.

    Raises:
        UserError: none or all would go.
    """
    n = scores.shape[1]
    count = how_many(share, n, leave=1, of="feed-forward units")
    return scores.argsort(dim=1, descending=True, stable=True)[:, : n - count].sort(dim=1).values


def without_units(model: "PreTrainedModel", kept: Tensor) -> "PreTrainedModel":
    """A model with fewer feed-forward units, all other weights the same.

    Args:
        kept: [layers, remaining], indices of units.
    """
    config = copy.deepcopy(model.config)
    setattr(config, _WIDTH[config.model_type], kept.shape[1])
    weights = model.state_dict()
    for layer, rows in zip(layers(model), kept, strict=True):
        for part in ("weight", "bias"):
            weights[f"{layer.inner}.{part}"] = weights[f"{layer.inner}.{part}"][rows]
        weights[f"{layer.outer}.weight"] = weights[f"{layer.outer}.weight"][:, rows]
    smaller = type(model)(config).to(model.dtype)
    smaller.load_state_dict(weights)
    return smaller.train(model.training)


@torch.no_grad()
def without_dead_heads(model: "PreTrainedModel") -> int:
    """Take out, in place, each head whose output is multiplied by zeros alone; the function stays the same.

    Afterwards the configuration no longer describes the model: it computes and can be exported, but not be saved. One
    head stays in each layer.

    Returns:
        The number of heads that went; 0 in an architecture that is not pruned here.
    """
    if not is_prunable(model.config):
        return 0
    total = 0
    heads = model.config.num_attention_heads
    for layer in layers(model):
        output = linear(model, layer.attention_output)
        alive = output.weight.view(len(output.weight), heads, -1).abs().amax((0, 2)) > 0
        if not alive.any():
            alive[0] = True
        total += int((~alive).sum())
        columns = alive.repeat_interleave(output.in_features // heads).nonzero().squeeze(1)
        for name in (layer.q, layer.k, layer.v):
            _resize(linear(model, name), rows=columns)
        _resize(output, columns=columns)
    return total


def _resize(module: nn.Linear, *, rows: Tensor | None = None, columns: Tensor | None = None) -> None:
    if rows is not None:
        module.weight, module.bias = nn.Parameter(module.weight[rows]), nn.Parameter(module.bias[rows])
    if columns is not None:
        module.weight = nn.Parameter(module.weight[:, columns])
    module.out_features, module.in_features = module.weight.shape
