"""The optimizer of a fine-tuning."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import nn
from transformers import get_scheduler
from transformers.trainer_pt_utils import get_parameter_names

from compact_biomed import compiled
from compact_biomed.evaluation.batches import Feature
from compact_biomed.evaluation.flat_weights import FlatWeights
from compact_biomed.evaluation.objective import TaskObjective
from compact_biomed.evaluation.optimizer import ClippedAdamW
from compact_biomed.evaluation.settings import Settings
from compact_biomed.evaluation.vocabulary import ActiveVocabulary
from compact_biomed.training.microbatch import Replicas

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
        self._flat.copied()
        self._schedule.step()
