"""Fine-tune a checkpoint on a task and score its predictions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.console import progress
from compact_biomed.engine.plan import ComputePlan, plan
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, predict
from compact_biomed.evaluation.learner import Learner, TrainingStats
from compact_biomed.evaluation.monitor import Monitor
from compact_biomed.evaluation.protocols import FinetuneHyperparameters
from compact_biomed.evaluation.scoring import Scores
from compact_biomed.machine import PerformanceSettings, give_back_free_memory
from compact_biomed.models import checkpoints
from compact_biomed.models.positions import longest_input


class Method:
    """A way to learn a task; this one learns from labels alone. Subclasses are in `compression`.

    Attributes:
        hyperparameters: its part of a run's key: everything about it that decides the result.
        extra_examples: number of training examples besides those of the task.
        teacher_model: reads all that is trained on, for all runs once, or in each step; None = there is none.
        teacher_in_step: whether it reads in each step.
    """

    hyperparameters: Mapping[str, Any] = {}
    extra_examples = 0
    teacher_model: PreTrainedModel | None = None
    teacher_in_step = False

    def further_examples(self, kind: str) -> Sequence[Example]:
        """Return the training examples besides those of the task, whose labels are not read.

        Args:
            kind: of the task.
        """
        return ()

    def protocol_fields(self) -> dict[str, Any]:
        """Return further fields of the record's protocol."""
        return {}

    def model_fields(self, outcome: "Outcome") -> dict[str, Any]:
        """Return fields of the record's model that replace those of the checkpoint."""
        return {}

    def build(self, work: "Assignment", head: str, *, seed: int) -> checkpoints.TaskModel:
        """Return the model to train: the checkpoint's encoder under a new head, initialized by the seed."""
        return checkpoints.load_with_new_head(work.checkpoint, head, work.labels, seed=seed)

    def features(
        self, work: "Assignment", tokenizer: PreTrainedTokenizerFast, encoding: dict[str, Any]
    ) -> list[Feature]:
        """Return the training set: `work.train`, encoded."""
        return KINDS[work.task.kind].encode(work.train, tokenizer, **encoding)

    def learner(self, model: PreTrainedModel, head: str, machine: ComputePlan) -> Learner:
        """Return the learner that trains the model."""
        return Learner(model, head, machine)


FROM_LABELS = Method()


@dataclass(frozen=True)
class Assignment:
    """The data of one fine-tuning.

    Args:
        checkpoint: a start name as in `models.locate.find_checkpoint`.
        task: decides kind and primary metric.
        labels: see `Kind.labels`.
        level: of the labels, see `evaluation.kinds`.
        train: examples to train on.
        scored: examples to predict and score.
        method: way to learn.
        intermediate: examples to train on before, if the hyperparameters ask for it.
        unseen: further examples to predict, that were not trained on: thresholds are chosen on them.
    """

    checkpoint: str
    task: Task
    labels: Sequence[str]
    level: str
    train: Sequence[Example]
    scored: Sequence[Example]
    method: Method = FROM_LABELS
    intermediate: Sequence[Example] = ()
    unseen: Sequence[Example] = ()


@dataclass(frozen=True)
class Outcome:
    """The result of one fine-tuning.

    Args:
        predictions: of `Assignment.scored`.
        by_epoch: primary metric after each epoch if that was requested, else at the end alone.
        fitted: steps, tokens and seconds of the training, those on intermediate examples included, and its last loss.
        machine: the performance settings, as resolved.
        max_length: longest input in tokens, at most the model's limit.
        random_weights: encoder weights that the checkpoint lacks.
        of_unseen: predictions of `Assignment.unseen`.
    """

    scores: Scores
    predictions: list[Any]
    by_epoch: list[float]
    fitted: TrainingStats
    machine: ComputePlan
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    max_length: int
    random_weights: list[str]
    of_unseen: Sequence[Any] = ()


def fine_tune(
    work: Assignment,
    hyperparameters: FinetuneHyperparameters,
    *,
    seed: int,
    speed: PerformanceSettings,
    each_epoch: bool = False,
    patience: int | None = None,
    monitor: Monitor | None = None,
) -> Outcome:
    """Train on `work.train`, then predict and score `work.scored`.

    Args:
        seed: of the head's initialization, the order and dropout.
        speed: performance settings.
        each_epoch: score after every epoch too.
        patience: of scored epochs, stop after so many in a row that are not better than the best.
        monitor: shows progress; it may hold a checkpoint of this run, from which it then continues.

    Raises:
        UserError: unusable weights or tokenizer, or a training that diverged.
    """
    kind = KINDS[work.task.kind]
    built = work.method.build(work, kind.head, seed=seed)
    tokenizer = checkpoints.load_tokenizer(work.checkpoint, built.model.config)
    limit = longest_input(built.model.config) or hyperparameters.max_length
    length = min(hyperparameters.max_length, limit)
    encoding = {"labels": work.labels, "max_length": length, "level": work.level}
    machine = plan(speed, built.model.config)
    learner = work.method.learner(built.model, kind.head, machine)
    monitor = monitor or Monitor()
    at_end: tuple[list[Any], Scores] | None = None  # after the last epoch, if every epoch is scored

    def predict_all(examples: Sequence[Example] = work.scored) -> list[Any]:
        predictions: list[Any] = []
        with progress(total=len(examples), desc="predicting", unit=" examples", leave=False, delay=2) as bar:
            for chunk in predict(kind, examples, tokenizer, learner.logits, encoding):
                predictions += chunk
                bar.update(len(chunk))
                give_back_free_memory()
        return predictions

    def predict_and_score() -> tuple[list[Any], Scores]:
        predictions = predict_all()
        return predictions, kind.score(work.scored, predictions)

    def score_epoch(number: int) -> bool:
        nonlocal at_end
        if each_epoch:
            at_end = predict_and_score()
            monitor.scored(work.task.metric, at_end[1].metrics[work.task.metric])
        by_epoch = monitor.position.scores
        return patience is not None and number - (by_epoch.index(max(by_epoch)) + 1) >= patience

    try:
        monitor.resume(machine)
        monitor.open(built.model, hyperparameters, seed=seed)
        if hyperparameters.intermediate_epochs and monitor.position.before is None:
            features = kind.encode(work.intermediate, tokenizer, **encoding)
            options = {"seed": seed, "after_epoch": lambda number: False, "monitor": monitor}
            monitor.next_phase(learner.fit(features, hyperparameters.before(), **options))
        before = TrainingStats(*(monitor.position.before or (0, 0, 0.0, 0.0)))
        features = work.method.features(work, tokenizer, encoding)
        fitted = learner.fit(features, hyperparameters, seed=seed, after_epoch=score_epoch, monitor=monitor)
        predictions, scores = at_end or predict_and_score()
        of_unseen = predict_all(work.unseen)
        monitor.finished(scores.metrics)
    finally:
        learner.close()
        monitor.close()
    by_epoch = monitor.position.scores
    return Outcome(
        scores=scores,
        predictions=predictions,
        by_epoch=by_epoch or [scores.metrics[work.task.metric]],
        fitted=fitted.after(before),
        machine=machine,
        model=built.model,
        tokenizer=tokenizer,
        max_length=length,
        random_weights=built.random,
        of_unseen=of_unseen,
    )
