"""What a distillation term looks at inside an encoder, besides its final states."""

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from compact_biomed.errors import UserError

# feature -> number of the layer (hidden: of the state) -> tensor:
#   hidden     state 0 is the embeddings' output, state i that of layer i - 1;
#              [real tokens, width], or [batch, length, width] where padding was kept
#   attention  probabilities [batch, heads, length, length]
#   scores     Q K^T / sqrt(head width) with the padding mask added, [batch, heads, length, length]
#   values     [batch, heads, length, head width]
Tapped = dict[str, dict[int, Tensor]]

FEATURES = ("hidden", "attention", "scores", "values")


@dataclass(frozen=True)
class Taps:
    """What is wanted of an encoder.

    Args:
        hidden: states.
        attention, scores, values: layers, from 0.
        after_dropout: take attention probabilities after dropout, as eager modules in train mode return them.
    """

    hidden: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    scores: frozenset[int] = frozenset()
    values: frozenset[int] = frozenset()
    after_dropout: bool = False

    @classmethod
    def of(cls, wanted: Iterable[tuple[str, int]], *, after_dropout: bool = False) -> "Taps":
        """From (feature, number) pairs."""
        wanted = set(wanted)
        numbers = {feature: frozenset(n for f, n in wanted if f == feature) for feature in FEATURES}
        return cls(**numbers, after_dropout=after_dropout)

    def at(self, layer: int) -> frozenset[str]:
        """The features wanted of one layer's attention."""
        return frozenset(feature for feature in FEATURES[1:] if layer in getattr(self, feature))


NO_TAPS = Taps()


# ----------------------------------------------------------------------------------------------------
# The same look inside an encoder (`models.taps`) where transformers' own modules compute it.
#
# What attention goes through is seen by a function registered with transformers' attention
# interface. It is handed to the modules for one call; layers of which nothing is wanted run
# through torch's fused attention, and their maps are never made.


_NAME = "compact_biomed_taps"
_UNSEEN = ("position_bias", "softcap")  # options of other architectures that change the scores
_turn = threading.RLock()


class _Collector:
    """Takes what is wanted of each layer as the modules call attention, one layer after the other."""

    def __init__(self, taps: Taps):
        self.taps, self.calls = taps, 0
        self.tapped: Tapped = {feature: {} for feature in FEATURES}

    def next_layer(self) -> int:
        self.calls += 1
        return self.calls - 1

    def take(self, layer: int, seen: dict[str, Tensor]) -> None:
        for feature in self.taps.at(layer):
            self.tapped[feature][layer] = seen[feature]


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    taps_collector: _Collector,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options,
) -> tuple[Tensor, None]:
    """transformers' attention function: query, key, value [batch, heads, length, head width]."""
    layer = taps_collector.next_layer()
    wanted = taps_collector.taps.at(layer)
    if not wanted - {"values"}:
        taps_collector.take(layer, {"values": value})
        arguments = {"scaling": scaling, "dropout": dropout, **options}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    if any(options.get(option) is not None for option in _UNSEEN):
        raise _unsupported(module)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + _additive(attention_mask, scores.dtype)
    probabilities = scores.softmax(-1)
    dropped = F.dropout(probabilities, dropout, training=dropout > 0)
    attention = dropped if taps_collector.taps.after_dropout else probabilities
    taps_collector.take(layer, {"values": value, "scores": scores, "attention": attention})
    return (dropped.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A boolean mask (true: look here) as a finite bias."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


AttentionInterface.register(_NAME, _attention)
AttentionMaskInterface.register(_NAME, sdpa_mask)  # without it transformers would drop the padding mask


def _unsupported(module: nn.Module) -> UserError:
    return UserError(
        f"{type(module).__name__} does not show its attention through transformers' attention interface",
        remedy="encoders of the types bert, distilbert, mobilebert, roberta and electra do; "
        "or leave out the terms on attention maps, scores and values",
    )


@contextmanager
def _through_our_attention(model: nn.Module) -> Iterator[None]:
    """The configuration is the model's own: one thread at a time, and put back at the end."""
    with _turn:
        before = model.config._attn_implementation
        model.config._attn_implementation = _NAME
        try:
            yield
        finally:
            model.config._attn_implementation = before


def call_with_taps(model: nn.Module, inputs: Mapping[str, Tensor | None], taps: Taps) -> tuple[Any, Tapped]:
    """A model's output, and what `taps` asks for; dropout follows the modules' mode.

    Args:
        model: of transformers, with or without a head.
        inputs: of its forward; `input_ids` [batch, length].

    Returns:
        The output, and the features (`models.taps`); hidden states are [batch, length, width].

    Raises:
        UserError: attention is asked for of an architecture that does not show it.
    """
    collector, layers = _Collector(taps), taps.attention | taps.scores | taps.values
    if not layers:
        output = model(**inputs, output_hidden_states=bool(taps.hidden))
    else:
        if not model._supports_attention_backend or getattr(model.config, "is_decoder", False):
            raise _unsupported(model)
        with _through_our_attention(model):
            output = model(**inputs, output_hidden_states=bool(taps.hidden), taps_collector=collector)
        if collector.calls != model.config.num_hidden_layers:
            raise _unsupported(model)
    collector.tapped["hidden"] = {number: output.hidden_states[number] for number in taps.hidden}
    return output, collector.tapped


def packed_states(tapped: Tapped, attention_mask: Tensor | None) -> Tapped:
    """The same with hidden states of real tokens alone, [real tokens, width], in float32 or wider, as terms read them.

    Args:
        attention_mask: [batch, length], 0 on padding, or None if there is none.
    """
    real = slice(None) if attention_mask is None else attention_mask.flatten().bool()
    states = {number: state.flatten(0, 1)[real] for number, state in tapped["hidden"].items()}
    wide = {number: state.to(torch.promote_types(state.dtype, torch.float32)) for number, state in states.items()}
    return tapped | {"hidden": wide}


def module_with_taps(
    base: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, wanted: Tensor, taps: Taps
) -> tuple[Tensor, Tapped]:
    """Final states of the wanted positions, and what `taps` asks for; dropout follows the modules' mode.

    Args:
        base: an encoder of transformers (`BertModel`, `DistilBertModel`, `MobileBertModel`, ...); any
            base model where only hidden states are asked for.
        input_ids: [batch, length].
        attention_mask: [batch, length], 0 on padding, or None if there is none.
        wanted: [batch, length], bool.

    Returns:
        [rows, hidden], in the order of `wanted.nonzero()`, and the features (`models.taps`);
        hidden states are [batch, length, width].

    Raises:
        UserError: attention is asked for of an architecture that does not show it.
    """
    output, tapped = call_with_taps(base, {"input_ids": input_ids, "attention_mask": attention_mask}, taps)
    return output.last_hidden_state[wanted], tapped
