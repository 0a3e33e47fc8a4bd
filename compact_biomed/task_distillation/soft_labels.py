"""Examples -> features with hard labels, soft labels, or both.

Besides the keys of `evaluation.encode`, a feature has `labelled` (whether its hard labels are read), `taught` (the
positions with soft labels), `soft` (the teacher's logits there, float16 [positions, outputs]) and `rows` (how
many tokens, or documents, it counts for).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.evaluation.encode import Feature
from compact_biomed.evaluation.examples import Example
from compact_biomed.evaluation.kinds import KINDS, Kind
from compact_biomed.objectives import IGNORED
from compact_biomed.task_distillation.teacher import Teacher

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


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
