"""The teacher: a fine-tuned task model whose logits, computed once, are the soft labels of every example.

`student_features` turns examples into the features that a student learns from. Besides the keys of
`evaluation.features`, a feature has

labeled         whether its own labels are read;
soft_positions  the positions with soft labels;
soft_logits     the teacher's logits there, float16 [positions, outputs];
rows            how many tokens, or documents, it counts for.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.console import listed, progress, say
from compact_biomed.engine.plan import plan
from compact_biomed.errors import UserError
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.kinds import KINDS, Kind
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.saved import model_name, saved_record
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import checkpoints
from compact_biomed.models.locate import local_folder
from compact_biomed.models.positions import longest_input
from compact_biomed.objectives import IGNORED

_AT_ONCE = 1024  # features that are computed together; only the logits at positions with labels are kept


class Teacher:
    """A checkpoint with a task head, as `evaluate --save` saves it.

    Args:
        name: folder or hub name.
        speed: performance settings.

    Raises:
        UserError: it cannot be read or has no head.
    """

    def __init__(self, name: str, speed: PerformanceSettings):
        self.folder = local_folder(name)
        self.checkpoint, self.speed = checkpoints.load_with_head(str(self.folder)), speed
        self.name, self.tokenizer = model_name(name), self.checkpoint.tokenizer
        self.labels = self.checkpoint.labels
        self.sums = checkpoints.model_sha256(self.folder)
        self.limit = longest_input(self.checkpoint.model.config)

    def __reduce__(self) -> tuple:
        """Let another process open the checkpoint again, instead of sending it the weights."""
        return _opened_again, (str(self.folder), self.name, self.speed, self.sums)

    @property
    def head(self) -> str:
        """A key of `objectives.task.HEADS`, or "mlm"."""
        return self.checkpoint.head

    def check(self, task: Task, labels: Sequence[str], *, protocol: str, fold: int | None) -> None:
        """Raise a `UserError` unless it is a teacher for this task.

        Args:
            labels: of the task.
            protocol: name of the student's; "published" labels every piece of a word.
            fold: that the student is tested on.
        """
        head = KINDS[task.kind].head
        if self.head != head:
            raise UserError(
                f"the teacher has a {self.head} head, {task.name} needs a {head} head",
                where=self.folder,
                remedy=f"fine-tune a teacher: compact-biomed evaluate --task {task.name} --save DIR",
            )
        if head != "regression" and set(self.labels) != set(labels):
            own, needed = (listed(sorted(names), most=8) for names in (self.labels, labels))
            raise UserError(
                f"the teacher's labels ({own}) are not those of {task.name} ({needed})",
                where=self.folder,
                remedy=f"name a teacher fine-tuned on {task.name}",
            )
        self._check_record(task, protocol, fold)

    def _check_record(self, task: Task, protocol: str, fold: int | None) -> None:
        """Check the record beside the weights, if there is one: level of the labels, task and fold."""
        record = saved_record(self.folder)
        if task.kind == "ner" and protocol == "published" and record.get("protocol", {}).get("level") == "standard":
            raise UserError(
                "the teacher was trained on the first piece of each word and has no labels for the others",
                where=self.folder,
                remedy="--protocol standard, or a teacher of --protocol published",
            )
        trained_on = record.get("task", {})
        seen = trained_on.get("fold")
        if trained_on.get("name", task.name) != task.name:
            say(f"Note: the teacher was fine-tuned on {trained_on['name']}, not on {task.name}.")
        if trained_on.get("name") == task.name and seen != fold:
            raise UserError(
                f"the teacher was trained on fold {seen}, and so on test examples of fold {fold}",
                where=self.folder,
                remedy=f"--fold {seen}",
            )

    def logits(
        self, features: Sequence[Feature], positions: Sequence[np.ndarray], labels: Sequence[str]
    ) -> list[np.ndarray]:
        """Return the float16 logits [positions, outputs] of each feature.

        Args:
            features: encoded by the teacher's tokenizer.
            positions: of each feature, those to keep; [0] for sequences.
            labels: order of the columns.

        Raises:
            UserError: logits that are NaN, or too large for float16.
        """
        columns = [self.labels.index(label) for label in labels] if self.head != "regression" else [0]
        learner = Learner(self.checkpoint.model, self.head, plan(self.speed, self.checkpoint.model.config))
        selected: list[np.ndarray] = []
        try:
            options = {"desc": "the teacher reads", "unit": " examples", "leave": False, "delay": 2}
            with np.errstate(over="ignore"), progress(total=len(features), **options) as bar:  # overflow: see below
                for first in range(0, len(features), _AT_ONCE):
                    chunk = slice(first, first + _AT_ONCE)
                    for logits, rows in zip(learner.logits(features[chunk]), positions[chunk], strict=True):
                        selected.append(np.atleast_2d(logits)[rows][:, columns].astype(np.float16))
                    bar.update(len(selected) - first)
        finally:
            learner.close()
        if not all(np.isfinite(logits).all() for logits in selected):
            raise UserError(
                "the teacher's logits are NaN or above 65504", where=self.folder, remedy="fine-tune the teacher again"
            )
        return selected


def _opened_again(folder: str, name: str, speed: PerformanceSettings, sums: dict[str, str]) -> Teacher:
    teacher = Teacher(folder, speed)
    teacher.name = name
    if teacher.sums != sums:
        remedy = "run the command again; recorded runs are skipped"
        raise UserError("the teacher has changed since the command began", where=folder, remedy=remedy)
    return teacher


def student_features(
    kind_name: str,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    encoding: dict[str, Any],
    *,
    teacher: Teacher | None,
    labeled: bool,
) -> list[Feature]:
    """Encode examples for the student, with hard labels, soft labels, or both.

    Args:
        kind_name: a key of `evaluation.kinds.KINDS`.
        examples: unlabeled ones carry a placeholder as label ("O" for every word, ...).
        tokenizer: the student's.
        encoding: `labels`, `max_length` and `level` for `Kind.encode`.
        teacher: None = no soft labels.
        labeled: whether the examples' own labels are read.

    Raises:
        UserError: the teacher and the student read different windows of a text.
    """
    kind = KINDS[kind_name]
    features = kind.encode(examples, tokenizer, **encoding)
    soft_logits = [np.zeros((0, len(encoding["labels"])), np.float16)] * len(features)
    if teacher is not None:
        soft_logits = _soft_logits(kind, examples, encoding, teacher, features)
    for feature, logits in zip(features, soft_logits, strict=True):
        positions = _label_positions(kind, feature)
        n = min(len(positions), len(logits))  # of a sentence that is cut, one of the two may have read more words
        feature |= {"labeled": labeled, "soft_positions": positions[:n], "soft_logits": logits[:n], "rows": 1}
        if kind.head == "token":
            feature["rows"] = len(positions) if labeled else n
            feature["labels"] = feature["labels"] if labeled else [IGNORED] * len(feature["labels"])
    return features


def _soft_logits(
    kind: Kind,
    examples: Sequence[Example],
    encoding: dict[str, Any],
    teacher: Teacher,
    of_student: Sequence[Feature],
) -> list[np.ndarray]:
    length = min(encoding["max_length"], teacher.limit or encoding["max_length"])
    features = kind.encode(examples, teacher.tokenizer, **{**encoding, "max_length": length})
    # Both have the same tokenizer where the answer is a span; with a shorter window it would be cut elsewhere.
    if kind.head == "span" and [f["input_ids"] for f in features] != [f["input_ids"] for f in of_student]:
        raise UserError(
            f"the teacher reads at most {length} tokens, the student {encoding['max_length']}: their windows differ",
            where=teacher.folder,
            remedy="a teacher that reads as many tokens as the student",
        )
    return teacher.logits(features, [_label_positions(kind, feature) for feature in features], encoding["labels"])


def _label_positions(kind: Kind, feature: Feature) -> np.ndarray:
    """Return the positions with labels: of entities, pieces by the level of the labels; of a span, every token."""
    if kind.head == "token":
        return np.flatnonzero(np.asarray(feature["labels"]) != IGNORED)
    return np.arange(len(feature["input_ids"]) if kind.head == "span" else 1)


def check_tokenizers(kind_name: str, protocol: str, teacher: Teacher, student_sums: dict[str, str]) -> None:
    """Raise a `UserError` where soft labels of word-pieces would be compared with other word-pieces.

    First pieces of words, and texts, can be compared under any two tokenizers.

    Args:
        student_sums: of `models.checkpoints.model_sha256`.
    """
    by_piece = kind_name == "qa" or (kind_name == "ner" and protocol == "published")
    if by_piece and teacher.sums["tokenizer_sha256"] != student_sums["tokenizer_sha256"]:
        alternative = "" if kind_name == "qa" else ", or --protocol standard"
        raise UserError(
            "teacher and student split words into different pieces",
            where="--student",
            remedy=f"a student with the teacher's tokenizer.json{alternative}",
        )
