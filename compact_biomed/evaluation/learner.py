"""Fine-tuning and prediction of one task model, on encoded examples.

The settings' defaults are those of transformers' Trainer: AdamW, no decay of biases and
norms, gradients clipped at 1. Order and dropout are functions of the seed and the step, so
a run gives the same weights each time (on a CPU, with the same number of cores).
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from compact_biomed.console import progress, say
from compact_biomed.engine import compiled
from compact_biomed.engine.adamw import ClippedAdamW
from compact_biomed.engine.flat_weights import ActiveVocabulary, FlatWeights
from compact_biomed.engine.microbatch import LENGTH_STEP, Replicas, prediction_groups, training_groups
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.evaluation.protocols import Settings
from compact_biomed.machine import keep_freed_memory
from compact_biomed.models.checkpoints import longest_input
from compact_biomed.objectives import IGNORED
from compact_biomed.objectives.task import TaskBatch, TaskObjective

# ----------------------------------------------------------------------------------------------------
# Encoded examples as batches: which go together, and what the head is to say about them.
#
# A feature is a dictionary: `input_ids`, `token_type_ids` of pairs, and its answer: `labels` (a
# list, a number or a vector) or `start` and `end`.


Feature = Mapping[str, Any]


def padded(rows: Sequence[Sequence[int]], width: int, fill: int) -> Tensor:
    """[rows, width] int64, filled up on the right."""
    out = np.full((len(rows), width), fill, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return torch.from_numpy(out)


def targets_of(features: Sequence[Feature], head: str, width: int) -> Tensor:
    """The answers as `heads` takes them; [batch, width], [batch], [batch, labels] or [batch, 2]."""
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
    """Cut a batch into micro-batches by length (`engine.microbatch.training_groups`, `prediction_groups`).

    Args:
        head: whose targets are made; None = none, for prediction.
        longest: the greatest width that the model computes, None = any.
        types: whether the model has token types.

    Returns:
        For each micro-batch the indices of its features, and the batch.
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


def reading(config) -> dict[str, Any]:
    """What `micro_batches` has to know of a model: `pad_id`, `longest`, `types`."""
    return {
        "pad_id": config.pad_token_id,
        "longest": longest_input(config),
        "types": getattr(config, "type_vocab_size", 0) > 1,
    }


def epoch(n: int, batch_size: int, *, seed: int, number: int) -> Iterator[np.ndarray]:
    """The indices of each batch of an epoch, a function of the arguments alone; the last may be smaller."""
    order = np.random.default_rng([seed, number]).permutation(n)
    for first in range(0, n, batch_size):
        yield order[first : first + batch_size]


# ----------------------------------------------------------------------------------------------------
# The optimizer of a fine-tuning.


# As transformers' Trainer chooses what is decayed.
_NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def decay_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """AdamW's parameter groups: with and without decay."""
    decayed = set(get_parameter_names(model, [nn.LayerNorm], _NOT_DECAYED))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [
        {"params": [p for n, p in named if n in decayed], "weight_decay": weight_decay},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]


class Descent:
    """AdamW with its schedule, on the word embeddings that occur in what is trained on.

    Args:
        objective: its model is trained.
        features: all that is trained on.
        settings: of the training.
    """

    def __init__(self, objective: TaskObjective, features: Sequence[Feature], settings: Settings):
        ids = (feature["input_ids"] for feature in features)
        self.vocabulary = ActiveVocabulary(objective.model, ids, decay=settings.weight_decay)
        self.vocabulary.shrink()
        self._flat = FlatWeights(objective, decay_groups(objective, settings.weight_decay))
        self.vocabulary.restore()
        compiled.announce(*self._flat.copies or ())
        self._optimizer = ClippedAdamW(self._flat.groups, settings.learning_rate, settings.max_grad_norm)
        total = math.ceil(len(features) / settings.batch_size) * settings.epochs
        self._schedule = get_scheduler(settings.schedule, self._optimizer, math.ceil(settings.warmup * total), total)

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Steps are made within; after it, however it ends, the model is whole and its memory its own."""
        self.vocabulary.shrink()
        self._flat.adopt()
        try:
            yield
        finally:
            self._flat.release()
            self.vocabulary.restore()

    def backward(self, engine: Replicas, parts: Sequence[tuple], *, scale: float, stream: Sequence[int]):
        """The gradient of a step: see `Replicas.backward`."""
        return self._flat.backward(engine, parts, scale=scale, stream=stream)

    def step(self) -> None:
        """Clip the gradient and move the weights."""
        self.vocabulary.decay_others(self._schedule.get_last_lr()[0])
        self._optimizer.step(self._flat.gradients, self._flat.copies)
        self._flat.refresh_copies()
        self._schedule.step()


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

    def __init__(
        self, model, head: str, machine: ComputePlan, *, objective: Callable[..., TaskObjective] = TaskObjective
    ):
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
