"""The fine-tuned model that is pruned, as `evaluate --save` keeps it."""

from pathlib import Path
from typing import Any, NamedTuple

from compact_biomed.compress.checkpoint import Checkpoint, load
from compact_biomed.compress.pruning.parts import layers
from compact_biomed.errors import UserError
from compact_biomed.evaluation import records, tasks
from compact_biomed.evaluation.keep import RECORD, kept_record
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import Overrides
from compact_biomed.evaluation.runs import Job
from compact_biomed.evaluation.tasks import Task

_DISTILLED = "distilled-"


class Source(NamedTuple):
    """A kept model and what its record says.

    Args:
        folder: of transformers' files and `RECORD`.
        record: of the run that made it.
        task: that it was fine-tuned on.
    """

    folder: Path
    record: dict[str, Any]
    task: Task

    @property
    def name(self) -> str:
        """What records call the model."""
        return self.record["model"]["name"]

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    def sha256(self) -> str:
        """Of the weights."""
        return records.model_sha256(self.folder)["weights_sha256"]

    def checkpoint(self) -> Checkpoint:
        """The model with its head.

        Raises:
            UserError: it cannot be read, or cannot be pruned.
        """
        found = load(str(self.folder))
        layers(found.model)
        return found

    def job(self, suffix: str) -> Job:
        """Fine-tuning it again by the same rules, under another name.

        A model that was distilled for its task is fine-tuned on labels alone.
        """
        protocol = self.record["protocol"]
        name, overrides = protocol["name"].removeprefix(_DISTILLED), Overrides(**protocol["overrides"])
        fold, seed = self.record["task"]["fold"], self.record["seed"]
        return Job(f"{self.name}-{suffix}", str(self.folder), self.task, fold, seed, name, overrides)


def open_source(folder: Path | str, ner_dir: Path | str | None = None) -> Source:
    """A kept model.

    Args:
        ner_dir: the entity set that it was fine-tuned on, if that is no benchmark.

    Raises:
        UserError: no such folder, no record in it, or a record of another set.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, remedy="a model kept by: compact-biomed evaluate --save DIR")
    record = kept_record(folder)
    if not {"model", "task", "protocol", "seed", "score"} <= record.keys():
        raise UserError(
            f"no {RECORD} of a run in this folder", where=folder,
            remedy="name a model kept by evaluate --save, or fine-tune this one first by --start",
        )  # fmt: skip
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else tasks.task_named(record["task"]["name"])
    if task.name != record["task"]["name"]:
        raise UserError(f"the model was fine-tuned on {record['task']['name']}", where=folder, remedy="name that set")
    return Source(folder, record, task)


def check_head(checkpoint: Checkpoint, task: Task, labels: list[str]) -> None:
    """Raise a `UserError` unless the head's outputs are the task's labels, in their order."""
    head = KINDS[task.kind].head
    config = checkpoint.model.config
    theirs = [config.id2label[i] for i in range(config.num_labels)]
    if checkpoint.head != head or (head not in ("span", "regression") and theirs != labels):
        raise UserError(
            f"its head ({checkpoint.head}: {', '.join(theirs[:6])}) is not that of {task.name} "
            f"({head}: {', '.join(labels[:6])})",
            where=checkpoint.name,
            remedy="fine-tune it again with the files that are used now",
        )
