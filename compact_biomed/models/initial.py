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
