"""Fine-tuning for entities as others write it with transformers and torch: the plain way, and a tuned one.

Plain, as the published scripts do: fp32, batches in random order padded to the longest sentence, every embedding in the
optimizer.

Tuned, as a good engineer does it today: bf16 autocast where bf16 is faster, SDPA attention, batches of sentences of
similar length (transformers' `group_by_length`), predictions sorted by length. So its batches differ from those of
the two other ways; their number and size do not.
"""

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, get_scheduler
from transformers.trainer_pt_utils import get_length_grouped_indices

from compact_biomed.evaluation.descent import decay_groups
from compact_biomed.evaluation.learner import Feature, epoch, padded
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.objectives import IGNORED

_PREDICTED_TOGETHER = 64  # sentences


def plain_training(
    model: PreTrainedModel, features: Sequence[Feature], settings: FinetuneHyperparameters, *, seed: int
) -> None:
    """Train a token classifier as one writes it with transformers and torch."""
    n, batch_size = len(features), settings.batch_size
    epochs = (epoch(n, batch_size, seed=seed, number=number) for number in range(settings.epochs))
    _train(model, features, settings, epochs, seed=seed, dtype=torch.float32)


def tuned_training(
    model: PreTrainedModel,
    features: Sequence[Feature],
    settings: FinetuneHyperparameters,
    *,
    seed: int,
    dtype: torch.dtype,
    grouped: bool = True,
) -> None:
    """Train a token classifier with what transformers and torch offer for speed.

    Args:
        dtype: bfloat16 = autocast.
        grouped: whether sentences of similar length share a batch; if not, batches are those of plain training.
    """
    grouping = (_grouped_epoch(features, settings.batch_size, seed=seed, number=n) for n in range(settings.epochs))
    plain = (epoch(len(features), settings.batch_size, seed=seed, number=n) for n in range(settings.epochs))
    _train(model, features, settings, grouping if grouped else plain, seed=seed, dtype=dtype)


def _grouped_epoch(features: Sequence[Feature], batch_size: int, *, seed: int, number: int) -> Iterator[list[int]]:
    generator = torch.Generator().manual_seed(1000 * seed + number)
    lengths = [len(feature["input_ids"]) for feature in features]
    order = get_length_grouped_indices(lengths, batch_size, generator=generator)
    # Trainer's order begins with the longest batch, so that a lack of memory shows early; batches then run in this
    # order. Sorted within 50 batches, they are shuffled here, so that the learning rate does not follow the length.
    batches = [order[first : first + batch_size] for first in range(0, len(order), batch_size)]
    shuffled = torch.randperm(len(batches), generator=generator).tolist()
    yield from (batches[i] for i in shuffled)


def _train(
    model: PreTrainedModel,
    features: Sequence[Feature],
    settings: FinetuneHyperparameters,
    epochs: Iterable[Iterable[Sequence[int]]],
    *,
    seed: int,
    dtype: torch.dtype,
) -> None:
    """Train on the batches of each epoch, given as indices of features."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate, fused=True)
    total = math.ceil(len(features) / settings.batch_size) * settings.epochs
    schedule = get_scheduler(settings.schedule, optimizer, math.ceil(settings.warmup * total), total)
    model.train()
    for batches in epochs:
        for rows in batches:
            batch = [features[i] for i in rows]
            inputs = _inputs(batch, model.config.pad_token_id)
            labels = padded([feature["labels"] for feature in batch], inputs["input_ids"].shape[1], IGNORED)
            with _autocast(dtype):
                loss = model(**inputs, labels=labels).loss
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


def plain_logits(model: PreTrainedModel, features: Sequence[Feature], batch_size: int) -> list[np.ndarray]:
    """Return the logits [length, labels] of each feature, computed in batches in the order of the file."""
    return _logits(model, features, range(len(features)), batch_size, torch.float32)


def tuned_logits(model: PreTrainedModel, features: Sequence[Feature], dtype: torch.dtype) -> list[np.ndarray]:
    """Return the logits [length, labels] of each feature, computed in batches of similar length."""
    order = sorted(range(len(features)), key=lambda i: -len(features[i]["input_ids"]))
    return _logits(model, features, order, _PREDICTED_TOGETHER, dtype)


@torch.inference_mode()
def _logits(
    model: PreTrainedModel, features: Sequence[Feature], order: Sequence[int], batch_size: int, dtype: torch.dtype
) -> list[np.ndarray]:
    model.eval()
    logits_of_features: dict[int, np.ndarray] = {}
    for first in range(0, len(order), batch_size):
        rows = order[first : first + batch_size]
        with _autocast(dtype):
            logits = model(**_inputs([features[i] for i in rows], model.config.pad_token_id)).logits.float().numpy()
        logits_of_features |= {i: row[: len(features[i]["input_ids"])] for i, row in zip(rows, logits, strict=True)}
    return [logits_of_features[i] for i in range(len(features))]


def _autocast(dtype: torch.dtype):
    return torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16)


def _inputs(features: Sequence[Feature], pad_id: int) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([len(feature["input_ids"]) for feature in features])
    width = int(lengths.max())
    ids = padded([feature["input_ids"] for feature in features], width, pad_id)
    return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}
