"""What can be taken out of an encoder: the matrices of its layers, and the mask that says what is gone."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compact_biomed.engine.encoders import POST_NORM_LAYERS, is_supported
from compact_biomed.errors import UserError
from compact_biomed.evaluation.learner import Feature, batching_options, micro_batches
from compact_biomed.objectives.task import TaskObjective

Removed = dict[str, Tensor]  # name of a parameter -> bool of its shape, True where it is gone


class Layer(NamedTuple):
    """The names of a layer's linear modules, as `get_submodule` of its model takes them."""

    q: str
    k: str
    v: str
    attention_output: str
    inner: str
    outer: str


def is_prunable(config) -> bool:
    """Whether `layers` knows the architecture."""
    return config.model_type in POST_NORM_LAYERS and is_supported(config)


def layers(model: "PreTrainedModel") -> list[Layer]:
    """The layers of a BERT or DistilBERT under a task head.

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
    place, names = POST_NORM_LAYERS[config.model_type]
    return [
        Layer(*(f"{model.base_model_prefix}.{place}{i}.{names[part]}" for part in Layer._fields))
        for i in range(config.num_hidden_layers)
    ]


def linear(model: nn.Module, name: str) -> nn.Linear:
    """The linear module of that name."""
    return model.get_submodule(name)


def how_many(share: float, n: int, *, leave: int, of: str) -> int:
    """The number of things that a share of n is, rounded.

    Args:
        leave: how many have to stay.
        of: what they are called.

    Raises:
        UserError: none, or too many.
    """
    count = round(share * n)
    if count == 0:
        raise UserError(f"{share:g} of {n} {of} is none", where="--share", remedy="a larger share")
    if count > n - leave:
        raise UserError(
            f"{share:g} of {n} {of} leaves {n - count}, and {leave} have to stay",
            where="--share",
            remedy=f"at most {(n - leave) / n:.3f}",
        )
    return count


@torch.no_grad()
def clear(model: nn.Module, removed: Removed) -> None:
    """Set to zero what is gone."""
    for name, gone in removed.items():
        model.get_parameter(name).masked_fill_(gone, 0)


def numbers(model: nn.Module) -> dict[str, int]:
    """Parameters, and how many of them are not zero."""
    parameters = list(model.parameters())
    return {
        "parameters": sum(p.numel() for p in parameters),
        "nonzero": sum(int(p.count_nonzero()) for p in parameters),
    }


# ----------------------------------------------------------------------------------------------------
# How much a head or a feed-forward unit matters, by its weights or by what the loss would do without it.


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
    batching = batching_options(model.config) | {"head": head, "device": model.device}
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


# ----------------------------------------------------------------------------------------------------
# Single weights: those of least absolute value go (Han et al. 2015, section 3).


SCOPES = ("matrix", "model")  # within which weights are compared


@torch.no_grad()
def least_weights(model: "PreTrainedModel", share: float, *, scope: str = "matrix") -> Removed:
    """The smallest weights of the layers' matrices; embeddings, biases, norms and the task head stay whole.

    Args:
        model: a BERT or DistilBERT under a task head.
        share: of the weights; the number is exact after rounding.
        scope: one of `SCOPES`: the share of each matrix, or of all together.

    Returns:
        For each matrix what is gone; of equal weights any.

    Raises:
        UserError: nothing or everything would go.
    """
    matrices = {f"{name}.weight": model.get_parameter(f"{name}.weight") for x in layers(model) for name in x}
    if scope == "matrix":
        return {name: _smallest(weight.flatten(), share).view_as(weight) for name, weight in matrices.items()}
    flat = _smallest(torch.cat([weight.flatten() for weight in matrices.values()]), share)
    parts = flat.split([weight.numel() for weight in matrices.values()])
    return {name: part.view_as(weight) for (name, weight), part in zip(matrices.items(), parts, strict=True)}


def _smallest(weights: Tensor, share: float) -> Tensor:
    count = how_many(share, len(weights), leave=1, of="weights")
    gone = torch.zeros_like(weights, dtype=torch.bool)
    gone[weights.abs().topk(count, largest=False, sorted=False).indices] = True
    return gone


# ----------------------------------------------------------------------------------------------------
# Whole heads and whole feed-forward units.
#
# A feed-forward network has one width in a configuration of transformers: so as many units go in every layer, and the
# matrices get smaller. A head's width is `hidden_size / num_attention_heads` and the heads' together is `hidden_size`:
# no configuration says that some are missing (transformers 5 has no `pruned_heads`). So a head is removed by zeros, its
# layer free, and `without_dead_heads` makes the matrices smaller where no configuration is needed: in an export.


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


# ----------------------------------------------------------------------------------------------------
# One way of pruning: what goes, how much of it, and by which importance.


@dataclass(frozen=True)
class Pruning:
    """What is removed.

    Args:
        removed: "weights", "heads", "units", or "nothing", the control.
        share: of the weights of the layers' matrices, of all heads, or of each layer's units.
        importance: "magnitude", or for heads and units "taylor"; None where nothing is removed.
        scope: of weights, see `magnitude.SCOPES`; None for what else is removed.
    """

    removed: str
    share: float
    importance: str | None = "magnitude"
    scope: str | None = None

    @property
    def suffix(self) -> str:
        """What it adds to a model's name: "heads50", "heads50-taylor", "weights50-model", "again"."""
        if self.removed == "nothing":
            return "again"
        how = [x for x in (self.importance, self.scope) if x not in ("magnitude", "matrix", None)]
        return "-".join([f"{self.removed}{100 * self.share:g}", *how])


class Pruned(NamedTuple):
    """A model after pruning.

    Args:
        model: in which what is gone is zero, or not there.
        removed: what must stay zero.
        told: what its record says: numbers before and after, heads and units of each layer.
    """

    model: "PreTrainedModel"
    removed: Removed
    told: dict[str, Any]


def prune(model: "PreTrainedModel", how: Pruning, importance: Callable[["PreTrainedModel"], Importance]) -> Pruned:
    """Remove what matters least; the given model stays as it is.

    Args:
        model: a BERT or DistilBERT under a task head.
        importance: gives the scores of heads and units.

    Raises:
        UserError: another architecture, or a share that leaves nothing.
    """
    removed: Removed = {}
    heads = [model.config.num_attention_heads] * len(layers(model))
    if how.removed == "weights":
        removed = least_weights(model, how.share, scope=how.scope or "matrix")
    elif how.removed == "heads":
        gone = least_heads(importance(model).heads, how.share)
        removed, heads = head_weights(model, gone), (~gone).sum(1).tolist()
    if how.removed == "units":
        smaller = without_units(model, best_units(importance(model).units, how.share))
    else:
        smaller = copy.deepcopy(model)
    clear(smaller, removed)
    units = [linear(smaller, layer.inner).out_features for layer in layers(smaller)]
    told = {"before": numbers(model), "after": numbers(smaller), "heads": heads, "units": units}
    return Pruned(smaller, removed, told)
