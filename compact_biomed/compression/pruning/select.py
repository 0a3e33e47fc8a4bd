"""Remove a share of the weights, heads or feed-forward units of an encoder: those that matter least.

The feed-forward networks of a model have one width in the configurations of transformers. So the same number of units
is removed from every layer, and the matrices become smaller. The width of a head is `hidden_size /
num_attention_heads`, and all heads together are `hidden_size` wide: no configuration can say that some are missing
(transformers 5 has no `pruned_heads`). So a head is removed by zeros, in any layer, and `without_dead_heads` makes the
matrices smaller where no configuration is needed: in an export.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compact_biomed.compression.pruning.importance import Importance, is_prunable, layers, linear
from compact_biomed.errors import UsageError

Removed = dict[str, Tensor]  # name of a parameter -> bool of its shape, True where it is removed
SCOPES = ("matrix", "model")  # within which weights are compared
_WIDTH = {"bert": "intermediate_size", "distilbert": "hidden_dim"}


@dataclass(frozen=True)
class Pruning:
    """A way of pruning: what to remove, how much of it, and by which importance.

    Args:
        removed: "weights", "heads", "units", or "nothing", the control.
        share: of the weights of the layers' matrices, of all heads, or of the units of each layer.
        importance: "magnitude", or for heads and units "taylor"; None where nothing is removed.
        scope: of weights, one of `SCOPES`; None for everything else.
    """

    removed: str
    share: float
    importance: str | None = "magnitude"
    scope: str | None = None

    @property
    def suffix(self) -> str:
        """The suffix of the pruned model's name: "heads50", "heads50-taylor", "weights50-model", "again"."""
        if self.removed == "nothing":
            return "again"
        variants = [x for x in (self.importance, self.scope) if x not in ("magnitude", "matrix", None)]
        return "-".join([f"{self.removed}{100 * self.share:g}", *variants])


class Pruned(NamedTuple):
    """A model after pruning.

    Args:
        model: in which removed parts are zero, or absent.
        removed: the weights that must stay zero.
        counts: for the record: parameters before and after, heads and units of each layer.
    """

    model: PreTrainedModel
    removed: Removed
    counts: dict[str, Any]


def prune(model: PreTrainedModel, how: Pruning, importance: Callable[[PreTrainedModel], Importance]) -> Pruned:
    """Remove what matters least from a copy of a model.

    Args:
        model: a BERT or DistilBERT under a task head.
        importance: computes the scores of heads and units.

    Raises:
        UserError: another architecture, or a share that leaves nothing.
    """
    removed: Removed = {}
    heads = [model.config.num_attention_heads] * len(layers(model))
    if how.removed == "weights":
        removed = least_weights(model, how.share, scope=how.scope or "matrix")
    elif how.removed == "heads":
        dead = least_heads(importance(model).heads, how.share)
        removed, heads = head_weights(model, dead), (~dead).sum(1).tolist()
    if how.removed == "units":
        smaller = without_units(model, best_units(importance(model).units, how.share))
    else:
        smaller = copy.deepcopy(model)
    clear(smaller, removed)
    units = [linear(smaller, layer.inner).out_features for layer in layers(smaller)]
    counts = {"before": numbers(model), "after": numbers(smaller), "heads": heads, "units": units}
    return Pruned(smaller, removed, counts)


@torch.no_grad()
def clear(model: nn.Module, removed: Removed) -> None:
    """Set removed weights to zero."""
    for name, mask in removed.items():
        model.get_parameter(name).masked_fill_(mask, 0)


def numbers(model: nn.Module) -> dict[str, int]:
    """Count the parameters of a model, and those that are not zero."""
    parameters = list(model.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzero": sum(int(p.count_nonzero()) for p in parameters),
    }


def how_many(share: float, n: int, *, leave: int, of: str) -> int:
    """Return a share of n things, rounded.

    Args:
        leave: how many must remain.
        of: the name of the things.

    Raises:
        UserError: the share is none of them, or too many.
    """
    count = round(share * n)
    if count == 0:
        raise UsageError(f"{share:g} of {n} {of} is none", where="--share", remedy="choose a larger share")
    if count > n - leave:
        raise UsageError(
            f"{share:g} of {n} {of} leaves {n - count}, and {leave} have to stay",
            where="--share",
            remedy=f"at most {(n - leave) / n:.3f}",
        )
    return count


# ---- single weights


@torch.no_grad()
def least_weights(model: PreTrainedModel, share: float, *, scope: str = "matrix") -> Removed:
    """Choose the weights of least absolute value in the matrices of the layers (Han et al. 2015, section 3).

    Embeddings, biases, norms and the task head stay whole.

    Args:
        model: a BERT or DistilBERT under a task head.
        share: of the weights; the number is exact after rounding.
        scope: one of `SCOPES`: the share of each matrix, or of all together.

    Returns:
        For each matrix the weights to remove; among equal weights any.

    Raises:
        UserError: none or all would be removed.
    """
    matrices = {f"{name}.weight": model.get_parameter(f"{name}.weight") for x in layers(model) for name in x}
    if scope == "matrix":
        return {name: _smallest(weight.flatten(), share).view_as(weight) for name, weight in matrices.items()}
    flat = _smallest(torch.cat([weight.flatten() for weight in matrices.values()]), share)
    parts = flat.split([weight.numel() for weight in matrices.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(matrices.items(), parts, strict=True)}


def _smallest(weights: Tensor, share: float) -> Tensor:
    count = how_many(share, len(weights), leave=1, of="weights")
    mask = torch.zeros_like(weights, dtype=torch.bool)
    mask[weights.abs().topk(count, largest=False, sorted=False).indices] = True
    return mask


# ---- heads


def least_heads(scores: Tensor, share: float) -> Tensor:
    """Choose the least important heads of all layers; the best of each layer stays.

    Scores are divided by their L2 norm within the layer (Michel et al. 2019, section 4.1).

    Args:
        scores: [layers, heads], none negative.
        share: of all heads.

    Returns:
        [layers, heads] bool, True for a head to remove.

    Raises:
        UserError: none would be removed, or a layer would lose all.
    """
    count = how_many(share, scores.numel(), leave=len(scores), of="heads")
    scores = nn.functional.normalize(scores, dim=1)
    scores.scatter_(1, scores.argmax(1, keepdim=True), torch.inf)
    dead = torch.zeros(scores.numel(), dtype=torch.bool)
    dead[scores.flatten().argsort(stable=True)[:count]] = True
    return dead.view_as(scores)


def head_weights(model: PreTrainedModel, dead: Tensor) -> Removed:
    """Return all weights of some heads: rows of query, key and value with their biases, columns of the output.

    Once zero, they stay zero: the context of such a head is zero, and so are all gradients of its weights.

    Args:
        dead: [layers, heads] bool.
    """
    removed: Removed = {}
    for layer, heads in zip(layers(model), dead.to(model.device), strict=True):
        hidden = linear(model, layer.attention_output).in_features
        channels = heads.repeat_interleave(hidden // len(heads))  # [hidden]
        for name in (layer.q, layer.k, layer.v):
            removed[f"{name}.weight"] = channels[:, None].expand(hidden, hidden).clone()
            removed[f"{name}.bias"] = channels
        removed[f"{layer.attention_output}.weight"] = channels[None].expand(hidden, hidden).clone()
    return removed


@torch.no_grad()
def without_dead_heads(model: PreTrainedModel) -> int:
    """Take out, in place, each head whose output is multiplied only by zeros. The function stays the same.

    Afterwards the configuration no longer describes the model: it computes and can be exported, but not saved. One
    head stays in each layer.

    Returns:
        The number of heads taken out; 0 in an architecture that is not pruned here.
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


# ---- feed-forward units


def best_units(scores: Tensor, share: float) -> Tensor:
    """Return the units that stay in each layer, in their order: [layers, remaining].

    Args:
        scores: [layers, units].
        share: of the units of each layer, to be removed.

    Raises:
        UserError: none or all would be removed.
    """
    n = scores.shape[1]
    count = how_many(share, n, leave=1, of="feed-forward units")
    return scores.argsort(dim=1, descending=True, stable=True)[:, : n - count].sort(dim=1).values


def without_units(model: PreTrainedModel, remaining: Tensor) -> PreTrainedModel:
    """Build a model with fewer feed-forward units and all other weights the same.

    Args:
        remaining: [layers, remaining], indices of units.
    """
    config = copy.deepcopy(model.config)
    setattr(config, _WIDTH[config.model_type], remaining.shape[1])
    weights = model.state_dict()
    for layer, rows in zip(layers(model), remaining, strict=True):
        for part in ("weight", "bias"):
            weights[f"{layer.inner}.{part}"] = weights[f"{layer.inner}.{part}"][rows]
        weights[f"{layer.outer}.weight"] = weights[f"{layer.outer}.weight"][:, rows]
    smaller = type(model)(config).to(model.dtype)
    smaller.load_state_dict(weights)
    return smaller.train(model.training)
