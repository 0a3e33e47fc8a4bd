"""What a distillation term looks at inside an encoder, besides its final states."""

from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

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
