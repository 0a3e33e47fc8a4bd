"""The teacher: a fine-tuned task model that says, once, what it thinks of every example."""

from collections.abc import Sequence

import numpy as np

from compact_biomed.compress import checkpoint
from compact_biomed.compress.folder import labels_of
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.evaluation import records
from compact_biomed.evaluation.encode import Feature
from compact_biomed.evaluation.keep import kept_record
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.model import longest_input
from compact_biomed.evaluation.runs import model_name
from compact_biomed.evaluation.tasks import Task
from compact_biomed.models.start import local_folder
from compact_biomed.training.machine import plan
from compact_biomed.training.settings import Speed

_AT_ONCE = 1024  # features that are computed together; of the logits only the labelled rows are kept


class Teacher:
    """A checkpoint with a head, as `evaluate --save` keeps it.

    Args:
        name: folder or hub name.
        speed: speed settings.

    Raises:
        UserError: it cannot be read or has no head.
    """

    def __init__(self, name: str, speed: Speed):
        self.folder = local_folder(name)
        self.checkpoint, self.speed = checkpoint.load(str(self.folder)), speed
        self.name, self.tokenizer = model_name(name), self.checkpoint.tokenizer
        self.labels = labels_of(self.checkpoint.model.config, self.checkpoint.family)
        self.sums = records.model_sha256(self.folder)
        self.limit = longest_input(self.checkpoint.model.config)

    @property
    def head(self) -> str:
        """A name in `evaluation.heads.HEADS`, or "mlm"."""
        return self.checkpoint.head

    def check(self, task: Task, labels: Sequence[str], *, level: str, fold: int | None) -> None:
        """Raise a `UserError` unless it is a teacher for this task.

        Args:
            labels: of the task.
            level: of the labels of entities, see `evaluation.kinds`.
            fold: that the student is tested on.
        """
        wanted = KINDS[task.kind].head
        if self.head != wanted:
            raise UserError(
                f"the teacher has a {self.head} head, {task.name} needs a {wanted} head",
                where=self.folder,
                remedy=f"fine-tune a teacher: compact-biomed evaluate --task {task.name} --save DIR",
            )
        if wanted != "regression" and set(self.labels) != set(labels):
            raise UserError(
                f"the teacher's labels ({_listed(self.labels)}) are not those of {task.name} ({_listed(labels)})",
                where=self.folder,
                remedy=f"a teacher fine-tuned on {task.name}",
            )
        self._check_record(task, level, fold)

    def _check_record(self, task: Task, level: str, fold: int | None) -> None:
        """What the record beside the weights tells, if there is one."""
        told = kept_record(self.folder)
        if task.kind == "ner" and level == "published" and told.get("protocol", {}).get("level") == "standard":
            raise UserError(
                "the teacher was trained on the first piece of each word and says nothing of the others",
                where=self.folder,
                remedy="--protocol standard, or a teacher of --protocol published",
            )
        theirs = told.get("task", {})
        if theirs.get("name", task.name) != task.name:
            say(f"Note: the teacher was fine-tuned on {theirs['name']}, not on {task.name}.")
        if theirs.get("name") == task.name and theirs.get("fold") != fold:
            raise UserError(
                f"the teacher was trained on fold {theirs.get('fold')}, and so on test examples of fold {fold}",
                where=self.folder,
                remedy=f"--fold {theirs.get('fold')}",
            )

    def logits(self, features: Sequence[Feature], rows: Sequence[np.ndarray], labels: Sequence[str]) -> list:
        """Float16 logits [rows, outputs] of each feature.

        Args:
            features: encoded by the teacher's tokenizer.
            rows: of each feature the positions that are kept; [0] for sequences.
            labels: order of the columns.

        Raises:
            UserError: logits that are no numbers, or too large for float16.
        """
        columns = [self.labels.index(label) for label in labels] if self.head != "regression" else [0]
        learner = Learner(self.checkpoint.model, self.head, plan(self.speed, self.checkpoint.model.config))
        found: list[np.ndarray] = []
        try:
            for first in range(0, len(features), _AT_ONCE):
                answers = learner.logits(features[first : first + _AT_ONCE])
                with np.errstate(over="ignore"):  # is told below
                    for answer, kept in zip(answers, rows[first : first + _AT_ONCE], strict=True):
                        found.append(np.atleast_2d(answer)[kept][:, columns].astype(np.float16))
        finally:
            learner.close()
        if not all(np.isfinite(one).all() for one in found):
            raise UserError("the teacher's logits are no numbers, or above 65504", where=self.folder)
        return found


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(sorted(labels)[:8]) + (", ..." if len(labels) > 8 else "")
