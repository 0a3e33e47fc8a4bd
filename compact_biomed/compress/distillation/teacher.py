"""The teacher: a fine-tuned task model that says, once, what it thinks of every example."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compress.export import labels_of
from compact_biomed.console import say
from compact_biomed.engine.plan import plan
from compact_biomed.errors import UserError
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, Kind
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.runs import model_name, saved_record
from compact_biomed.machine import Speed
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import local_folder, longest_input
from compact_biomed.objectives import IGNORED

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
        self.checkpoint, self.speed = checkpoints.load_with_head(str(self.folder)), speed
        self.name, self.tokenizer = model_name(name), self.checkpoint.tokenizer
        self.labels = labels_of(self.checkpoint.model.config, self.checkpoint.family)
        self.sums = checkpoints.model_sha256(self.folder)
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
        told = saved_record(self.folder)
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


# ----------------------------------------------------------------------------------------------------
# Examples -> features with hard labels, soft labels, or both.
#
# Besides the keys of `evaluation.encode`, a feature has `labelled` (whether its hard labels are read), `taught` (the
# positions with soft labels), `soft` (the teacher's logits there, float16 [positions, outputs]) and `rows` (how
# many tokens, or documents, it counts for).


def taught_features(
    kind_name: str,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerFast",
    encoding: dict[str, Any],
    *,
    teacher: Teacher | None,
    labelled: bool,
) -> list[Feature]:
    """Features for the student.

    Args:
        kind_name: a key of `evaluation.kinds.KINDS`.
        examples: unlabelled ones carry a label that stands for none ("O" for every word, ...).
        tokenizer: the student's.
        encoding: `labels`, `max_length` and `level` for `Kind.encode`.
        teacher: None = no soft labels.
        labelled: whether the examples' own labels are read.

    Raises:
        UserError: the teacher reads what cannot be set beside what the student reads.
    """
    kind = KINDS[kind_name]
    features = kind.encode(examples, tokenizer, **encoding)
    soft = [np.zeros((0, len(encoding["labels"])), np.float16)] * len(features)
    if teacher is not None:
        soft = _soft(kind, examples, encoding, teacher, len(features))
    for feature, answers in zip(features, soft, strict=True):
        places = _places(kind, feature)
        n = min(len(places), len(answers))  # of a sentence that is cut, one of the two may have read more words
        feature |= {"labelled": labelled, "taught": places[:n], "soft": answers[:n], "rows": 1}
        if kind.head == "token":
            feature["rows"] = len(places) if labelled else n
            feature["labels"] = feature["labels"] if labelled else [IGNORED] * len(feature["labels"])
    return features


def _soft(kind: Kind, examples, encoding: dict[str, Any], teacher: Teacher, n: int) -> list[np.ndarray]:
    length = min(encoding["max_length"], teacher.limit or encoding["max_length"])
    theirs = kind.encode(examples, teacher.tokenizer, **{**encoding, "max_length": length})
    if len(theirs) != n:
        raise UserError(
            f"the teacher reads at most {length} tokens, the student {encoding['max_length']}: their windows differ",
            where=teacher.folder,
        )
    return teacher.logits(theirs, [_places(kind, feature) for feature in theirs], encoding["labels"])


def _places(kind: Kind, feature: Feature) -> np.ndarray:
    """The positions that have labels: pieces of entities by the level of the labels; of a span, every token."""
    if kind.head == "token":
        return np.flatnonzero(np.asarray(feature["labels"]) != IGNORED)
    return np.arange(len(feature["input_ids"]) if kind.head == "span" else 1)


def check_tokenizers(kind_name: str, level: str, teacher: Teacher, student_sums: dict[str, str]) -> None:
    """Raise a `UserError` where soft labels of pieces would be set beside other pieces.

    First pieces of words, and texts, compare whatever the tokenizer.

    Args:
        student_sums: of `evaluation.records.model_sha256`.
    """
    by_piece = kind_name == "qa" or (kind_name == "ner" and level == "published")
    if by_piece and teacher.sums["tokenizer_sha256"] != student_sums["tokenizer_sha256"]:
        other = "" if kind_name == "qa" else ", or --protocol standard"
        raise UserError(
            "teacher and student cut words into other pieces",
            where="--student",
            remedy=f"a student with the teacher's tokenizer.json{other}",
        )
