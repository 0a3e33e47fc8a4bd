"""One way of pruning: what goes, how much of it, and by which importance."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from compact_biomed.compress.pruning.importance import Importance
from compact_biomed.compress.pruning.magnitude import least_weights
from compact_biomed.compress.pruning.parts import Removed, clear, layers, linear, numbers
from compact_biomed.compress.pruning.structured import best_units, head_weights, least_heads, without_units

if TYPE_CHECKING:
    from transformers import PreTrainedModel


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
