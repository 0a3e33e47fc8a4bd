"""Fine-tune a checkpoint on a task and let it answer: one run, and the search before it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.console import say
from compact_biomed.engine.plan import Plan, plan
from compact_biomed.errors import UserError
from compact_biomed.evaluation.kinds import KINDS, predictions
from compact_biomed.evaluation.learner import Diverged, Fitted, Learner
from compact_biomed.evaluation.protocols import SEARCH_SEED, Protocol, Settings
from compact_biomed.evaluation.scoring import Scores
from compact_biomed.machine import Speed, give_back_free_memory
from compact_biomed.models import checkpoints
from compact_biomed.records import in_turns


class Method:
    """How a model learns its task: here, from labels alone. `task_distillation.method` has another.

    Attributes:
        science: what of it decides the result, for the name of a run.
        further: examples that are read besides the task's own.
    """

    science: Mapping[str, Any] = {}
    further = 0

    def about(self) -> dict[str, Any]:
        """What the protocol's part of a record says of it."""
        return {}

    def of_model(self, outcome: "Outcome") -> dict[str, Any]:
        """What the model's part of a record says of it, in place of what the checkpoint itself tells."""
        return {}

    def build(self, work: "Assignment", head: str, *, seed: int) -> checkpoints.TaskModel:
        """The model that is trained: the checkpoint's encoder under a new head, which the seed decides."""
        return checkpoints.build(work.checkpoint, head, work.labels, seed=seed)

    def features(self, work: "Assignment", tokenizer: "PreTrainedTokenizerFast", encoding: dict[str, Any]) -> list:
        """What the learner reads: `work.train` encoded."""
        return KINDS[work.task.kind].encode(work.train, tokenizer, **encoding)

    def learner(self, model: "PreTrainedModel", head: str, machine: Plan) -> Learner:
        return Learner(model, head, machine)


FROM_LABELS = Method()


@dataclass(frozen=True)
class Assignment:
    """What is learned, and what is asked.

    Args:
        checkpoint: as `models.start.find_checkpoint` takes it.
        task: for its kind and primary metric.
        labels: of the kind, `Kind.labels`.
        level: of the labels, see `kinds`.
        train, asked: examples.
        method: how it is learned.
    """

    checkpoint: str
    task: Task
    labels: Sequence[str]
    level: str
    train: Sequence[Example]
    asked: Sequence[Example]
    method: Method = FROM_LABELS


@dataclass(frozen=True)
class Outcome:
    """What came of a run.

    Args:
        by_epoch: primary metric after each epoch, where that was wanted, else of the end alone.
        random: weights of the encoder that the checkpoint lacks.
    """

    scores: Scores
    predictions: list[Any]
    by_epoch: list[float]
    fitted: Fitted
    machine: Plan
    model: "PreTrainedModel"
    tokenizer: "PreTrainedTokenizerFast"
    max_length: int
    random: list[str]


def fine_tune(work: Assignment, settings: Settings, *, seed: int, speed: Speed, each_epoch: bool = False) -> Outcome:
    """Train on `work.train`, then answer and score `work.asked`.

    Args:
        seed: decides the head's start weights, the order and dropout.
        each_epoch: score after each epoch too.

    Raises:
        UserError: weights or tokenizer that cannot be used, or training that diverged.
    """
    kind = KINDS[work.task.kind]
    built = work.method.build(work, kind.head, seed=seed)
    tokenizer = checkpoints.load_tokenizer(work.checkpoint, built.model.config)
    limit = checkpoints.longest_input(built.model.config) or settings.max_length
    length = min(settings.max_length, limit)
    encoding = {"labels": work.labels, "max_length": length, "level": work.level}
    machine = plan(speed, built.model.config)
    learner = work.method.learner(built.model, kind.head, machine)

    def answers() -> list[Any]:
        found: list[Any] = []
        for some in predictions(kind, work.asked, tokenizer, learner.logits, encoding):
            found += some
            give_back_free_memory()
        return found

    by_epoch: list[float] = []

    def score_epoch(number: int) -> None:
        if each_epoch:
            by_epoch.append(kind.score(work.asked, answers()).metrics[work.task.metric])

    try:
        features = work.method.features(work, tokenizer, encoding)
        fitted = learner.fit(features, settings, seed=seed, after_epoch=score_epoch)
        answered = answers()
    finally:
        learner.close()
    scores = kind.score(work.asked, answered)
    return Outcome(
        scores=scores, predictions=answered, by_epoch=by_epoch or [scores.metrics[work.task.metric]],
        fitted=fitted, machine=machine, model=built.model,
        tokenizer=tokenizer, max_length=length, random=built.random,
    )  # fmt: skip


def search(
    work: Assignment,
    protocol: Protocol,
    *,
    speed: Speed,
    once: Callable[[float, Callable[[], list[float]]], list[float] | None],
) -> tuple[Settings, list[dict[str, Any]]]:
    """Choose learning rate and epochs by the primary metric on dev.

    Args:
        work: `asked` is dev.
        once: (a learning rate, what tries it) -> its scores by epoch: known ones, or those of the trial, which
            it keeps; None if another process is at it.

    Returns:
        The chosen settings, and for each learning rate its scores after each epoch, none if it
        diverged. Of equal scores the fewer epochs and then the lower learning rate win.

    Raises:
        UserError: every learning rate diverged.
    """

    def dev(rate: float) -> list[float] | None:
        by_epoch = once(rate, lambda: _try(work, protocol, rate, speed))
        if by_epoch is not None:
            said = f"{work.task.metric} {max(by_epoch):.2f}" if by_epoch else "diverged"
            say(f"  learning rate {rate:g}: {said} on dev")
        return by_epoch

    by_rate: dict[float, list[float]] = {}
    busy: list[float] = []
    for rate, _ in in_turns(protocol.learning_rates, busy):
        by_epoch = dev(rate)
        if by_epoch is None:
            busy.append(rate)
        else:
            by_rate[rate] = by_epoch
    tried = [{"learning_rate": rate, "dev": by_rate[rate]} for rate in protocol.learning_rates]
    scores = [score for each in tried for score in each["dev"]]
    if not scores:
        raise UserError(f"training diverged at every learning rate on {work.task.name}", where=work.checkpoint)
    best = [(each["dev"].index(max(scores)) + 1, each["learning_rate"]) for each in tried if max(scores) in each["dev"]]
    epochs, rate = min(best)
    chosen = replace(protocol.settings, learning_rate=rate)
    return (replace(chosen, stop_after=epochs) if protocol.choose_epochs else chosen), tried


def _try(work: Assignment, protocol: Protocol, rate: float, speed: Speed) -> list[float]:
    settings = replace(protocol.settings, learning_rate=rate)
    try:
        return fine_tune(work, settings, seed=SEARCH_SEED, speed=speed, each_epoch=protocol.choose_epochs).by_epoch
    except Diverged:
        return []
