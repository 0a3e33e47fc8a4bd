"""`compact-biomed bench finetune`: fine-tuning for entities as `evaluate` does it, beside the plain way.

The plain way: transformers' model in fp32, batches in random order padded to the longest,
every embedding in the optimizer. Same start weights, same sentences, same order, same schedule;
in turns, so that a busy spell of the machine hits both. Each seed is trained both ways and both
models answer the same test set: what is fast must also be as good.
"""

import argparse
import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from transformers import get_scheduler

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.readers import read
from compact_biomed.console import say
from compact_biomed.engine.plan import plan
from compact_biomed.errors import UsageError
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Feature, Learner, decay_groups, epoch, padded
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.machine import Speed
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.objectives import IGNORED
from compact_biomed.records import append_record, origin
from compact_biomed.report.render import score
from compact_biomed.report.statistics import paired_difference, summarize

# ----------------------------------------------------------------------------------------------------
# One seed fine-tuned both ways, and the test set answered by both models.


_WARM_UP = 4  # batches


class Pairs:
    """A task, its examples encoded, and how they are trained on.

    Args:
        options: of `compact-biomed bench finetune`.

    Raises:
        UserError: a task or model that cannot be used.
    """

    def __init__(self, options: argparse.Namespace):
        self.start, self.task = options.model, tasks.task_named(options.task)
        self.kind = KINDS[self.task.kind]
        if self.kind.head != "token":
            raise UsageError("not a set of entities", where=f"--task {options.task}")
        splits = read(self.task, tasks.find(self.task, options.data))
        self.labels, self.asked = self.kind.labels(splits), splits.test
        overrides = protocols.Overrides(options.learning_rate, options.epochs, options.examples)
        published = protocols.protocol("published", self.task, len(splits.train), overrides)
        self.settings = replace(published.hyperparameters, learning_rate=published.learning_rates[0])
        model = self._model(seed=0)
        tokenizer = checkpoints.load_tokenizer(self.start, model.config)
        encoding = {"labels": self.labels, "max_length": self.settings.max_length, "level": published.level}
        self.level = published.level
        self.trained = self.kind.encode(
            protocols.training_examples(splits, published, overrides), tokenizer, **encoding
        )
        self.test = self.kind.encode(self.asked, tokenizer, **encoding)
        self.machine = plan(Speed(), model.config)

    @property
    def told(self) -> str:
        """What is trained on, in words."""
        return (
            f"{self.task.name}: {len(self.trained):,} sentences, {self.settings.epochs} epochs, "
            f"batches of {self.settings.batch_size}, {self.machine.device}"
        )

    def record(self) -> dict[str, Any]:
        """What the turns have in common."""
        return {
            "kind": "bench-finetune", "model": self.start, "task": self.task.name, "version": self.task.version,
            "examples": len(self.trained), "test_examples": len(self.test), "metric": self.task.metric,
            "settings": vars(self.settings), "precision": str(self.machine.dtype).removeprefix("torch."),
            "replicas": self.machine.replicas, "device": self.machine.device,
        }  # fmt: skip

    def warm_up(self) -> None:
        """A few batches both ways, not counted."""
        self._turn(
            self.trained[: _WARM_UP * self.settings.batch_size], self.test[:16], self.asked[:16], seed=0, epochs=1
        )

    def turn(self, seed: int) -> dict[str, Any]:
        """Seconds, tokens and scores of both ways for one seed."""
        return self._turn(self.trained, self.test, self.asked, seed=seed, epochs=self.settings.epochs)

    def _turn(self, trained: Sequence[Feature], test, asked, *, seed: int, epochs: int) -> dict[str, Any]:
        settings = replace(self.settings, epochs=epochs)
        plain = self._model(seed=seed)
        seconds_plain = _seconds(lambda: plain_training(plain, trained, settings, seed=seed))
        answers_plain, answer_seconds_plain = _timed(lambda: plain_logits(plain, test, settings.batch_size))
        learner = Learner(self._model(seed=seed), self.kind.head, self.machine)
        try:
            fitted = learner.fit(trained, settings, seed=seed, after_epoch=lambda number: None)
            answers, answer_seconds = _timed(lambda: learner.logits(test))
        finally:
            learner.close()
        return {
            "seed": seed, "tokens": fitted.tokens, "seconds": fitted.seconds, "seconds_plain": seconds_plain,
            "answer_seconds": answer_seconds, "answer_seconds_plain": answer_seconds_plain,
            "score": self._score(asked, test, answers), "score_plain": self._score(asked, test, answers_plain),
        }  # fmt: skip

    def _model(self, *, seed: int):
        return checkpoints.load_with_new_head(self.start, self.kind.head, self.labels, seed=seed).model

    def _score(self, asked, test, logits) -> float:
        predictions = self.kind.decode(asked, test, logits, labels=self.labels, level=self.level)
        return self.kind.score(asked, predictions).metrics[self.task.metric]


def plain_training(model, features: Sequence[Feature], settings: FinetuneHyperparameters, *, seed: int) -> None:
    """Token classification as one writes it with transformers and torch."""
    torch.manual_seed(seed)
    optimizer = torch.optim.AdamW(decay_groups(model, settings.weight_decay), lr=settings.learning_rate, fused=True)
    total = math.ceil(len(features) / settings.batch_size) * settings.epochs
    schedule = get_scheduler(settings.schedule, optimizer, math.ceil(settings.warmup * total), total)
    model.train()
    for number in range(settings.epochs):
        for rows in epoch(len(features), settings.batch_size, seed=seed, number=number):
            chosen = [features[i] for i in rows]
            inputs = _inputs(chosen, model.config.pad_token_id)
            labels = padded([feature["labels"] for feature in chosen], inputs["input_ids"].shape[1], IGNORED)
            model(**inputs, labels=labels).loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), settings.max_grad_norm)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()


@torch.inference_mode()
def plain_logits(model, features: Sequence[Feature], batch_size: int) -> list:
    """Logits [length, labels] of each feature, batches in the order of the file."""
    model.eval()
    found = []
    for first in range(0, len(features), batch_size):
        chosen = features[first : first + batch_size]
        logits = model(**_inputs(chosen, model.config.pad_token_id)).logits.numpy()
        found += [one[: len(feature["input_ids"])] for one, feature in zip(logits, chosen, strict=True)]
    return found


def _inputs(features: Sequence[Feature], pad_id: int) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([len(feature["input_ids"]) for feature in features])
    width = int(lengths.max())
    ids = padded([feature["input_ids"] for feature in features], width, pad_id)
    return {"input_ids": ids, "attention_mask": (torch.arange(width) < lengths[:, None]).long()}


def _timed(work) -> tuple[Any, float]:
    start = time.perf_counter()
    result = work()
    return result, time.perf_counter() - start


def _seconds(work) -> float:
    return _timed(work)[1]


def run(options: argparse.Namespace) -> int:
    """Measure, print, record."""

    quiet_transformers()
    pairs = Pairs(options)
    say(f"{options.model} on {pairs.told}")
    pairs.warm_up()
    turns = []
    for seed in options.seeds:
        turns.append(pairs.turn(seed))
        say("  " + _told(turns[-1]))
    result = {**pairs.record(), **summary(turns), "turns": turns, "from": origin()}
    rates = f"plain {result['tokens_per_s_plain']:,.0f} tokens/s, ours {result['tokens_per_s']:,.0f}"
    say(f"training: {rates}, ratio {result['ratio']:.2f}; test set: ratio {result['ratio_of_answers']:.2f}")
    say(f"{result['metric']}: plain {_mean(turns, 'score_plain')}, ours {_mean(turns, 'score')}; {_difference(result)}")
    if options.records:
        append_record(options.records, result)
    return 0


def summary(turns: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the turns, and the mean difference of the scores with its 95 % interval (paired t).

    Args:
        turns: of each seed what `Pairs.turn` gives.
    """
    ours, plain = ([turn[name] for turn in turns] for name in ("score", "score_plain"))
    differences = [a - b for a, b in zip(ours, plain, strict=True)]
    interval = None
    if len(set(differences)) > 1:
        found = paired_difference(ours, plain)
        interval = [found.low, found.high]
    middle = {
        "ratio": [turn["seconds_plain"] / turn["seconds"] for turn in turns],
        "ratio_of_answers": [turn["answer_seconds_plain"] / turn["answer_seconds"] for turn in turns],
        "tokens_per_s": [turn["tokens"] / turn["seconds"] for turn in turns],
        "tokens_per_s_plain": [turn["tokens"] / turn["seconds_plain"] for turn in turns],
    }
    medians = {name: statistics.median(values) for name, values in middle.items()}
    return {**medians, "score_difference": statistics.fmean(differences), "score_difference_interval": interval}


def _told(turn: dict[str, Any]) -> str:
    return (
        f"seed {turn['seed']}: plain {turn['seconds_plain']:.1f} s, {turn['score_plain']:.2f}; "
        f"ours {turn['seconds']:.1f} s, {turn['score']:.2f}; ratio {turn['seconds_plain'] / turn['seconds']:.2f}"
    )


def _mean(turns: list[dict[str, Any]], name: str) -> str:

    return score(summarize([turn[name] for turn in turns]), "±")


def _difference(result: dict[str, Any]) -> str:
    interval = result["score_difference_interval"]
    bounds = f", 95 % interval {interval[0]:+.2f} to {interval[1]:+.2f}" if interval else ""
    return f"difference {result['score_difference']:+.2f}{bounds}"
