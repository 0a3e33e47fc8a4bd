"""A step of continual pretraining as the published scripts write it, for comparison.

Published scripts: transformers' model in fp32, eager attention (there was no other then),
the vocabulary head on every position, batches of 24 documents a device in the order in
which they come, padded to the longest.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

DOCUMENTS_A_DEVICE = 24


class PublishedStep:
    """Forward, backward, clipping and AdamW on one batch.

    Args:
        model: a masked-LM of transformers with eager attention.
        learning_rate: of AdamW.
    """

    def __init__(self, model: nn.Module, *, learning_rate: float = 1e-4):
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.01)

    def __call__(self, batches: Sequence[dict[str, Tensor]]) -> float:
        """One optimizer step over the device batches; returns their mean loss."""
        self.model.train()
        loss = self.losses(batches, backward=True)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss

    def losses(self, batches: Sequence[dict[str, Tensor]], *, backward: bool = False) -> float:
        """Mean loss over all masked tokens of the batches."""
        n = sum(int(batch["labels"].ne(-100).sum()) for batch in batches)
        total = 0.0
        for batch in batches:
            share = int(batch["labels"].ne(-100).sum()) / n
            loss = self.model(**batch).loss * share
            if backward:
                loss.backward()
            total += float(loss.detach())
        return total


def device_batches(batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Cut a padded batch into device batches as they come, each padded to its longest document."""
    parts = []
    for start in range(0, len(batch["labels"]), DOCUMENTS_A_DEVICE):
        part = {name: tensor[start : start + DOCUMENTS_A_DEVICE] for name, tensor in batch.items()}
        longest = int(part["attention_mask"].sum(1).max())
        parts.append({name: tensor[:, :longest].contiguous() for name, tensor in part.items()})
    return parts
