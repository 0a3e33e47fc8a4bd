"""Score an encoder as it is: nothing is trained, so neither a head nor a learning rate can be to blame.

The similarity of two texts is the cosine of their vectors (`models.embeddings`).
"""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import torch

from compact_biomed.engine.plan import plan
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.finetune import Assignment, Outcome
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.learner import TrainingStats
from compact_biomed.machine import PerformanceSettings, single_threaded, usable_cores
from compact_biomed.models import checkpoints
from compact_biomed.models.embeddings import text_vector
from compact_biomed.models.positions import longest_input


def score_encoder(work: Assignment, *, max_length: int, speed: PerformanceSettings) -> Outcome:
    """Score the vectors of `work.scored`, in float32 and by transformers' own modules.

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
    with ThreadPoolExecutor(usable_cores(), initializer=single_threaded) as pool:

        def vectors(features: Sequence[Feature]) -> list[np.ndarray]:
            return list(pool.map(lambda feature: text_vector(model, feature["input_ids"]), features))

        chunks = predict(kind, work.scored, tokenizer, vectors, encoding)
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
