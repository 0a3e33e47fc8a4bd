"""Taps: hidden states, attention maps, queries, keys and values, which distillation terms read besides final states.

The fast encoder takes them itself (`encoders.FastEncoder.with_taps`). In transformers' own modules, a function
registered with transformers' attention interface sees them. The modules use it for one call, and layers without taps
run through torch's fused attention, so their maps are never computed.
"""

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
#              [real tokens, width], or [batch, length, width] with padding
#   attention  probabilities [batch, heads, length, length]
#   scores     Q K^T / sqrt(head width) with the padding mask added, [batch, heads, length, length]
#   queries    [batch, heads, length, head width], not scaled; keys and values likewise
Tapped = dict[str, dict[int, Tensor]]

VECTORS = ("queries", "keys", "values")
FEATURES = ("hidden", "attention", "scores", *VECTORS)


@dataclass(frozen=True)
class Taps:
    """The features that an encoder returns.

    Args:
        hidden: numbers of states.
        attention, scores, queries, keys, values: numbers of layers, from 0.
        after_dropout: take attention probabilities after dropout, as eager modules in train mode return them.
    """

    hidden: frozenset[int] = frozenset()
    attention: frozenset[int] = frozenset()
    scores: frozenset[int] = frozenset()
    queries: frozenset[int] = frozenset()
    keys: frozenset[int] = frozenset()
    values: frozenset[int] = frozenset()
    after_dropout: bool = False

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, int]], *, after_dropout: bool = False) -> "Taps":
        """Build taps from (feature, number) pairs."""
        pairs = set(pairs)
        numbers = {feature: frozenset(n for f, n in pairs if f == feature) for feature in FEATURES}
        return cls(**numbers, after_dropout=after_dropout)

    def at(self, layer: int) -> frozenset[str]:
        """Return the features of one layer's attention."""
        return frozenset(feature for feature in FEATURES[1:] if layer in getattr(self, feature))

    @property
    def layers(self) -> frozenset[int]:
        """Return the layers whose attention is tapped."""
        return frozenset().union(*(getattr(self, feature) for feature in FEATURES[1:]))

    @property
    def depth(self) -> int:
        """Return how many layers are computed for the taps alone."""
        return max([0, *self.hidden, *(layer + 1 for layer in self.layers)])


NO_TAPS = Taps()


# ---- Taps of transformers' own modules

_ATTENTION_NAME = "compact_biomed_taps"
# Options of other architectures that change the scores.
_UNSUPPORTED_OPTIONS = ("position_bias", "softcap")
# Held while a model's configuration names our attention.
_configuration_lock = threading.RLock()


class _Collector:
    """The features of a model's call, collected as its modules call attention, layer after layer."""

    def __init__(self, taps: Taps):
        self.taps, self.calls = taps, 0
        self.tapped: Tapped = {feature: {} for feature in FEATURES}

    def next_layer(self) -> int:
        self.calls += 1
        return self.calls - 1

    def take(self, layer: int, features: dict[str, Tensor]) -> None:
        for feature in self.taps.at(layer):
            self.tapped[feature][layer] = features[feature]


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
    """Compute attention as transformers asks for it: query, key, value [batch, heads, length, head width]."""
    layer = taps_collector.next_layer()
    features = taps_collector.taps.at(layer)
    vectors = dict(zip(VECTORS, (query, key, value), strict=True))
    if not features - set(VECTORS):
        taps_collector.take(layer, vectors)
        arguments = {"scaling": scaling, "dropout": dropout, **options}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **arguments)
    if any(options.get(option) is not None for option in _UNSUPPORTED_OPTIONS):
        raise _unsupported(module)
    scores = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    if attention_mask is not None:
        scores = scores + _additive(attention_mask, scores.dtype)
    probabilities = scores.softmax(-1)
    dropped = F.dropout(probabilities, dropout, training=dropout > 0)
    attention = dropped if taps_collector.taps.after_dropout else probabilities
    taps_collector.take(layer, {**vectors, "scores": scores, "attention": attention})
    return (dropped.to(value.dtype) @ value).transpose(1, 2).contiguous(), None


def _additive(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Turn a boolean mask (true: attend) into a finite bias."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill(~mask, torch.finfo(dtype).min)


AttentionInterface.register(_ATTENTION_NAME, _attention)
AttentionMaskInterface.register(_ATTENTION_NAME, sdpa_mask)  # without it transformers would drop the padding mask


def _unsupported(module: nn.Module) -> UserError:
    return UserError(
        f"{type(module).__name__} does not expose its attention through transformers' attention interface",
        remedy="use an encoder of type bert, distilbert, mobilebert, roberta or electra, "
        "or leave out the terms on attention maps, scores, queries, keys and values",
    )


@contextmanager
def _through_our_attention(model: nn.Module) -> Iterator[None]:
    """Let the model's modules call our attention within the block.

    This changes the configuration, which all threads share: one thread at a time, and it is restored at the end.
    """
    with _configuration_lock:
        before = model.config._attn_implementation
        model.config._attn_implementation = _ATTENTION_NAME
        try:
            yield
        finally:
            model.config._attn_implementation = before


def call_with_taps(model: nn.Module, inputs: Mapping[str, Tensor | None], taps: Taps) -> tuple[Any, Tapped]:
    """Call a model and return its output and the features that `taps` names; dropout follows the modules' mode.

    Args:
        model: of transformers, with or without a head.
        inputs: of its forward; `input_ids` [batch, length].

    Returns:
        The output, and the features (see `Tapped`); hidden states are [batch, length, width].

    Raises:
        UserError: the taps need attention, and the architecture does not expose it.
    """
    collector = _Collector(taps)
    if not taps.layers:
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
    """Reduce hidden states to those of real tokens, [real tokens, width], in float32 or wider, as terms read them.

    Args:
        attention_mask: [batch, length], 0 on padding, or None if there is none.
    """
    real = slice(None) if attention_mask is None else attention_mask.flatten().bool()
    states = {number: state.flatten(0, 1)[real] for number, state in tapped["hidden"].items()}
    wide = {number: state.to(torch.promote_types(state.dtype, torch.float32)) for number, state in states.items()}
    return tapped | {"hidden": wide}


def module_with_taps(
    base: nn.Module, input_ids: Tensor, attention_mask: Tensor | None, selected: Tensor | None, taps: Taps
) -> tuple[Tensor | None, Tapped]:
    """Return the final states of the selected positions, and the features that `taps` names.

    Dropout follows the modules' mode.

    Args:
        base: an encoder of transformers (`BertModel`, `DistilBertModel`, `MobileBertModel`, ...); any
            base model if the taps name hidden states only.
        input_ids: [batch, length].
        attention_mask: [batch, length], 0 on padding, or None if there is none.
        selected: [batch, length], bool; None = no final state is needed.

    Returns:
        [rows, hidden], in the order of `selected.nonzero()`, or None, and the features (see `Tapped`);
        hidden states are [batch, length, width].

    Raises:
        UserError: the taps need attention, and the architecture does not expose it.
    """
    output, tapped = call_with_taps(base, {"input_ids": input_ids, "attention_mask": attention_mask}, taps)
    return None if selected is None else output.last_hidden_state[selected], tapped
