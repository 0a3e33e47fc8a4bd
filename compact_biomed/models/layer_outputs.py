"""A BERT on a text, layer by layer, with the outputs of every part: what slicing takes its statistics from.

`engine.encoders` computes the same function faster, and shows less of what is inside.
"""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

from compact_biomed.engine.encoders import POST_NORM_LAYERS


class Text(NamedTuple):
    """Tokenized documents, from which the statistics are taken.

    Args:
        input_ids: int64 [documents, length].
        mask: bool [documents, length], true on real tokens.
    """

    input_ids: Tensor
    mask: Tensor


def embedded(embeddings: nn.Module, ids: Tensor) -> Tensor:
    """Return the sum of the embeddings, before their LayerNorm, [documents, length, width]."""
    positions = embeddings.position_embeddings.weight[: ids.shape[1]]
    return embeddings.word_embeddings.weight[ids] + positions + embeddings.token_type_embeddings.weight[0]


class BertLayer(NamedTuple):
    """The modules of a BERT layer."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    attention_output: nn.Linear
    attention_norm: nn.LayerNorm
    inner: nn.Linear
    outer: nn.Linear
    output_norm: nn.LayerNorm
    heads: int

    @classmethod
    def of(cls, model: nn.Module, number: int) -> "BertLayer":
        path, names = POST_NORM_LAYERS["bert"]
        modules = (model.bert.get_submodule(f"{path}{number}.{names[name]}") for name in cls._fields[:-1])
        return cls(*modules, model.config.num_attention_heads)


class LayerOutputs(NamedTuple):
    """The outputs inside a layer, [documents, length, width] each."""

    q: Tensor
    k: Tensor
    v: Tensor
    context: Tensor
    attended: Tensor  # behind the attention's output projection
    middle: Tensor  # behind the first LayerNorm
    inner: Tensor  # before the activation
    outer: Tensor  # behind the second projection
    state: Tensor  # of the layer


def layer_outputs(layer: BertLayer, x: Tensor, mask: Tensor, activation) -> LayerOutputs:
    """Compute a layer on states [documents, length, width], without dropout."""
    q, k, v = layer.q(x), layer.k(x), layer.v(x)
    context = attend(q, k, v, mask, layer.heads)
    attended = layer.attention_output(context)
    middle = layer.attention_norm(attended + x)
    inner = layer.inner(middle)
    outer = layer.outer(activation(inner))
    return LayerOutputs(q, k, v, context, attended, middle, inner, outer, layer.output_norm(outer + middle))


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, heads: int) -> Tensor:
    """Return the context [documents, length, width] of all heads."""
    split = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    context = F.scaled_dot_product_attention(*split, attn_mask=mask[:, None, None, :])
    return context.transpose(1, 2).flatten(2)
