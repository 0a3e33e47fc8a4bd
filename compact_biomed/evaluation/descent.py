"""AdamW with its schedule for one fine-tuning, on flat weights and the word embeddings in use.

The optimizer is that of transformers' Trainer: no decay of biases and norms, gradients clipped.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from compact_biomed.engine import compiled
from compact_biomed.engine.averaging import WeightAverage
from compact_biomed.engine.flat_weights import ActiveVocabulary, ClippedAdamW, FlatWeights
from compact_biomed.engine.microbatch import Replicas
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.objectives.task import TaskObjective

# The parameters that transformers' Trainer does not decay.
_NOT_DECAYED = [r"bias", r"layernorm", r"rmsnorm", r"(?:^|\.)norm(?:$|\.)", r"_norm(?:$|\.)"]


def decay_groups(
    model: nn.Module, weight_decay: float, *, learning_rate: float | None = None, layer_decay: float = 1.0
) -> list[dict]:
    """Return AdamW's parameter groups: with and without weight decay.

    Args:
        learning_rate, layer_decay: below 1, each layer has groups of its own, whose learning rate is this share of that
            of the next one above. The head has the learning rate; the embeddings are below the first layer.
    """
    decayed = set(get_parameter_names(model, [nn.LayerNorm], _NOT_DECAYED))
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for n, p in named if n in decayed], "weight_decay": weight_decay},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]
    if layer_decay == 1:
        return groups
    depths = {id(parameter): depth for (_, parameter), depth in zip(named, _depths(named), strict=True)}
    top = max(depths.values())
    by_depth = (
        group | {"params": [p for p in group["params"] if depths[id(p)] == depth], "lr": learning_rate * factor}
        for depth, factor in ((depth, layer_decay ** (top - depth)) for depth in range(top + 1))
        for group in groups
    )
    return [group for group in by_depth if group["params"]]


def _depths(named: Sequence[tuple[str, nn.Parameter]]) -> list[int]:
    """Return the depth of each parameter: 0 for embeddings, from 1 on for layers, then the pooler and the head."""
    layers = [re.search(r"\.layers?\.(\d+)\.", name) for name, _ in named]
    top = max((int(layer[1]) for layer in layers if layer), default=-1) + 2
    return [
        int(layer[1]) + 1 if layer else 0 if ".embeddings." in name else top
        for layer, (name, _) in zip(layers, named, strict=True)
    ]


class Descent:
    """AdamW with its schedule, restricted to the word embeddings that occur in the training set.

    Args:
        objective: holds the model to train.
        features: the whole training set.
        hyperparameters: of the training.

    Attributes:
        optimizer, schedule: of the flat weights.
    """

    def __init__(self, objective: TaskObjective, features: Sequence[Feature], hyperparameters: FinetuneHyperparameters):
        ids = (feature["input_ids"] for feature in features)
        self.vocabulary = ActiveVocabulary(objective.model, ids, decay=hyperparameters.weight_decay)
        rate, max_norm = hyperparameters.learning_rate, hyperparameters.max_grad_norm
        self.vocabulary.shrink()
        groups = decay_groups(
            objective, hyperparameters.weight_decay, learning_rate=rate, layer_decay=hyperparameters.layer_decay
        )
        self._flat = FlatWeights(objective, groups)
        self._average = WeightAverage([parameter for group in groups for parameter in group["params"]])
        self.vocabulary.restore()
        of_embedding = (any(p is self.vocabulary.small for p in group["params"]) for group in groups)
        self._group_of_embedding = next((number for number, here in enumerate(of_embedding) if here), 0)
        compiled.announce(*self._flat.copies or ())
        self.optimizer = ClippedAdamW(self._flat.groups, rate, max_norm)
        steps_per_epoch = math.ceil(len(features) / hyperparameters.batch_size)
        averaged = min(math.ceil(hyperparameters.average_last * steps_per_epoch), steps_per_epoch)
        self._first_averaged, self._step = steps_per_epoch - averaged, 0
        steps = steps_per_epoch * hyperparameters.epochs
        warmup = math.ceil(hyperparameters.warmup * steps)
        self.schedule = get_scheduler(hyperparameters.schedule, self.optimizer, warmup, steps)

    @contextmanager
    def epoch(self) -> Iterator[None]:
        """Allow steps within the block; after it, however it ends, the model is complete and owns its memory."""
        self.vocabulary.shrink()
        self._flat.adopt()
        self._average.restart()
        self._step = 0
        try:
            yield
        finally:
            self._flat.release()
            self.vocabulary.restore()

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step; with rates for each layer, the highest of them."""
        return max(self.schedule.get_last_lr())

    def state(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        """Return the weights, and the numbers that belong to them, between two steps of an epoch.

        With the states of `optimizer` and `schedule` that is all of the training; see `load_state`.
        """
        tensors = {**self._flat.state(), **self._average.state(), "embeddings": self.vocabulary.full.detach()}
        numbers = {"decay": self.vocabulary.factor, "step": self._step, "averaged": self._average.steps}
        return {name: tensor.contiguous() for name, tensor in tensors.items()}, numbers

    @torch.no_grad()
    def load_state(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, float]) -> None:
        """Load what `state` returned, at the beginning of an epoch.

        Raises:
            KeyError, RuntimeError: it is the state of another model.
        """
        self._flat.load_state(tensors)
        self._average.load_state(tensors, int(numbers["averaged"]))
        self.vocabulary.full.copy_(tensors["embeddings"])
        self.vocabulary.factor, self._step = numbers["decay"], int(numbers["step"])

    def backward(self, engine: Replicas, parts: Sequence[tuple], *, scale: float, stream: Sequence[int]):
        """Compute the gradient of a step: see `Replicas.backward`."""
        return self._flat.backward(engine, parts, scale=scale, stream=stream)

    def step(self) -> None:
        """Clip the gradient and update the weights."""
        self.vocabulary.decay_others(self.schedule.get_last_lr()[self._group_of_embedding])
        self.optimizer.step(self._flat.gradients, self._flat.copies)
        self._flat.refresh_copies()
        self.schedule.step()

    def note_weights(self) -> None:
        """Add the weights to the mean of the epoch, if they are part of it. Call it after every step."""
        if self._step >= self._first_averaged:
            self._average.add()
        self._step += 1

    def exchange(self) -> None:
        """Exchange the weights and their mean over the epoch, if there is one; call it between epochs.

        Word embeddings that do not occur in the training set are those of the last step either way.
        """
        if self._average.steps:
            self._average.exchange()
            self.vocabulary.restore()
