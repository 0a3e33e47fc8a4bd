"""What fine-tuning costs, estimated before it begins: tokens, and time at a rate that was measured on this machine.

The unit is a token that is trained on, forward and backward; one that is only read counts a third.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForTokenClassification, PretrainedConfig

from compact_biomed.benchmarks.examples import Example, Splits
from compact_biomed.benchmarks.test_sets import texts_of
from compact_biomed.engine.plan import plan
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.monitor import Monitor
from compact_biomed.evaluation.protocols import FinetuneHyperparameters, Overrides, Protocol
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import checkpoints
from compact_biomed.models.flops import flops_per_token
from compact_biomed.models.positions import longest_input
from compact_biomed.records.lines import SCORES

READING = 1 / 3  # cost of a forward pass, relative to training
_PIECES_PER_WORD = 1.4  # special tokens included; NCBI-disease has 1.37
_UNTIL_STOPPED = 0.4  # share of the epochs that a search with patience tries, assumed


# ---- tokens


@dataclass(frozen=True)
class TaskWork:
    """The work of one model on one task.

    Args:
        examples: numbers of examples to train on (unlabeled ones included), in dev and in test.
        length: mean tokens per example to train on.
        per_seed: tokens of one run on the test set.
        per_trial: tokens of one trial of the search on dev.
        once: tokens of one pass over all that is trained on; a teacher reads them once.
    """

    examples: dict[str, int]
    length: float
    per_seed: float
    per_trial: float
    once: float


def work_of(
    splits: Splits,
    protocol: Protocol,
    overrides: Overrides,
    *,
    intermediate: Sequence[Example] = (),
    further: Sequence[Example] = (),
) -> TaskWork:
    """Return the work of a task by a protocol.

    Args:
        intermediate: examples to train on before, if the protocol asks for it.
        further: unlabeled examples to train on.
    """
    hyperparameters = protocol.hyperparameters

    def tokens(examples: Iterable[Example]) -> float:
        words = (sum(len(text.split()) for text in texts_of(example)) for example in examples)
        return sum(min(n * _PIECES_PER_WORD, hyperparameters.max_length) for n in words)

    trained_on = [*protocols.training_examples(splits, protocol, overrides), *further]
    once = tokens(trained_on)
    epochs = hyperparameters.epochs * (1 if protocol.patience is None else _UNTIL_STOPPED)
    train = epochs * once + hyperparameters.intermediate_epochs * tokens(intermediate)
    scored = epochs if protocol.choose_epochs else 1
    return TaskWork(
        examples={"train": len(trained_on), "dev": len(splits.dev), "test": len(splits.test)},
        length=once / max(len(trained_on), 1),
        per_seed=train + READING * tokens(splits.test),
        per_trial=train + READING * scored * tokens(splits.dev),
        once=once,
    )


# ---- time


def encoder_flops(config: PretrainedConfig, *, length: float) -> float:
    """Count the FLOPs of training an encoder on one token, as `models.flops.flops_per_token`; nothing is allocated.

    Args:
        length: mean tokens per example.
    """
    with torch.device("meta"):
        model = AutoModelForTokenClassification.from_config(config)
    return flops_per_token(model, length=length, masked=0)


def recorded_rates(records: Iterable[Mapping[str, Any]], model: str, device: str) -> list[float]:
    """Return the tokens per second of all recorded runs of a model on a device."""
    rates = []
    for record in records:
        parts = record.get("model"), record.get("how")
        if record["record"] != SCORES or not all(isinstance(part, dict) for part in parts):  # nobody has checked it yet
            continue
        (named, performance), rate = parts, parts[1].get("tokens_per_second")
        if named.get("name") == model and performance.get("device") == device and isinstance(rate, int | float):
            rates.append(rate)
    return [rate for rate in rates if rate > 0]


_PROBE_TOKENS, _PROBE_SECONDS, _PROBE_STEPS = 512, 1.5, 4


class _Enough(Exception):
    """Ends the training of a probe."""


def probe(checkpoint: str, head: str, speed: PerformanceSettings, *, length: float) -> float:
    """Time a few steps of fine-tuning on made-up ids, in tokens per second; the first one warms up.

    Args:
        checkpoint: the encoder to train.
        head: a key of `models.checkpoints.HEAD_FORMS`.
        length: mean tokens per example.

    Raises:
        UserError: unusable weights.
    """
    model = checkpoints.load_with_new_head(checkpoint, head, ["A", "B"], seed=0).model
    length = max(min(int(length), longest_input(model.config) or _PROBE_TOKENS, _PROBE_TOKENS), 3)
    rows = min(max(_PROBE_TOKENS // length, 1), 16)
    features = [_made_up(number, head, length, model.config.vocab_size) for number in range(rows * (_PROBE_STEPS + 1))]
    learner, ends = Learner(model, head, plan(speed, model.config)), []

    def note() -> None:
        ends.append(time.perf_counter())
        if len(ends) > _PROBE_STEPS or (len(ends) > 1 and ends[-1] - ends[0] > _PROBE_SECONDS):
            raise _Enough

    learner.after_step = note
    try:
        hyperparameters = FinetuneHyperparameters(1e-5, epochs=1, batch_size=rows)
        learner.fit(features, hyperparameters, seed=0, after_epoch=lambda number: True, monitor=Monitor(silent=True))
    except _Enough:
        pass
    finally:
        learner.close()
    return rows * length * (len(ends) - 1) / max(ends[-1] - ends[0], 1e-9)


def _made_up(number: int, head: str, length: int, vocabulary: int) -> Feature:
    ids = np.random.default_rng(number).integers(vocabulary, size=length).tolist()
    target = {
        "token": {"labels": [0] * length},
        "sequence": {"labels": 0},
        "multilabel": {"labels": [0.0, 1.0]},
        "regression": {"labels": 0.5},
        "span": {"start": 0, "end": 1},
    }[head]
    return {"input_ids": ids, "example": number, **target}
