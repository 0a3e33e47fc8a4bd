"""What stands before and behind the layers: embeddings and vocabulary heads, as functions of named weights.

They compute what the modules of transformers compute. As functions they can run in several
threads at once on one set of weights, in whatever type the caller gives them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers.activations import ACT2FN

from compact_biomed.models import kernels
from compact_biomed.models.dropout import dropout
from compact_biomed.models.kernels import lookup

Weights = Mapping[str, Tensor]
Embed = Callable[[Weights, Tensor, bool, Tensor | None, Callable[[Tensor], Tensor]], Tensor]
Head = Callable[[Weights, Tensor], Tensor]


def linear(weights: Weights, name: str, x: Tensor) -> Tensor:
    """x @ W^T + b with the weights called `name`.weight and `name`.bias."""
    return kernels.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _norm(weights: Weights, name: str, x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], eps)


def embedding_for(config, prefix: str) -> Embed:
    """The embedding of an architecture.

    Returns:
        A function (weights, input_ids [batch, length], training, token_type_ids, pack) -> [rows, hidden].
        token_type_ids: [batch, length], or None = all of type 0. DistilBERT has no types and takes None only.
        pack: takes the padding out of [batch, length, hidden]; what is done to single tokens comes after it.
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


def head_for(config) -> Head:
    """The vocabulary head of an architecture: (weights, states [rows, hidden]) -> logits [rows, vocabulary]."""
    model_type = config.model_type

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
        # The tied embedding covers the first `embedding_size` columns; the rest has a matrix of its own.
        own = config.embedding_size
        decoder = weights["cls.predictions.decoder.weight"]
        tied = F.linear(x[:, :own], decoder, weights["cls.predictions.decoder.bias"])
        if own == config.hidden_size:
            return tied
        return torch.addmm(tied, x[:, own:], weights["cls.predictions.dense.weight"])

    return {"bert": bert, "distilbert": distilbert, "mobilebert": mobilebert}[model_type]
