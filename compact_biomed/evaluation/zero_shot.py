"""Score an encoder as it is: nothing is trained, so neither a head nor a learning rate can be to blame.

The embedding of a text is the mean of the last layer's states over its tokens, special tokens included, as in
Sentence-BERT (Reimers and Gurevych 2019). The similarity of two texts is the cosine of their embeddings.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from transformers import PreTrainedModel

from compact_biomed.engine.plan import plan
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.finetune import Assignment, Outcome
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.learner import TrainingStats, batching_options, micro_batches
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import checkpoints
from compact_biomed.models.positions import longest_input

_TOKENS = 4096  # padded tokens at a time


def score_encoder(work: Assignment, *, max_length: int, speed: PerformanceSettings) -> Outcome:
    """Score the embeddings of `work.scored`, in float32 and by transformers' own modules.

    Args:
        work: `work.train` is not read.
        max_length: longest text in tokens, special tokens included.
        speed: performance settings; none of them changes anything here.

    Raises:
        UserError: unusable weights or tokenizer.
    """
    kind = KINDS[work.task.kind]
    model, missing = checkpoints.load_encoder(work.checkpoint)
    model.float().eval()
    tokenizer = checkpoints.load_tokenizer(work.checkpoint, model.config)
    length = min(max_length, longest_input(model.config) or max_length)
    encoding = {"labels": work.labels, "max_length": length, "level": work.level}
    start = time.monotonic()
    chunks = predict(kind, work.scored, tokenizer, embedder(model), encoding)
    predictions = [each for chunk in chunks for each in chunk]
    scores = kind.score(work.scored, predictions)
    return Outcome(
        scores=scores,
        predictions=predictions,
        by_epoch=[scores.metrics[work.task.metric]],
        fitted=TrainingStats(0, 0, time.monotonic() - start, 0.0),
        machine=replace(plan(speed, model.config), dtype=torch.float32, fast=False, replicas=1),
        model=model,
        tokenizer=tokenizer,
        max_length=length,
        random_weights=[name for name in missing if not name.startswith("pooler.")],  # the pooler is not read
    )


def embedder(model: PreTrainedModel) -> Callable[[Sequence[Feature]], list[np.ndarray]]:
    """Return a function from features to their embeddings, [hidden] each."""

    def embed(features: Sequence[Feature]) -> list[np.ndarray]:
        result: list[np.ndarray | None] = [None] * len(features)
        for rows, (ids, mask, _, _) in micro_batches(features, tokens=_TOKENS, **batching_options(model.config)):
            mask = torch.ones_like(ids) if mask is None else mask
            with torch.inference_mode():
                states = model(input_ids=ids, attention_mask=mask).last_hidden_state
                means = (states * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            for row, mean in zip(rows, means.numpy(), strict=True):
                result[row] = mean
        return result

    return embed
