"""What can be taken out of an encoder: the matrices of its layers, and the mask that says what is gone."""

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from compact_biomed.errors import UserError
from compact_biomed.models.encoders import POST_NORM_LAYERS, is_supported

if TYPE_CHECKING:
    from transformers import PreTrainedModel

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
