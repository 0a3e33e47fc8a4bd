"""The examples that readers return and tasks use; each has a stable key."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from compact_biomed.files import sha256_json


@dataclass(frozen=True)
class WordsExample:
    """A sentence for named-entity recognition.

    Args:
        key: stable identifier, "test/12" for the 13th sentence of the test file.
        words: as tokenized in the data set, at least one.
        tags: one per word, in IOB2 ("B-Disease", or a bare "B" if the data set has no entity types).
    """

    key: str
    words: tuple[str, ...]
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TextExample:
    """A text, or a pair of texts, with its label.

    Args:
        key: stable identifier, taken from the data set if it has one.
        text: the first text.
        pair: the second text, or None.
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
        key: identifier of the pair, in BioASQ "<question id>_<number>".
        question_id: examples with the same one are merged in scoring.
        question, context: the two texts.
        answers: (text, first character in `context`); in test sets the golden synonyms, whose position is
            unknown: -1.
    """

    key: str
    question_id: str
    question: str
    context: str
    answers: tuple[tuple[str, int], ...]


Example: TypeAlias = WordsExample | TextExample | QuestionExample
DEV_SHARE = 0.1  # of train, for data sets without a dev set


@dataclass(frozen=True)
class Splits:
    """The examples of a data set, in file order.

    Args:
        repairs: description of what was corrected or left out while reading -> how often.
        dev_of_train: whether dev was held out of train because the data set has no dev set.
    """

    train: list[Example]
    dev: list[Example]
    test: list[Example]
    repairs: dict[str, int] = field(default_factory=dict)
    dev_of_train: bool = False

    def counts(self) -> dict[str, int]:
        """Return the number of examples of each split."""
        return {"train": len(self.train), "dev": len(self.dev), "test": len(self.test)}


class Part(NamedTuple):
    """The examples of a split, and the document of each, None where nothing says it."""

    examples: list[Example]
    documents: list[str | None]


def content(example: Example) -> Any:
    """Return what must not be on two sides of a split: the words, the texts, or the context of a question."""
    if isinstance(example, WordsExample):
        return example.words
    return example.context if isinstance(example, QuestionExample) else (example.text, example.pair)


def share(key: str) -> float:
    """Return a number in [0, 1) that depends on the key alone: sha256("split:<key>"), first 8 bytes.

    Data sets without an official split are split by it, in the same way on every machine.
    """
    return int.from_bytes(hashlib.sha256(f"split:{key}".encode()).digest()[:8], "big") / 2**64


def hold_out_dev(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """Split a training set into (train, dev), where dev is `DEV_SHARE` of it by `share` of the key.

    All contexts of a question are on the same side.
    """
    in_dev = [share(getattr(example, "question_id", example.key)) < DEV_SHARE for example in examples]
    train = [example for example, held_out in zip(examples, in_dev, strict=True) if not held_out]
    return train, [example for example, held_out in zip(examples, in_dev, strict=True) if held_out]


def sha256(examples: Iterable[Example]) -> str:
    """Return the checksum of examples as read; it is the same for a file and its gzipped form."""
    return sha256_json([vars(example) for example in examples])


def examples_sha256(splits: Splits) -> dict[str, str]:
    """Return the checksum of each split's examples."""
    return {name: sha256(getattr(splits, name)) for name in ("train", "dev", "test")}


def hold_out(
    examples: Sequence[Example], groups: Sequence[str], shares: Mapping[str, float], seed: int = 0
) -> dict[str, list[Example]]:
    """Divide a training set into "train" and the parts that `shares` names; examples of one group stay together.

    With the seed 0, the draw depends on the names of the groups alone, as in `hold_out_dev`. A small set may leave a
    part empty; it then gets the group that came closest.

    Args:
        groups: of each example: its document, or the key of the first example with its text.
        shares: part -> share of the groups, in the order of the draw.

    Raises:
        ValueError: there are not more groups than parts.
    """
    position = {group: share(f"{seed}/{group}" if seed else group) for group in groups}
    if len(position) <= len(shares):
        raise ValueError(f"{len(position)} groups for {len(shares) + 1} parts")
    part, below = dict.fromkeys(position, "train"), 0.0
    for name, size in shares.items():
        part |= {group: name for group, at in position.items() if below <= at < below + size}
        below += size
    for name in (*shares, "train"):
        if name not in part.values():
            several = {other for other in part.values() if [*part.values()].count(other) > 1}
            candidates = [group for group in position if part[group] in several]
            nearest = max if name == "train" else min
            part[nearest(candidates, key=position.__getitem__)] = name
    divided: dict[str, list[Example]] = {name: [] for name in ("train", *shares)}
    for example, group in zip(examples, groups, strict=True):
        divided[part[group]].append(example)
    return divided
