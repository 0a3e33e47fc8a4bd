"""Train one task model on encoded examples, and predict with it.

Order and dropout are functions of the seed and the step, so a run gives the same weights each time
(on a CPU, with the same number of cores). The optimizer is in `evaluation.descent`.
"""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from compact_biomed.engine.microbatch import LENGTH_STEP, Replicas, prediction_groups, training_groups
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.evaluation.descent import Descent
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.monitor import Monitor
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.machine import keep_freed_memory
from compact_biomed.models.positions import longest_input
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.task import TaskBatch, TaskObjective

# ---- batches


def padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """Return rows padded on the right with `fill`: int64 [rows, width]."""
    out = np.full((len(rows), width), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


def targets_of(features: Sequence[Feature], head: str, width: int) -> Tensor:
    """Return the targets of a `TaskBatch`: [batch, width], [batch], [batch, labels] or [batch, 2]."""
    if head == "span":
        return torch.tensor([(feature["start"], feature["end"]) for feature in features])
    labels = [feature["labels"] for feature in features]
    if head == "token":
        return padded(labels, width, IGNORED)
    return torch.tensor(labels, dtype=torch.long if head == "sequence" else torch.float32)


def micro_batches(
    features: Sequence[Feature],
    *,
    pad_id: int,
    head: str | None = None,
    longest: int | None = None,
    types: bool = True,
    tokens: int,
    replicas: int = 1,
    device: torch.device | str = "cpu",
) -> list[tuple[np.ndarray, TaskBatch]]:
    """Split a batch into micro-batches by length (`engine.microbatch.training_groups`, `prediction_groups`).

    Args:
        head: the head whose targets the batches carry; None = no targets, for prediction.
        longest: the longest input of the model, None = no limit.
        types: whether the model has token types.
        tokens: padded tokens per micro-batch.
        replicas: micro-batches that are computed at the same time.

    Returns:
        Per micro-batch, the indices of its features and the batch.
    """
    lengths = torch.tensor([len(feature["input_ids"]) for feature in features])
    widest = longest or int(lengths.max()) + LENGTH_STEP
    result = []
    if head is None:
        parts = prediction_groups(lengths, widest=widest, tokens=tokens)
    else:
        parts = training_groups(lengths, widest=widest, tokens=tokens, replicas=replicas)
    for rows, width in parts:
        chosen = [features[i] for i in rows.tolist()]
        mask = (torch.arange(width) < lengths[rows, None]).long()
        has_types = types and any(any(feature.get("token_type_ids") or ()) for feature in chosen)
        batch = TaskBatch(
            padded([feature["input_ids"] for feature in chosen], width, pad_id),
            None if bool(mask.all()) else mask,
            padded([feature.get("token_type_ids", ()) for feature in chosen], width, 0) if has_types else None,
            targets_of(chosen, head, width) if head else None,
        )
        on_device = (x.to(device) if x is not None else None for x in batch)
        result.append((rows.numpy(), TaskBatch(*on_device)))
    return result


def batching_options(config) -> dict[str, Any]:
    """Return the arguments of `micro_batches` that depend on the model: `pad_id`, `longest`, `types`."""
    return {
        "pad_id": config.pad_token_id or 0,  # null in some configurations; what padding holds is never read
        "longest": longest_input(config),
        "types": getattr(config, "type_vocab_size", 0) > 1,
    }


def epoch(n: int, batch_size: int, *, seed: int, number: int) -> Iterator[np.ndarray]:
    """Yield the indices of each batch of an epoch, a function of the arguments alone; the last may be smaller."""
    order = np.random.default_rng([seed, number]).permutation(n)
    for first in range(0, n, batch_size):
        yield order[first : first + batch_size]


# ---- training and prediction


# A batch of at most so many tokens is computed in one piece, each matrix product on all cores. Several pieces at the
# same time would take turns in Python, and each would allocate a gradient of all weights.
_ONE_PIECE = 1024


class Diverged(UserError):
    """The error of a training whose loss is no longer finite."""


class TrainingStats(NamedTuple):
    """The cost of a training, and its last loss."""

    steps: int
    tokens: int  # without padding
    seconds: float  # of training alone, without predictions between epochs
    loss: float  # mean of the last epoch

    def after(self, other: "TrainingStats") -> "TrainingStats":
        """Return the cost of another training and this one together, with the loss of this one."""
        sums = (a + b for a, b in zip(other[:3], self[:3], strict=True))
        return TrainingStats(*sums, self.loss)


class Learner:
    """A task model that can be trained and asked for logits.

    Args:
        model: transformers' task model, float32.
        head: a key of `objectives.task.HEADS`.
        machine: the performance settings, resolved for this machine.
        objective: makes the model's loss; called like `TaskObjective`.
    """

    def __init__(
        self, model, head: str, machine: ComputePlan, *, objective: Callable[..., TaskObjective] = TaskObjective
    ):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.objective = objective(model.to(self.device), head, dtype=machine.dtype, fast=machine.fast)
        self.head, self.tokens = head, machine.micro_batch_tokens
        keep_freed_memory()
        self.engine = Replicas(self.objective, machine.replicas)
        self._batching = batching_options(model.config) | {"replicas": machine.replicas, "device": self.device}

    def fit(
        self,
        features: Sequence[Feature],
        hyperparameters: FinetuneHyperparameters,
        *,
        seed: int,
        after_epoch: Callable[[int], bool | None],
        monitor: Monitor | None = None,
    ) -> TrainingStats:
        """Train on `features`.

        Args:
            seed: of order and dropout.
            after_epoch: is called with the number of epochs done; the model may predict meanwhile. The training ends
                if it returns true.
            monitor: shows progress and keeps checkpoints, from one of which the training may continue.

        Raises:
            Diverged: the loss is no longer finite.
        """
        n, batch_size = len(features), hyperparameters.batch_size
        monitor = monitor or Monitor()
        descent = Descent(self.objective, features, hyperparameters)
        features = [{**f, "input_ids": descent.vocabulary.renumbered(f["input_ids"])} for f in features]
        epochs = min(hyperparameters.stop_after or hyperparameters.epochs, hyperparameters.epochs)
        at = monitor.begin(descent, epochs=epochs, examples=n, batch_size=batch_size)
        try:
            while True:
                self.objective.train()
                start = time.monotonic()
                with descent.epoch(), monitor.epoch():
                    monitor.restore()
                    for rows in islice(epoch(n, batch_size, seed=seed, number=at.epoch), at.batches, None):
                        batch = [features[i] for i in rows]
                        loss = self._backward(descent, batch, stream=(seed, at.step))
                        if not math.isfinite(loss):
                            what = f"training has diverged: the loss is {loss} at step {at.step + 1}"
                            raise Diverged(what, remedy="try a lower --learning-rate")
                        descent.step()
                        self.after_step()
                        descent.note_weights()
                        tokens = sum(len(feature["input_ids"]) for feature in batch)
                        now = time.monotonic()
                        at.add(loss, tokens=tokens, seconds=now - start)
                        start = now + monitor.after_step(loss, len(rows))
                descent.exchange()
                ends = after_epoch(at.epoch + 1) or at.epoch + 1 == epochs
                monitor.end_epoch()
                if ends:
                    return TrainingStats(at.step, at.tokens, at.seconds, float(np.mean(at.losses)))
                descent.exchange()
                at.next_epoch()
        finally:
            monitor.end()

    def _backward(self, descent: Descent, features: list[Feature], *, stream: tuple[int, int]) -> float:
        """Compute the gradients of one batch; return its mean loss."""
        batching = self._batching
        if sum(len(feature["input_ids"]) for feature in features) <= _ONE_PIECE:
            batching = batching | {"replicas": 1}
        parts = micro_batches(features, head=self.head, tokens=self.tokens, **batching)
        scale = 1 / max(self.rows(features), 1)
        inputs = self.objective_inputs(features, parts)
        return descent.backward(self.engine, inputs, scale=scale, stream=stream).loss_sum * scale

    def after_step(self) -> None:
        """Do nothing after each step of the optimizer; a subclass may change the weights here."""

    def rows(self, features: Sequence[Feature]) -> int:
        """Return the divisor of a batch's summed loss: the number of labeled tokens, or of documents."""
        if self.head == "token":
            return sum(label != IGNORED for feature in features for label in feature["labels"])
        return len(features)

    def objective_inputs(
        self, features: Sequence[Feature], parts: Sequence[tuple[np.ndarray, TaskBatch]]
    ) -> list[tuple]:
        """Return the arguments of the objective for each micro-batch of a step.

        Args:
            features: of the whole step.
            parts: per micro-batch, the indices of its features and the batch.
        """
        return [part for _, part in parts]

    def logits(self, features: Sequence[Feature]) -> list[np.ndarray]:
        """Return float32 logits of each feature: tokens [length, labels], sequences [labels], spans [length, 2].

        Which features are computed together changes them by rounding only.

        Raises:
            Diverged: a logit is not finite, which the last step of a training may have caused.
        """
        parts = micro_batches(features, tokens=self.tokens, **self._batching)
        self.objective.eval()
        result: list[np.ndarray | None] = [None] * len(features)
        with torch.inference_mode():
            weights = self.objective.cast(self.objective.prepare()) if self.objective.fast else None

        def logits_of(part: tuple[np.ndarray, TaskBatch]) -> list[np.ndarray]:
            ids, mask, types, _ = part[1]
            with torch.inference_mode():
                full_mask = torch.ones_like(ids) if mask is None else mask
                positions = self.objective.head.prediction_positions(full_mask)
                rows = self.objective.logits(ids, mask, types, positions, prepared=weights).float().cpu().numpy()
            if self.objective.head.family == "sequence":
                return list(rows)
            return np.split(rows, positions.sum(1).cumsum(0)[:-1].cpu().numpy())

        for (indices, _), logits in zip(parts, self.engine.map(logits_of, parts), strict=True):
            for i, rows in zip(indices, logits, strict=True):
                if not np.isfinite(rows).all():
                    raise Diverged("the model's logits are not finite", remedy="try a lower --learning-rate")
                result[i] = rows
        return result

    def close(self) -> None:
        """End the threads."""
        self.engine.close()
