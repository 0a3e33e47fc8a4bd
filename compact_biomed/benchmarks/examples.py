"""What every reader gives and every kind of task takes: examples with stable names."""

import hashlib
from dataclasses import dataclass, field
from typing import TypeAlias

from compact_biomed.files import sha256_json


@dataclass(frozen=True)
class WordsExample:
    """A sentence for named-entity recognition.

    Args:
        key: stable name, "test/12" for the 13th sentence of the test file.
        words: as the set tokenizes them, at least one.
        tags: one a word, in IOB2 ("B-Disease", or a bare "B" where the set names no type).
    """

    key: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TextExample:
    """A text, or a pair of texts, with what is to be said of it.

    Args:
        key: stable name: the set's own where it has one.
        text: the first text.
        pair: the second text, None for a single one.
        label: a class, a number (similarity), several classes (possibly none), or None if unknown.
    """

    key: str
    text: str
    pair: str | None
    label: str | float | tuple[str, ...] | None


@dataclass(frozen=True)
class QuestionExample:
    """A question with one of its contexts. Several examples may share a question.

    Args:
        key: name of the pair, in BioASQ "<question id>_<number>".
        question_id: examples with the same one are merged in scoring.
        question, context: the two texts.
        answers: (text, character where it starts in `context`); in test sets the golden
            synonyms of the question, whose place is not known: start -1.
    """

    key: str
    question_id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


Example: TypeAlias = WordsExample | TextExample | QuestionExample


@dataclass(frozen=True)
class Splits:
    """The examples of a set, in file order.

    Args:
        repairs: what was mended or left out while reading, in words -> how often.
        dev_of_train: the set has no dev of its own: it was held out of train.
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    repairs: dict[str, int] = field(default_factory=dict)
    dev_of_train: bool = False

    def counts(self) -> dict[str, int]:
        """Examples of each split."""
        return {"train": len(self.train), "dev": len(self.dev), "test": len(self.test)}


def share(key: str) -> float:
    """A number in [0, 1) that depends on the name alone: sha256("split:<key>"), first 8 bytes.

    Sets without a split of their own are split by it, the same way on every machine.
    """
    return int.from_bytes(hashlib.sha256(f"split:{key}".encode()).digest()[:8], "big") / 2**64


DEV_SHARE = 0.1


def hold_out_dev(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """(train, dev) of a training set without a dev set: `DEV_SHARE` of it, by `share` of the key.

    The contexts of one question stay together.
    """
    held = [share(getattr(example, "question_id", example.key)) < DEV_SHARE for example in examples]
    train = [example for example, out in zip(examples, held, strict=True) if not out]
    return train, [example for example, out in zip(examples, held, strict=True) if out]


def examples_sha256(splits: Splits) -> dict[str, str]:
    """For each split the checksum of its examples as read, the same for a file and its gzipped form."""
    return {name: sha256_json([vars(e) for e in getattr(splits, name)]) for name in ("train", "dev", "test")}
