"""Head starts for models that have no published checkpoint at their size.

Each is a named setting of a recipe, off in `paper`, and each was measured before it was
kept (docs/log.md). None of them touches a model whose start weights are published.
"""

import numpy as np
import torch
from torch import nn

from compact_biomed.errors import UserError

# Standard deviation of projected embeddings. The usual 0.02 leaves the logits of a tied decoder
# nearly flat; measured in docs/log.md.
_EMBEDDING_STD = 0.1


@torch.no_grad()
def set_decoder_bias(model: nn.Module, log_frequencies: np.ndarray) -> None:
    """Set the vocabulary head's bias to the log-frequencies of the corpus, float32 [vocabulary].

    A model with near-zero hidden states then predicts the unigram distribution from its
    first step, in place of spending hundreds of steps on finding it.
    """
    bias = model.get_output_embeddings().bias
    bias.copy_(torch.from_numpy(log_frequencies - log_frequencies.mean()))


@torch.no_grad()
def project_embeddings(model: nn.Module, source: torch.Tensor) -> float:
    """Set word embeddings to the leading principal directions of a larger model's.

    MobileBERT's vocabulary head has columns of its own beside the tied embedding; they take
    the directions that follow. Its embedding transformation is set to hand the three words
    (next, this, previous) through side by side: with nothing normalized in between, the head
    then sees a masked word's neighbors from the first step.

    Args:
        model: a masked-LM of the same vocabulary.
        source: [vocabulary, width], width at least the columns that are filled.

    Returns:
        The share of the source's variance that the word embeddings keep.
    """
    target = model.get_input_embeddings().weight
    extra = getattr(getattr(getattr(model, "cls", None), "predictions", None), "dense", None)
    columns = target.shape[1] + (extra.weight.shape[0] if extra is not None else 0)
    if source.shape[0] != target.shape[0] or source.shape[1] < columns:
        raise UserError(
            f"embeddings of {tuple(source.shape)} cannot fill {target.shape[0]} x {columns}",
            remedy="the vocabularies must be the same and the source at least as wide",
        )
    centered = (source - source.mean(0)).double()
    # 384 x 384: the eigenvectors of the covariance are the right singular vectors.
    variances, directions = torch.linalg.eigh(centered.T @ centered)
    projected = centered @ directions.flip(1)[:, :columns]
    # One factor for all columns keeps distances between words in proportion.
    width = target.shape[1]
    projected *= _EMBEDDING_STD / projected[:, :width].std()
    target.copy_(projected[:, :width])
    if extra is not None:
        extra.weight.copy_(projected[:, width:].T)
    transformation = getattr(model.base_model.embeddings, "embedding_transformation", None)
    if transformation is not None:
        torch.nn.init.eye_(transformation.weight)
    return float(variances.flip(0)[:width].sum() / variances.sum())


# DistilBERT's name for each part of a BERT layer.
_DISTILBERT_OF_BERT = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


@torch.no_grad()
def copy_bert_layers(model: nn.Module, source: nn.Module, layers: tuple[int, ...]) -> None:
    """Start a DistilBERT from every given layer of a BERT of the same width, embeddings included.

    DistilBERT has no token types; BERT's first type is added to the positions, which gives
    the same sums (DistilBERT, Sanh et al. 2019, section 3, drops it).

    Args:
        model: `DistilBertForMaskedLM`.
        source: `BertModel` or `BertForMaskedLM`.
        layers: source layer of each layer of the model.
    """
    ours, theirs = model.distilbert, getattr(source, "bert", source)
    if (ours.config.dim, ours.config.n_layers) != (theirs.config.hidden_size, len(layers)):
        raise UserError(
            f"layers {layers} of a BERT {theirs.config.hidden_size} wide do not fit {ours.config.n_layers} layers "
            f"of width {ours.config.dim}"
        )
    state = theirs.state_dict()
    copied = {
        "embeddings.word_embeddings.weight": state["embeddings.word_embeddings.weight"],
        "embeddings.position_embeddings.weight": state["embeddings.position_embeddings.weight"]
        + state["embeddings.token_type_embeddings.weight"][0],
        "embeddings.LayerNorm.weight": state["embeddings.LayerNorm.weight"],
        "embeddings.LayerNorm.bias": state["embeddings.LayerNorm.bias"],
    }
    for i, layer in enumerate(layers):
        for bert, distilbert in _DISTILBERT_OF_BERT.items():
            for part in ("weight", "bias"):
                copied[f"transformer.layer.{i}.{distilbert}.{part}"] = state[f"encoder.layer.{layer}.{bert}.{part}"]
    missing, unexpected = ours.load_state_dict(copied, strict=False)
    # Whether position_ids is a buffer in the state differs between versions of transformers.
    if unexpected or any(not name.endswith("position_ids") for name in missing):
        raise RuntimeError(f"layers were not copied whole: {missing} {unexpected}")
