"""Turn a text into a vector: the mean of the encoder's last states over the tokens, special tokens included.

That is the pooling of Sentence-BERT (Reimers and Gurevych 2019). Zero-shot scores and `embed` share it, so the vectors
that are handed out are those that were scored.
"""

from collections.abc import Sequence

import numpy as np
import torch
from transformers import PreTrainedModel


def text_vector(encoder: PreTrainedModel, ids: Sequence[int]) -> np.ndarray:
    """Return the vector [hidden] of one text in float32, by transformers' own modules.

    Each text is computed alone: padding would change the order of sums.

    Args:
        encoder: float32, in eval mode.
        ids: special tokens included.
    """
    input_ids = torch.tensor([ids])
    with torch.inference_mode():
        states = encoder(input_ids=input_ids, attention_mask=torch.ones_like(input_ids)).last_hidden_state
    return mean_of(states[0].numpy())


def mean_of(states: np.ndarray) -> np.ndarray:
    """Return the mean over the tokens of one text, summed in float64: float32 [tokens, hidden] -> [hidden]."""
    return states.mean(0, dtype=np.float64).astype(np.float32)
