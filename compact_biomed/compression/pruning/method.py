"""Fine-tune a pruned model: `AfterPruning` is the `evaluation.finetune.Method` by which it learns its task again."""

import copy
from pathlib import Path
from typing import Any, NamedTuple, Unpack

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.own import OwnData
from compact_biomed.benchmarks.recorded import task_of_record
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compression.pruning.importance import Importance, layers, magnitude, taylor
from compact_biomed.compression.pruning.select import Pruned, Pruning, Removed, clear, numbers, prune
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError, no_folder
from compact_biomed.evaluation.finetune import Assignment, Method, Outcome
from compact_biomed.evaluation.job import Job
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.evaluation.saved import saved_record
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import Checkpoint, TaskModel, load_with_head
from compact_biomed.models.positions import longest_input
from compact_biomed.records.lines import RECORD_FILE

EXAMPLES = 512  # training examples over which first-order importance is averaged
_DISTILLED = "distilled-"  # prefix of the protocol's name in records of task distillation


class FineTuned(NamedTuple):
    """A model saved by `evaluate --save`, with its record.

    Args:
        folder: of transformers' files and `RECORD_FILE`.
        record: of the run that made it.
        task: that it was fine-tuned on.
    """

    folder: Path
    record: dict[str, Any]
    task: Task

    @property
    def name(self) -> str:
        """The name of the model in records."""
        return self.record["model"]["name"]

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    def sha256(self) -> str:
        """Return the checksum of the weights."""
        return checkpoints.model_sha256(self.folder)["weights_sha256"]

    def checkpoint(self) -> Checkpoint:
        """Load the model with its head.

        Raises:
            UserError: it cannot be read, or cannot be pruned.
        """
        checkpoint = load_with_head(str(self.folder))
        layers(checkpoint.model)
        return checkpoint

    def job(self, suffix: str) -> Job:
        """Describe fine-tuning it again by the same rules, under another name.

        A model that was distilled for its task is fine-tuned on labels alone.
        """
        protocol = self.record["protocol"]
        name, overrides = protocol["name"].removeprefix(_DISTILLED), Overrides(**protocol["overrides"])
        fold, seed = self.record["task"]["fold"], self.record["seed"]
        return Job(f"{self.name}-{suffix}", str(self.folder), self.task, fold, seed, name, overrides)


def open_fine_tuned(folder: Path | str, ner_dir: Path | str | None = None, **own: Unpack[OwnData]) -> FineTuned:
    """Open a model saved by `evaluate --save`.

    Args:
        ner_dir: the entity set that it was fine-tuned on, if it is no longer where the record says.
        own: where other data of one's own are now, see `benchmarks.own.OwnData`.

    Raises:
        UserError: no such folder, no record in it, or a record of another set.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise no_folder(folder, "name a model saved by: compact-biomed evaluate --save DIR")
    record = saved_record(folder)
    if not {"model", "task", "protocol", "seed", "score"} <= record.keys():
        raise UserError(
            f"no {RECORD_FILE} of a run in this folder",
            where=folder,
            remedy="name a model saved by evaluate --save, or fine-tune this one first by --start",
        )
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else task_of_record(record["task"], own, where=folder)
    if task.name != record["task"]["name"]:
        raise UserError(
            f"the model was fine-tuned on {record['task']['name']}", where=folder, remedy="name that set by --ner-dir"
        )
    return FineTuned(folder, record, task)


def check_head(checkpoint: Checkpoint, task: Task, labels: list[str]) -> None:
    """Raise a `UserError` unless the outputs of the head are the labels of the task, in their order."""
    head = KINDS[task.kind].head
    config = checkpoint.model.config
    outputs = [config.id2label[i] for i in range(config.num_labels)]
    if checkpoint.head != head or (head not in ("span", "regression") and outputs != labels):
        raise UserError(
            f"its head ({checkpoint.head}: {', '.join(outputs[:6])}) is not that of {task.name} "
            f"({head}: {', '.join(labels[:6])})",
            where=checkpoint.name,
            remedy="fine-tune it again with the files that are used now",
        )


# ---- learning after pruning


class MaskedLearner(Learner):
    """A learner in which removed weights stay zero: they are cleared after each step.

    Their gradients still count in the norm by which all gradients are clipped.

    Args:
        model, head, machine: as for `Learner`.
        removed: weights of the model.
    """

    def __init__(self, model, head: str, machine: ComputePlan, removed: Removed):
        super().__init__(model, head, machine)
        self._removed = {name: mask.to(self.device) for name, mask in removed.items()}

    def after_step(self) -> None:
        clear(self.objective.model, self._removed)


class AfterPruning(Method):
    """Fine-tuning of a pruned model that keeps its head.

    Args:
        source: the model to prune.
        how: what is removed.
    """

    def __init__(self, source: FineTuned, how: Pruning):
        self.source, self.how = source, how
        examples = EXAMPLES if how.importance == "taylor" else None
        self._settings = {**vars(how), "examples": examples}
        self.hyperparameters = {"pruning": self._settings}
        self._pruned: tuple[tuple, Pruned] | None = None  # (keys of the training examples, the model pruned on them)

    def model_fields(self, outcome: Outcome) -> dict[str, Any]:
        """Return what the record says of the model: the origin of the source, and what was pruned.

        With the source's own start weights, tables put the seeds of one pipeline into one row.
        """
        origin = self.source.record["model"]
        inherited = ("start", "random_weights", "weights_sha256", "tokenizer_sha256", "config_sha256")
        pruning = {
            "source": self.source.folder.name,
            "source_sha256": self.source.sha256(),
            "source_score": self.source.record["score"],
            **self._settings,
            **self._pruned[1].counts,
            "after": numbers(outcome.model),
        }
        return {name: origin[name] for name in inherited} | {"pruning": pruning}

    def build(self, work: Assignment, head: str, *, seed: int) -> TaskModel:
        """Return a copy of the pruned model, whatever the seed."""
        key = tuple(example.key for example in work.train)
        if self._pruned is None or self._pruned[0] != key:
            self._pruned = key, self._prune(work, head)
        return TaskModel(copy.deepcopy(self._pruned[1].model), [])

    def learner(self, model, head: str, machine: ComputePlan) -> Learner:
        return MaskedLearner(model, head, machine, self._pruned[1].removed)

    def _prune(self, work: Assignment, head: str) -> Pruned:
        checkpoint = self.source.checkpoint()
        check_head(checkpoint, work.task, list(work.labels))

        def importance(model) -> Importance:
            if self.how.importance == "magnitude":
                return magnitude(model)
            length = min(work.task.max_length, longest_input(model.config) or work.task.max_length)
            encoding = {"labels": work.labels, "max_length": length, "level": work.level}
            sample = work.train[:: max(len(work.train) // EXAMPLES, 1)][:EXAMPLES]
            return taylor(model, head, KINDS[work.task.kind].encode(sample, checkpoint.tokenizer, **encoding))

        return prune(checkpoint.model, self.how, importance)
