"""Encoded examples as batches: which go together, and what the head is to say about them.

A feature is a dictionary: `input_ids`, `token_type_ids` of pairs, and its answer: `labels` (a
list, a number or a vector) or `start` and `end`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compact_biomed.evaluation.model import longest_input
from compact_biomed.evaluation.objective import TaskBatch
from compact_biomed.objectives import IGNORED
from compact_biomed.training.microbatch import LENGTH_STEP, cut, portions

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
    """Cut a batch into micro-batches by length (`training.microbatch.cut`, `portions` for prediction).

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
        parts = portions(lengths, widest=widest, tokens=tokens)
    else:
        parts = cut(lengths, widest=widest, tokens=tokens, replicas=replicas)
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
