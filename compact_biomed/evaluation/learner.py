"""Fine-tuning and prediction of one task model, on encoded examples.

The settings' defaults are those of transformers' Trainer: AdamW, no decay of biases and
norms, gradients clipped at 1. Order and dropout are functions of the seed and the step, so
a run gives the same weights each time (on a CPU, with the same number of cores).
"""

import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from compact_biomed.console import progress, say
from compact_biomed.errors import UserError
from compact_biomed.evaluation.batches import Feature, epoch, micro_batches, reading
from compact_biomed.evaluation.descent import Descent
from compact_biomed.evaluation.objective import TaskBatch, TaskObjective
from compact_biomed.evaluation.settings import Settings
from compact_biomed.objectives import IGNORED
from compact_biomed.training.heap import keep_freed_memory
from compact_biomed.training.machine import Plan
from compact_biomed.training.microbatch import Replicas

# A batch of so few tokens is computed in one piece, each matrix product by all cores: several pieces side by side would
# take turns in Python, and each would make a gradient of all weights.
_ONE_PIECE = 1024


class Diverged(UserError):
    """The loss is not a number any more."""


class Fitted(NamedTuple):
    steps: int
    tokens: int  # read in training, padding not counted
    seconds: float  # of training alone
    loss: float  # mean of the last epoch


class Learner:
    """Trains a task model and lets it predict.

    Args:
        model: transformers' task model, float32.
        head: a name in `heads.HEADS`.
        machine: speed settings.
        objective: makes the model's loss, as `TaskObjective` does from the same arguments.
    """

    def __init__(self, model, head: str, machine: Plan, *, objective: Callable[..., TaskObjective] = TaskObjective):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.objective = objective(model.to(self.device), head, dtype=machine.dtype, fast=machine.fast)
        self.head, self.tokens = head, machine.micro_batch_tokens
        keep_freed_memory()
        self.engine = Replicas(self.objective, machine.replicas)
        self._batching = reading(model.config) | {"replicas": machine.replicas, "device": self.device}

    def fit(
        self, features: Sequence[Feature], settings: Settings, *, seed: int, after_epoch: Callable[[int], None]
    ) -> Fitted:
        """Train on `features`.

        Args:
            seed: decides order and dropout.
            after_epoch: is called with the number of epochs done; the model may predict meanwhile.

        Raises:
            Diverged: the loss is not a number any more.
        """
        n = len(features)
        descent = Descent(self.objective, features, settings)
        features = [{**f, "input_ids": descent.vocabulary.renumbered(f["input_ids"])} for f in features]
        epochs = min(settings.stop_after or settings.epochs, settings.epochs)
        step = tokens = 0
        seconds = 0.0
        with progress(total=epochs * n, desc="fine-tuning", unit=" examples", leave=False) as bar:
            for number in range(epochs):
                start, losses = time.monotonic(), []
                self.objective.train()
                with descent.epoch():
                    for rows in epoch(n, settings.batch_size, seed=seed, number=number):
                        chosen = [features[i] for i in rows]
                        losses.append(self._backward(descent, chosen, stream=(seed, step)))
                        step += 1
                        if not math.isfinite(losses[-1]):
                            said = f"the loss is {losses[-1]} at step {step}: training has diverged"
                            raise Diverged(said, remedy="a lower --learning-rate")
                        descent.step()
                        self.stepped()
                        tokens += sum(len(feature["input_ids"]) for feature in chosen)
                        bar.update(len(rows))
                        bar.set_postfix_str(f"loss {losses[-1]:.3f}", refresh=False)
                seconds += time.monotonic() - start
                if bar.disable:  # no terminal: a line in place of the bar
                    rate = f"{tokens / seconds:,.0f} tokens/s"
                    say(f"  epoch {number + 1} of {epochs}: loss {np.mean(losses):.3f}, {rate}")
                after_epoch(number + 1)
        return Fitted(step, tokens, seconds, float(np.mean(losses)))

    def _backward(self, descent: Descent, features: list[Feature], *, stream: tuple[int, int]) -> float:
        """Gradients of one batch; returns its mean loss."""
        batching = self._batching
        if sum(len(feature["input_ids"]) for feature in features) <= _ONE_PIECE:
            batching = batching | {"replicas": 1}
        parts = micro_batches(features, head=self.head, tokens=self.tokens, **batching)
        scale = 1 / max(self.rows(features), 1)
        completed = self.completed(features, parts)
        return descent.backward(self.engine, completed, scale=scale, stream=stream).loss_sum * scale

    def stepped(self) -> None:
        """After each step of the optimizer; here nothing."""

    def rows(self, features: Sequence[Feature]) -> int:
        """What divides the summed loss of a batch: labelled tokens, or documents."""
        if self.head == "token":
            return sum(label != IGNORED for feature in features for label in feature["labels"])
        return len(features)

    def completed(self, features: Sequence[Feature], parts: Sequence[tuple[np.ndarray, TaskBatch]]) -> list[tuple]:
        """The micro-batches of a step as the objective takes them.

        Args:
            features: of the whole step.
            parts: of each micro-batch the indices of its features, and the batch.
        """
        return [part for _, part in parts]

    def logits(self, features: Sequence[Feature]) -> list[np.ndarray]:
        """Float32 logits of each feature: [length, labels] for tokens, [labels] for sequences, [length, 2] for spans.

        Which features are computed together changes nothing but rounding.
        """
        parts = micro_batches(features, tokens=4 * self.tokens, **self._batching)
        self.objective.eval()
        result: list[np.ndarray | None] = [None] * len(features)
        with torch.inference_mode():
            weights = self.objective.cast(self.objective.prepare()) if self.objective.fast else None

        def work(part: tuple[np.ndarray, TaskBatch]) -> list[np.ndarray]:
            ids, mask, types, _ = part[1]
            with torch.inference_mode():
                wanted = self.objective.head.wanted(torch.ones_like(ids) if mask is None else mask)
                rows = self.objective.logits(ids, mask, types, wanted, prepared=weights).float().cpu().numpy()
            if self.objective.head.family == "sequence":
                return list(rows)
            return np.split(rows, wanted.sum(1).cumsum(0)[:-1].cpu().numpy())

        for (rows, _), logits in zip(parts, self.engine.map(work, parts), strict=True):
            for i, one in zip(rows, logits, strict=True):
                result[i] = one
        return result

    def close(self) -> None:
        """End the threads."""
        self.engine.close()
