"""What the log says of a distillation's terms: each unweighted, weighted, and its share of the gradient."""

from collections.abc import Sequence
from typing import Any

import torch

from compact_biomed.models.dropout import random_stream


class TermLog:
    """Collects the terms of the steps between two entries of the log. For an objective without terms, nothing.

    Args:
        objective: `Distillation`, or one without terms.
        gradient_shares: measure the gradient norm of each term on one micro-batch at each entry.
    """

    def __init__(self, objective: Any, *, gradient_shares: bool = False):
        self.objective, self.gradient_shares = objective, gradient_shares
        self.terms = getattr(objective, "terms", ())
        self._sums: dict[str, float] = {}
        self._steps = 0.0
        self._shares: dict[str, float] = {}

    def add(self, result: tuple, *, scale: float, steps: float = 1.0) -> None:
        """The output of a step, or of an accumulated part of one.

        Args:
            scale: what makes the output's terms the step's means, or parts that add up to them.
            steps: how much of a step this is.
        """
        for term in self.terms:
            self._sums[term.name] = self._sums.get(term.name, 0.0) + getattr(result, term.name) * scale
        self._steps += steps if self.terms else 0.0

    def measure_shares(self, part: tuple, *, stream: Sequence[int]) -> None:
        """Norm of each weighted term's gradient on a micro-batch, divided by the sum of the norms."""
        if not (self.terms and self.gradient_shares):
            return
        *inputs, counts = part
        parameters = [p for p in self.objective.parameters() if p.requires_grad]
        with random_stream(*stream, 0, modules=not self.objective.fast):
            values = self.objective.values(*inputs)
        norms = {}
        for term, count in zip(self.terms, counts.clamp(min=1).tolist(), strict=True):
            share = values[term.name] * (term.weight / count)
            gradients = torch.autograd.grad(share, parameters, retain_graph=True, allow_unused=True)
            norms[term.name] = sum(float(g.float().square().sum()) for g in gradients if g is not None) ** 0.5
        total = sum(norms.values()) or 1.0
        self._shares = {f"gradient_share/{name}": float(f"{norm / total:.4g}") for name, norm in norms.items()}

    def take(self) -> dict[str, float]:
        """The entry: means since the last one."""
        if not self._steps:
            return {}
        means = {term: self._sums[term.name] / self._steps for term in self.terms}
        entry = {f"term/{term.name}": mean for term, mean in means.items()}
        entry |= {f"weighted/{term.name}": term.weight * mean for term, mean in means.items()} | self._shares
        self._sums, self._steps, self._shares = {}, 0.0, {}
        return entry
