"""This project's training step, as its Trainer takes it."""

import torch
from torch import Tensor, nn

from compact_biomed.engine.microbatch import Replicas, split


class OurStep:
    """An optimizer step of an objective: micro-batches, backward, clipping and AdamW.

    Args:
        objective: `MaskedLM` or `Distillation`.
        tokens: padded tokens per micro-batch.
        replicas: micro-batches side by side.
    """

    def __init__(self, objective: nn.Module, *, tokens: int, replicas: int = 1):
        self.objective, self.tokens = objective, tokens
        self.replicas = Replicas(objective, replicas)
        self.optimizer = torch.optim.AdamW(objective.parameters(), lr=1e-4, weight_decay=0.01, fused=True)

    @property
    def trained(self) -> nn.Module:
        """The module whose parameters are trained."""
        return self.objective

    def __call__(self, batch: dict[str, Tensor]) -> float:
        """Take one optimizer step on a padded batch and return its mean loss."""
        self.objective.train()
        loss = self.loss(batch, backward=True)
        with torch.profiler.record_function("bench: optimizer"):
            nn.utils.clip_grad_norm_(self.objective.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad()
        return loss

    def loss(self, batch: dict[str, Tensor], *, backward: bool = False) -> float:
        """Return the mean loss on a padded batch; with `backward`, add up its gradients."""
        with torch.profiler.record_function("bench: data"):
            options = {"replicas": self.replicas.n, "keep_width": self.objective.keep_padding}
            parts = split(**batch, tokens=self.tokens, **options)
            parts, scale = self.objective.with_divisor(parts, self.objective.counts(batch))
        if backward:
            return float(self.replicas.backward(parts, scale=scale, stream=(0,)).loss_sum) * scale
        with torch.no_grad():
            return sum(float(self.objective(*part)[0]) for part in parts) * scale
