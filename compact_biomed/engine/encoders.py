"""BERT, DistilBERT and MobileBERT encoders for training, on the weights of transformers' own modules.

They compute the same functions as `BertModel`, `DistilBertModel` and `MobileBertModel` (a test compares values and
gradients). Three kinds of work are avoided, which changes nothing but rounding:

* Projections of the same input are one matrix product (query, key and value; MobileBERT's two bottlenecks and its
  value): one large product runs faster than three small ones.
* MobileBERT's NoNorm, y = w * x + b, is folded into the projection before it (MobileBERT, section 3.3: NoNorm exists
  because it can be). Only its product with the residual remains.
* In the last layer, behind keys and values, only the rows are computed that the vocabulary head reads (15 % of them).

The work has two stages. `prepare` joins and folds the weights, once per step and in float32. The encoder then runs on
those prepared weights once per micro-batch, in whatever type the caller casts them to. Both are differentiable.
Embeddings and heads are functions of named weights too, so several threads can run them at once on one set of weights.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from compact_biomed.engine import kernels
from compact_biomed.engine.attention import Attend, Rows, attention_within
from compact_biomed.engine.dropout import dropout
from compact_biomed.engine.kernels import add_norm, feed_forward, lookup
from compact_biomed.engine.layout import Layout, select
from compact_biomed.engine.taps import FEATURES, NO_TAPS, Tapped, Taps

Weights = Mapping[str, Tensor]
Embed = Callable[[Weights, Tensor, bool, Tensor | None, Callable[[Tensor], Tensor]], Tensor]
VocabularyHead = Callable[[Weights, Tensor], Tensor]


def is_supported(config) -> bool:
    """Return whether `FastEncoder` computes this architecture exactly; if not, use the model's own forward."""
    if config.model_type == "mobilebert":
        return (
            config.normalization_type == "no_norm"
            and config.hidden_act == "relu"
            and config.use_bottleneck
            and config.key_query_shared_bottleneck
            and not config.use_bottleneck_attention
            and config.hidden_dropout_prob == 0
        )
    if config.model_type == "bert":
        return not config.is_decoder and not getattr(config, "add_cross_attention", False)
    return config.model_type == "distilbert"


class FastEncoder:
    """An encoder that computes the final states of selected rows.

    Args:
        config: of a BERT, DistilBERT or MobileBERT.
        prefix: of the encoder's weight names, such as "bert.".
    """

    def __init__(self, config, prefix: str):
        self.layer, layers = _layer_for(config)
        self.query_scale = self.layer.query_scale
        self.embed = embedding_for(config, f"{prefix}embeddings.")
        self.prefixes = [f"{prefix}{layers}{i}." for i in range(config.num_hidden_layers)]

    def prepare(self, weights: Weights) -> dict[str, Tensor]:
        """Join and fold the layers' weights; pass all others on under their names.

        Args:
            weights: every name in `model.named_parameters(remove_duplicate=False)` -> tensor.
        """
        prepared = {n: t for n, t in weights.items() if not n.startswith(tuple(self.prefixes))}
        for prefix in self.prefixes:
            prepared.update(self.layer.prepare(weights, prefix))
        return prepared

    def sources(self, names: Iterable[str]) -> dict[str, tuple[str, ...]] | None:
        """Return for each prepared weight the parameters that it joins along its rows.

        If there are several, the first is that of the query, multiplied by `query_scale`.

        Args:
            names: of the weights that `prepare` takes.

        Returns:
            None if weights are folded into others, as those of MobileBERT are.
        """
        if isinstance(self.layer, _MobileBertLayer):
            return None
        sources = {name: (name,) for name in names if not name.startswith(tuple(self.prefixes))}
        for prefix in self.prefixes:
            sources.update(self.layer.sources(prefix))
        return sources

    def __call__(
        self,
        weights: Weights,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        selected: Tensor,
        *,
        training: bool,
        token_type_ids: Tensor | None = None,
    ) -> Tensor:
        """Return the final states of the selected positions.

        Args:
            weights: the result of `prepare`, all of one dtype.
            input_ids: [batch, length].
            attention_mask: [batch, length], 1 = token, 0 = padding; None = no padding.
            selected: [batch, length], bool; none of them padding.
            token_type_ids: [batch, length]; None = all of type 0.

        Returns:
            [rows, hidden], in the order of `selected.nonzero()`.
        """
        return self.with_taps(
            weights, input_ids, attention_mask, selected, NO_TAPS, training=training, token_type_ids=token_type_ids
        )[0]

    def with_taps(
        self,
        weights: Weights,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        selected: Tensor | None,
        taps: Taps,
        *,
        training: bool,
        keep_padding: bool = False,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor | None, Tapped]:
        """Return the final states of the selected positions, and the features that `taps` names.

        The other arguments are those of `__call__`.

        Args:
            selected: see there; None = no final state is needed: only the layers that `taps` names, and those below
                them, are computed, and None is returned in place of the states.
            taps: the features to return.
            keep_padding: compute the states of padding too, as the modules of transformers do.
        """
        layout = Layout(None if keep_padding else attention_mask, input_ids.shape, coarse=not training)
        x = self.embed(weights, input_ids, training, token_type_ids, layout.pack)
        bias = None
        if attention_mask is not None:
            lowest = torch.finfo(x.dtype).min
            bias = (1 - attention_mask[:, None, None, :].to(x.dtype)) * lowest
        prefixes = self.prefixes if selected is not None else self.prefixes[: taps.depth]
        nothing = torch.zeros_like(input_ids, dtype=torch.bool)
        rows, last = Rows(nothing if selected is None else selected, layout), len(prefixes) - 1
        tapped: Tapped = {feature: {} for feature in FEATURES}
        within = attention_within(attention_mask, input_ids.shape, x) if training and not keep_padding else None

        def tap_state(number: int) -> None:
            if number in taps.hidden:
                tapped["hidden"][number] = x.view(*input_ids.shape, -1) if keep_padding else x[: layout.real]

        tap_state(0)
        for i, prefix in enumerate(prefixes):
            only = rows if i == last and i + 1 not in taps.hidden and not rows.all else None
            tap = {"features": taps.at(i), "after_dropout": taps.after_dropout}
            attend = Attend(layout, bias, only, within=within, **tap)
            x = self.layer(x, prefix, weights, attend, training)
            for feature, tensor in attend.tapped.items():
                tapped[feature][i] = tensor
            tap_state(i + 1)
        if selected is None:
            return None, tapped
        return (select(x, rows.packed) if rows.all or last + 1 in taps.hidden else x), tapped


# ---- Layers


def _join(weights: Weights, names: tuple[str, ...], query_scale: float) -> Tensor:
    """Join projections into one; the first is that of the query, and the scale of the scores is multiplied into it."""
    query, *others = (weights[name] for name in names)
    return torch.cat([query * query_scale, *others])


class _PostNorm:
    """A layer of BERT or DistilBERT: attention and feed-forward, each followed by add and LayerNorm."""

    def __init__(self, config, names: Mapping[str, str], activation: str, p_hidden: float, p_attention: float, eps):
        self.names, self.heads, self.eps = names, config.num_attention_heads, eps
        self.query_scale = (config.hidden_size // self.heads) ** -0.5
        self.activation: Callable[[Tensor], Tensor] = ACT2FN[activation]
        self.p_hidden, self.p_attention = p_hidden, p_attention
        # DistilBERT has no dropout between attention and the first LayerNorm.
        self.p_attention_output = p_hidden if config.model_type == "bert" else 0.0

    def sources(self, prefix: str) -> Iterator[tuple[str, tuple[str, ...]]]:
        """Yield each prepared weight with the names of its parameters; see `FastEncoder.sources`."""
        for part in ("weight", "bias"):
            yield f"{prefix}qkv.{part}", tuple(f"{prefix}{self.names[name]}.{part}" for name in "qkv")
            for name in ("attention_output", "attention_norm", "inner", "outer", "output_norm"):
                yield f"{prefix}{name}.{part}", (f"{prefix}{self.names[name]}.{part}",)

    def prepare(self, weights: Weights, prefix: str) -> Iterator[tuple[str, Tensor]]:
        for name, parts in self.sources(prefix):
            yield name, weights[parts[0]] if len(parts) == 1 else _join(weights, parts, self.query_scale)

    def __call__(self, x: Tensor, prefix: str, w: Weights, attend: Attend, training: bool) -> Tensor:
        """Compute the layer: x [tokens, hidden] -> the same shape, or [rows, hidden] if `attend` has rows."""
        width = x.shape[-1]

        def norm(y: Tensor, residual: Tensor, name: str, p: float) -> Tensor:
            norm_weights = (w[f"{prefix}{name}.{part}"] for part in ("weight", "bias"))
            return add_norm(y, residual, *norm_weights, eps=self.eps, p=p, training=training)

        qkv = linear(w, f"{prefix}qkv", x)
        context = attend(qkv, width=width, heads=self.heads, p=self.p_attention if training else 0.0)
        if attend.rows is not None:
            x = select(x, attend.rows.packed)
        attended = linear(w, f"{prefix}attention_output", context)
        x = norm(attended, x, "attention_norm", self.p_attention_output)
        ffn_weights = (w[f"{prefix}{name}.{part}"] for name in ("inner", "outer") for part in ("weight", "bias"))
        transformed = feed_forward(x, *ffn_weights, self.activation)
        return norm(transformed, x, "output_norm", self.p_hidden)


_BERT_NAMES = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "output_norm": "output.LayerNorm",
}
_DISTILBERT_NAMES = {
    "q": "attention.q_lin",
    "k": "attention.k_lin",
    "v": "attention.v_lin",
    "attention_output": "attention.out_lin",
    "attention_norm": "sa_layer_norm",
    "inner": "ffn.lin1",
    "outer": "ffn.lin2",
    "output_norm": "output_layer_norm",
}
# The prefix of an architecture's layers, and the names of their parts.
POST_NORM_LAYERS = {
    "bert": ("encoder.layer.", _BERT_NAMES),
    "distilbert": ("transformer.layer.", _DISTILBERT_NAMES),
}


class _MobileBertLayer:
    """A MobileBERT block with NoNorm and key-query-shared bottleneck (MobileBERT, figure 1c)."""

    def __init__(self, config):
        self.heads, self.p_attention = config.num_attention_heads, config.attention_probs_dropout_prob
        self.query_scale = (config.true_hidden_size // self.heads) ** -0.5
        self.ffns = [*(f"ffn.{i}." for i in range(config.num_feedforward_networks - 1)), ""]

    def prepare(self, weights: Weights, prefix: str) -> Iterator[tuple[str, Tensor]]:
        def folded(name: str) -> tuple[Tensor, Tensor, Tensor]:
            """Return weight and bias of dense layer `name` with its NoNorm folded in, and the scale of NoNorm."""
            scale, shift = weights[f"{prefix}{name}.LayerNorm.weight"], weights[f"{prefix}{name}.LayerNorm.bias"]
            weight, bias = weights[f"{prefix}{name}.dense.weight"], weights[f"{prefix}{name}.dense.bias"]
            return weight * scale[:, None], torch.addcmul(shift, bias, scale), scale

        input_weight, input_bias, _ = folded("bottleneck.input")
        shared_weight, shared_bias, _ = folded("bottleneck.attention")
        value = f"{prefix}attention.self.value"
        yield f"{prefix}joined.weight", torch.cat([input_weight, shared_weight, weights[f"{value}.weight"]])
        yield f"{prefix}joined.bias", torch.cat([input_bias, shared_bias, weights[f"{value}.bias"]])
        for part in ("weight", "bias"):
            names = tuple(f"{prefix}attention.self.{name}.{part}" for name in ("query", "key"))
            yield f"{prefix}qk.{part}", _join(weights, names, self.query_scale)
        for ffn in self.ffns:
            for part in ("weight", "bias"):
                yield f"{prefix}{ffn}inner.{part}", weights[f"{prefix}{ffn}intermediate.dense.{part}"]
        for name in ("attention.output", *(f"{ffn}output" for ffn in self.ffns), "output.bottleneck"):
            for part, tensor in zip(("weight", "shift", "scale"), folded(name), strict=True):
                yield f"{prefix}{name}.{part}", tensor

    def __call__(self, x: Tensor, prefix: str, w: Weights, attend: Attend, training: bool) -> Tensor:
        """Compute the layer: x [tokens, hidden] -> the same shape, or [rows, hidden] if `attend` has rows."""

        def add(y: Tensor, residual: Tensor, name: str) -> Tensor:
            """Return NoNorm(dense(y) + residual)."""
            shifted = torch.addcmul(w[f"{prefix}{name}.shift"], residual, w[f"{prefix}{name}.scale"])
            return torch.addmm(shifted, y, w[f"{prefix}{name}.weight"].t())

        joined = linear(w, f"{prefix}joined", x)
        width = joined.shape[1] // 3
        layer_input, bottleneck, v = joined.split(width, -1)
        qk = linear(w, f"{prefix}qk", bottleneck)
        context = attend(qk, v, width=width, heads=self.heads, p=self.p_attention if training else 0.0)
        if attend.rows is not None:
            layer_input, x = (select(y, attend.rows.packed) for y in (layer_input, x))
        y = add(context, layer_input, "attention.output")
        for ffn in self.ffns:
            y = add(F.relu(linear(w, f"{prefix}{ffn}inner", y), inplace=True), y, f"{ffn}output")
        return add(y, x, "output.bottleneck")


def _layer_for(config) -> tuple[_PostNorm | _MobileBertLayer, str]:
    """Return the layer function of an architecture and the prefix of its layers' weights."""
    if config.model_type == "mobilebert":
        return _MobileBertLayer(config), "encoder.layer."
    prefix, names = POST_NORM_LAYERS[config.model_type]
    if config.model_type == "bert":
        p_hidden, p_attention = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        return _PostNorm(config, names, config.hidden_act, p_hidden, p_attention, config.layer_norm_eps), prefix
    return _PostNorm(config, names, config.activation, config.dropout, config.attention_dropout, 1e-12), prefix


# ---- Embeddings and vocabulary heads


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """Return x @ W^T + b with the weights called `name`.weight and `name`.bias."""
    return kernels.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def embedding_for(config, prefix: str) -> Embed:
    """Return the embedding function of an architecture.

    Returns:
        A function (weights, input_ids [batch, length], training, token_type_ids, pack) -> [rows, hidden].
        token_type_ids: [batch, length], or None = all of type 0. DistilBERT has no types and takes None only.
        pack: removes the padding from [batch, length, hidden]; operations on single tokens come after it.
    """
    pad = config.pad_token_id

    def words(weights: Weights, ids: Tensor) -> Tensor:
        return lookup(weights[f"{prefix}word_embeddings.weight"], ids, pad)

    def positions(weights: Weights, ids: Tensor) -> Tensor:
        return weights[f"{prefix}position_embeddings.weight"][: ids.shape[1]]

    def types(weights: Weights, type_ids: Tensor | None) -> Tensor:
        table = weights[f"{prefix}token_type_embeddings.weight"]
        return table[0] if type_ids is None else F.embedding(type_ids, table)

    def bert(weights: Weights, ids: Tensor, training: bool, type_ids: Tensor | None, pack) -> Tensor:
        x = pack(words(weights, ids) + positions(weights, ids) + types(weights, type_ids))
        return dropout(
            _norm(weights, f"{prefix}LayerNorm", x, config.layer_norm_eps), config.hidden_dropout_prob, training
        )

    def distilbert(weights: Weights, ids: Tensor, training: bool, type_ids: Tensor | None, pack) -> Tensor:
        if type_ids is not None:
            raise ValueError("DistilBERT has no token types")
        x = pack(words(weights, ids) + positions(weights, ids))
        return dropout(_norm(weights, f"{prefix}LayerNorm", x, 1e-12), config.dropout, training)

    def mobilebert(weights: Weights, ids: Tensor, training: bool, type_ids: Tensor | None, pack) -> Tensor:
        x = words(weights, ids)
        if config.trigram_input:  # the next word, the word, the one before (MobileBERT, section 3.2)
            x = torch.cat([F.pad(x[:, 1:], (0, 0, 0, 1)), x, F.pad(x[:, :-1], (0, 0, 1, 0))], dim=2)
        if config.trigram_input or config.embedding_size != config.hidden_size:
            x = linear(weights, f"{prefix}embedding_transformation", x)
        x = pack(x + positions(weights, ids) + types(weights, type_ids))
        return torch.addcmul(weights[f"{prefix}LayerNorm.bias"], x, weights[f"{prefix}LayerNorm.weight"])

    return {"bert": bert, "distilbert": distilbert, "mobilebert": mobilebert}[config.model_type]


def head_for(config) -> VocabularyHead:
    """Return the vocabulary head of an architecture: (weights, states [rows, hidden]) -> logits [rows, vocabulary]."""

    def bert(weights: Weights, x: Tensor) -> Tensor:
        x = ACT2FN[config.hidden_act](linear(weights, "cls.predictions.transform.dense", x))
        x = _norm(weights, "cls.predictions.transform.LayerNorm", x, config.layer_norm_eps)
        return linear(weights, "cls.predictions.decoder", x)

    def distilbert(weights: Weights, x: Tensor) -> Tensor:
        x = ACT2FN[config.activation](linear(weights, "vocab_transform", x))
        return linear(weights, "vocab_projector", _norm(weights, "vocab_layer_norm", x, 1e-12))

    def mobilebert(weights: Weights, x: Tensor) -> Tensor:
        x = F.relu(linear(weights, "cls.predictions.transform.dense", x))
        x = _norm(weights, "cls.predictions.transform.LayerNorm", x, 1e-12)
        # The tied embedding covers the first `embedding_size` columns; the others have a separate matrix.
        tied_columns = config.embedding_size
        decoder = weights["cls.predictions.decoder.weight"]
        tied = F.linear(x[:, :tied_columns], decoder, weights["cls.predictions.decoder.bias"])
        if tied_columns == config.hidden_size:
            return tied
        return torch.addmm(tied, x[:, tied_columns:], weights["cls.predictions.dense.weight"])

    return {"bert": bert, "distilbert": distilbert, "mobilebert": mobilebert}[config.model_type]
