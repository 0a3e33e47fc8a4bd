"""Time fine-tuning for entities as `evaluate` does it, beside the plain way and tuned transformers.

All start from the same weights and see the same sentences as often, in batches of the same size, under the same
schedule. They take turns, so that a busy spell of the machine hits all of them. Per seed one model is trained in each
way and scored on the test set: what is fast must also be as good.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from transformers import PreTrainedModel

from compact_biomed.bench import timed
from compact_biomed.bench.finetune_peers import plain_logits, plain_training, tuned_logits, tuned_training
from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.readers import read
from compact_biomed.console import say
from compact_biomed.engine.plan import plan
from compact_biomed.errors import UsageError
from compact_biomed.evaluation import protocols
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Feature, Learner
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import quiet_transformers
from compact_biomed.records.provenance import origin
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
    """Fine-tune in all ways, once per seed, and return the record.

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
            f"  seed {seed}: published {turn['seconds_plain']:.1f} s, {turn['score_plain']:.2f}; "
            f"tuned {turn['seconds_tuned']:.1f} s, {turn['score_tuned']:.2f}; "
            f"ours {turn['seconds']:.1f} s, {turn['score']:.2f}; "
            f"ratio {turn['seconds_plain'] / turn['seconds']:.2f} to published, "
            f"{turn['seconds_tuned'] / turn['seconds']:.2f} to tuned"
        )
    return {**comparison.description(), **summarize_turns(turns), "turns": turns, "from": origin()}


class FinetuneComparison:
    """All ways to fine-tune a model on a task, with the encoded examples; see `measure_finetuning`."""

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
            "precision": self.machine.precision,
            "tuned": self.tuned_settings(),
            "replicas": self.machine.replicas,
            "device": self.machine.device,
        }

    def tuned_settings(self) -> dict[str, str]:
        """Return how tuned transformers trains."""
        precision = self.machine.precision
        batches = "grouped by length (group_by_length)"
        return {"precision": precision, "attention": "sdpa", "batches": batches, "optimizer": "AdamW, fused"}

    def warm_up(self) -> None:
        """Train on a few batches in all ways, without measuring."""
        train = self.train[: _WARM_UP_BATCHES * self.settings.batch_size]
        self._turn(train, self.test[:16], self.test_examples[:16], seed=0, epochs=1)

    def turn(self, seed: int) -> dict[str, Any]:
        """Fine-tune in all ways with one seed and return seconds, tokens and scores."""
        return self._turn(self.train, self.test, self.test_examples, seed=seed, epochs=self.settings.epochs)

    def _turn(self, train: Sequence[Feature], test, test_examples, *, seed: int, epochs: int) -> dict[str, Any]:
        settings = replace(self.settings, epochs=epochs)
        plain = self._model(seed=seed)
        _, seconds_plain = timed(lambda: plain_training(plain, train, settings, seed=seed))
        logits_plain, answer_seconds_plain = timed(lambda: plain_logits(plain, test, settings.batch_size))
        tuned, dtype = self._model(seed=seed), self.machine.dtype
        _, seconds_tuned = timed(lambda: tuned_training(tuned, train, settings, seed=seed, dtype=dtype))
        logits_tuned, answer_seconds_tuned = timed(lambda: tuned_logits(tuned, test, dtype))
        learner = Learner(self._model(seed=seed), self.kind.head, self.machine)
        try:
            fitted = learner.fit(train, settings, seed=seed, after_epoch=lambda number: None)
            logits, answer_seconds = timed(lambda: learner.logits(test))
        finally:
            learner.close()
        return {
            "seed": seed,
            "tokens": fitted.tokens,
            "seconds": fitted.seconds,
            "seconds_plain": seconds_plain,
            "seconds_tuned": seconds_tuned,
            "answer_seconds": answer_seconds,
            "answer_seconds_plain": answer_seconds_plain,
            "answer_seconds_tuned": answer_seconds_tuned,
            "score": self._score(test_examples, test, logits),
            "score_plain": self._score(test_examples, test, logits_plain),
            "score_tuned": self._score(test_examples, test, logits_tuned),
        }

    def _model(self, *, seed: int) -> PreTrainedModel:
        return checkpoints.load_with_new_head(self.start, self.kind.head, self.labels, seed=seed).model

    def _score(self, examples, features, logits) -> float:
        predictions = self.kind.decode(examples, features, logits, labels=self.labels, level=self.level)
        return self.kind.score(examples, predictions).metrics[self.task.metric]


def summarize_turns(turns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return medians over the turns, and the mean differences of the scores with their 95 % intervals (paired t).

    An interval is None where all differences are equal.

    Args:
        turns: what `FinetuneComparison.turn` returned, per seed.
    """

    def median(value: Callable[[dict[str, Any]], float]) -> float:
        return statistics.median(map(value, turns))

    summary: dict[str, Any] = {"tokens_per_s": median(lambda turn: turn["tokens"] / turn["seconds"])}
    for side, to in (("plain", ""), ("tuned", "_to_tuned")):
        seconds, answers, scores = f"seconds_{side}", f"answer_seconds_{side}", f"score_{side}"
        ours, theirs = [turn["score"] for turn in turns], [turn[scores] for turn in turns]
        differences = [a - b for a, b in zip(ours, theirs, strict=True)]
        interval = paired_difference(ours, theirs) if len(set(differences)) > 1 else None
        summary |= {
            f"ratio{to}": median(lambda turn, name=seconds: turn[name] / turn["seconds"]),
            f"ratio_of_answers{to}": median(lambda turn, name=answers: turn[name] / turn["answer_seconds"]),
            f"tokens_per_s_{side}": median(lambda turn, name=seconds: turn["tokens"] / turn[name]),
            f"score_difference{to}": statistics.fmean(differences),
            f"score_difference{to}_interval": [interval.low, interval.high] if interval else None,
        }
    return summary
