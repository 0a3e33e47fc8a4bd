"""Training with only the word embeddings that occur in the training set.

Half of a small model's weights are word embeddings, and a benchmark's training set uses a
fifth of them. The others have no gradient: AdamW moves them by weight decay alone. So they
are set aside while the model trains, and decayed at the end. What is learned is the same to
rounding; casting, clipping and updating them every step is saved.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import nn


class ActiveVocabulary:
    """The rows of a model's word embedding that a training set uses.

    `shrink` puts them in the place of the whole embedding, `restore` puts the whole one back,
    up to date. The optimizer is made while the model is shrunk.

    Args:
        model: of transformers.
        inputs: token ids of all that is read while the model is shrunk.
        decay: AdamW's decay of the embedding.
    """

    def __init__(self, model: nn.Module, inputs: Iterable[Sequence[int]], *, decay: float):
        self.embedding = model.get_input_embeddings()
        self.full = self.embedding.weight
        trained = self.full.requires_grad
        self.decay = decay if trained else 0.0
        used = np.zeros(len(self.full), dtype=bool)
        for ids in inputs:
            used[ids] = True
        # Ids up to the padding's keep their number: models compare with it.
        used[: (model.config.pad_token_id or 0) + 1] = True
        self._rows = torch.from_numpy(used.nonzero()[0]).to(self.full.device)
        self._new_id = np.cumsum(used) - 1
        self.small = nn.Parameter(self.full.detach()[self._rows], requires_grad=trained)
        self._factor = 1.0

    def renumbered(self, ids: Sequence[int]) -> np.ndarray:
        """Token ids as the shrunk model takes them."""
        return self._new_id[ids]

    def shrink(self) -> None:
        """Only the rows in use."""
        self.embedding.weight = self.small

    def decay_others(self, learning_rate: float) -> None:
        """To be called each step: what AdamW does to a row that never had a gradient."""
        self._factor *= 1 - learning_rate * self.decay

    @torch.no_grad()
    def restore(self) -> None:
        """All rows."""
        self.full.mul_(self._factor)
        self.full[self._rows] = self.small
        self._factor = 1.0
        self.embedding.weight = self.full
