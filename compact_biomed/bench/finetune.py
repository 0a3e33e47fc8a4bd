"""Time fine-tuning for entities as `evaluate` does it, beside the plain way.

The plain way is transformers' model in fp32, with batches in random order padded to the longest sentence and every
embedding in the optimizer. Both sides start from the same weights and see the same sentences in the same order under
the same schedule. They take turns, so that a busy spell of the machine hits both. Per seed one model is trained in each
way, and both are scored on the test set: what is fast must also be as good.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn
from transformers import PreTrainedModel, get_scheduler

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.readers import read
from compact_biomed.console import say
from compact_biomed.engine.plan import plan
from compact_biomed.errors import UsageError
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.descent import decay_groups
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Feature, Learner, epoch, padded
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.objectives import IGNORED
from compact_biomed.records import origin
from compact_biomed.report.statistics import paired_difference

_WARM_UP_BATCHES = 4
T = TypeVar("T")


def measure_finetuning(
    model: str,
    task: str,
    seeds: Sequence[int],
    *,
    data: Path | None = None,
    overrides: protocols.Overrides | None = None,
) -> dict[str, Any]:
    """Fine-tune in both ways, once per seed, and return the record.

    Args:
        model: checkpoint to start from.
        task: name of a set of entities.
        data: folder of the benchmarks' files; by default the one that COMPACT_BIOMED_DATA names.
        overrides: replace settings of the published protocol.

    Raises:
        UserError: the task or the model cannot be used.
    """
    quiet_transformers()
    comparison = FinetuneComparison(model, task, data=data, overrides=overrides or protocols.Overrides())
    say(
        f"{model} on {task}: {len(comparison.train):,} sentences, {comparison.settings.epochs} epochs, "
        f"batches of {comparison.settings.batch_size}, {comparison.machine.device}"
    )
    comparison.warm_up()
    turns = []
    for seed in seeds:
        turn = comparison.turn(seed)
        turns.append(turn)
        say(
            f"  seed {seed}: plain {turn['seconds_plain']:.1f} s, {turn['score_plain']:.2f}; "
            f"ours {turn['seconds']:.1f} s, {turn['score']:.2f}; ratio {turn['seconds_plain'] / turn['seconds']:.2f}"
        )
    return {**comparison.description(), **summarize_turns(turns), "turns": turns, "from": origin()}


class FinetuneComparison:
    """Both ways to fine-tune a model on a task, with the encoded examples; see `measure_finetuning`."""

    def __init__(self, model: str, task: str, *, data: Path | None, overrides: protocols.Overrides):
        self.start, self.task = model, tasks.task_named(task)
        self.kind = KINDS[self.task.kind]
        if self.kind.head != "token":
            raise UsageError("not a set of entities", where=f"--task {task}", remedy="--task NCBI-disease")
        splits = read(self.task, tasks.find(self.task, data))
        self.labels, self.test_examples = self.kind.labels(splits), splits.test
        published = protocols.protocol("published", self.task, len(splits.train), overrides)
        self.settings = replace(published.hyperparameters, learning_rate=published.learning_rates[0])
        self.level = published.level
        config = self._model(seed=0).config
        tokenizer = checkpoints.load_tokenizer(self.start, config)
        encoding = {"labels": self.labels, "max_length": self.settings.max_length, "level": self.level}
        train = protocols.training_examples(splits, published, overrides)
        self.train = self.kind.encode(train, tokenizer, **encoding)
        self.test = self.kind.encode(self.test_examples, tokenizer, **encoding)
        self.machine = plan(PerformanceSettings(), config)

    def description(self) -> dict[str, Any]:
        """Return the part of the record that all turns have in common."""
        return {
            "kind": "bench-finetune",
            "model": self.start,
            "task": self.task.name,
            "version": self.task.version,
            "examples": len(self.train),
            "test_examples": len(self.test),
            "metric": self.task.metric,
            "settings": vars(self.settings),
            "precision": str(self.machine.dtype).removeprefix("torch."),
            "replicas": self.machine.replicas,
            "device": self.machine.device,
        }

    def warm_up(self) -> None:
        """Train on a few batches in both ways, without measuring."""
        train = self.train[: _WARM_UP_BATCHES * self.settings.batch_size]
        self._turn(train, self.test[:16], self.test_examples[:16], seed=0, epochs=1)

    def turn(self, seed: int) -> dict[str, Any]:
        """Fine-tune in both ways with one seed and return seconds, tokens and scores."""
        return self._turn(self.train, self.test, self.test_examples, seed=seed, epochs=self.settings.epochs)

    def _turn(self, train: Sequence[Feature], test, test_examples, *, seed: int, epochs: int) -> dict[str, Any]:
        settings = replace(self.settings, epochs=epochs)
        plain = self._model(seed=seed)
        _, seconds_plain = _timed(lambda: plain_training(plain, train, settings, seed=seed))
        logits_plain, answer_seconds_plain = _timed(lambda: plain_logits(plain, test, settings.batch_size))
        learner = Learner(self._model(seed=seed), self.kind.head, self.machine)
        try:
            fitted = learner.fit(train, settings, seed=seed, after_epoch=lambda number: None)
            logits, answer_seconds = _timed(lambda: learner.logits(test))
        finally:
            learner.close()
        return {
            "seed": seed,
            "tokens": fitted.tokens,
            "seconds": fitted.seconds,
            "seconds_plain": seconds_plain,
            "answer_seconds": answer_seconds,
            "answer_seconds_plain": answer_seconds_plain,
            "score": self._score(test_examples, test, logits),
            "score_plain": self._score(test_examples, test, logits_plain),
        }

    def _model(self, *, seed: int) -> PreTrainedModel:
        return checkpoints.load_with_new_head(self.start, self.kind.head, self.labels, seed=seed).model

    def _score(self, examples, features, logits) -> float:
        predictions = self.kind.decode(examples, features, logits, labels=self.labels, level=self.level)
        return self.kind.score(examples, predictions).metrics[self.task.metric]


def plain_training(
    model: PreTrainedModel, features: Sequence[Feature], settings: FinetuneHyperparameters, *, seed: int
) -> None:
    """Train a token classifier as one writes it with transformers and torch."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate, fused=True)
    total = math.ceil(len(features) / settings.batch_size) * settings.epochs
    schedule = get_scheduler(settings.schedule, optimizer, math.ceil(settings.warmup * total), total)
    model.train()
    for number in range(settings.epochs):
        for rows in epoch(len(features), settings.batch_size, seed=seed, number=number):
            batch = [features[i] for i in rows]
            inputs = _inputs(batch, model.config.pad_token_id)
            labels = padded([feature["labels"] for feature in batch], inputs["input_ids"].shape[1], IGNORED)
            model(**inputs, labels=labels).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.inference_mode()
def plain_logits(model: PreTrainedModel, features: Sequence[Feature], batch_size: int) -> list[np.ndarray]:
    """Return the logits [length, labels] of each feature, computed in batches in the order of the file."""
    model.eval()
    logits_of_features = []
    for first in range(0, len(features), batch_size):
        batch = features[first : first + batch_size]
        logits = model(**_inputs(batch, model.config.pad_token_id)).logits.numpy()
        logits_of_features += [row[: len(feature["input_ids"])] for row, feature in zip(logits, batch, strict=True)]
    return logits_of_features


def _inputs(features: Sequence[Feature], pad_id: int) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([len(feature["input_ids"]) for feature in features])
    width = int(lengths.max())
    ids = padded([feature["input_ids"] for feature in features], width, pad_id)
    return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def summarize_turns(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the turns, and the mean difference of the scores with its 95 % interval (paired t).

    The interval is None where all differences are equal.

    Args:
        turns: what `FinetuneComparison.turn` returned, per seed.
    """
    ours, plain = ([turn[name] for turn in turns] for name in ("score", "score_plain"))
    differences = [a - b for a, b in zip(ours, plain, strict=True)]
    bounds = None
    if len(set(differences)) > 1:
        interval = paired_difference(ours, plain)
        bounds = [interval.low, interval.high]
    values = {
        "ratio": [turn["seconds_plain"] / turn["seconds"] for turn in turns],
        "ratio_of_answers": [turn["answer_seconds_plain"] / turn["answer_seconds"] for turn in turns],
        "tokens_per_s": [turn["tokens"] / turn["seconds"] for turn in turns],
        "tokens_per_s_plain": [turn["tokens"] / turn["seconds_plain"] for turn in turns],
    }
    medians = {name: statistics.median(of_turns) for name, of_turns in values.items()}
    return {**medians, "score_difference": statistics.fmean(differences), "score_difference_interval": bounds}
