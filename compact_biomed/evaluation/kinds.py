"""The kinds of tasks: labels, encoding, decoding and scoring of each, behind one face."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example, Splits
from compact_biomed.benchmarks.metrics import FROM_UNITS
from compact_biomed.evaluation import features as features_module
from compact_biomed.evaluation.features import Feature
from compact_biomed.evaluation.scoring import (
    Scores,
    score_classes,
    score_entities,
    score_multilabel,
    score_numbers,
    score_questions,
    score_relations,
)
from compact_biomed.objectives import IGNORED

LEVELS = ("standard", "published")
_AT_ONCE = 1024  # examples that are answered together: memory does not grow with their number


class Kind(Protocol):
    """What the engine needs to know of a kind of task.

    Attributes:
        head: "token", "sequence", "multilabel", "regression" or "span".
        columns: the columns of `Scores.per_example` that the primary metric is computed from, in order.
    """

    head: str
    columns: tuple[str, ...]

    def labels(self, splits: Splits) -> list[str]:
        """Names of the outputs, sorted: label ids are the same in every process. Test is not looked at."""

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: "PreTrainedTokenizerFast",
        *,
        labels: Sequence[str],
        max_length: int,
        level: str = "standard",
    ) -> list[Feature]:
        """Features with their targets: `labels` (token: an id a position; sequence: an id; multilabel: a
        0.0 or 1.0 for each; regression: a number) or `start` and `end` (span)."""

    def decode(
        self,
        examples: Sequence[Example],
        features: Sequence[Feature],
        logits: Sequence[np.ndarray],
        *,
        labels: Sequence[str],
        level: str = "standard",
    ) -> list[Any]:
        """One prediction an example; `logits[i]` belongs to `features[i]`: [positions, labels] for
        token, [labels] for sequence and multilabel, [1] for regression, [positions, 2] for span."""

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Scores:
        """The scores of predictions on examples with known labels."""

    def metric_from_units(self, units: Any) -> float | np.ndarray:
        """The primary metric in percent of units [..., examples, columns], a resample of rows, say."""

    def metric_from_sums(self, sums: Any) -> np.ndarray:
        """The primary metric in percent of units summed over examples, [..., columns] -> [...]."""


def predictions(
    kind: Kind,
    examples: Sequence[Example],
    tokenizer: "PreTrainedTokenizerFast",
    logits: Callable[[Sequence[Feature]], Sequence[np.ndarray]],
    encoding: dict[str, Any],
) -> Iterator[list[Any]]:
    """Encode, compute and decode some examples at a time; yields their predictions, one an example.

    Args:
        logits: computes those of each feature, as `Kind.decode` takes them.
        encoding: `labels`, `max_length` and `level`, as `Kind.encode` takes them.
    """
    decoding = {name: encoding[name] for name in ("labels", "level")}
    for first in range(0, len(examples), _AT_ONCE):
        some = examples[first : first + _AT_ONCE]
        features = kind.encode(some, tokenizer, **encoding)
        yield kind.decode(some, features, logits(features), **decoding)


class _Summed:
    """Primary metrics that are functions of sums over examples.

    Args:
        metric: the primary metric, a key of `FROM_UNITS`.
    """

    def __init__(self, metric: str):
        self.columns, self.metric_from_sums = FROM_UNITS[metric]

    def metric_from_units(self, units: Any) -> float | np.ndarray:
        """See `Kind`. Rows may also be given as `Scores.per_example` has them."""
        if len(units) and isinstance(units[0], dict):
            units = [[row[column] for column in self.columns] for row in units]
        found = self.metric_from_sums(np.asarray(units, float)[..., : len(self.columns)].sum(-2))
        return float(found) if np.ndim(found) == 0 else found


class Words(_Summed):
    """Named entities: primary metric `f1` on words."""

    head = "token"

    def labels(self, splits: Splits) -> list[str]:
        return sorted({"O"}.union(*(example.tags for example in [*splits.train, *splits.dev])))

    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        ids = {label: number for number, label in enumerate(labels)}
        published = _is_published(level)
        return features_module.encode_words(
            examples, tokenizer, label_ids=ids, max_length=max_length, published=published
        )

    def decode(self, examples, features, logits, *, labels, level="standard"):
        return features_module.decode_words(examples, features, logits, labels=labels, published=_is_published(level))

    def score(self, examples, predictions):
        return score_entities(examples, predictions)


class _Texts(_Summed):
    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        _is_published(level)
        features = features_module.encode_texts(examples, tokenizer, max_length=max_length)
        ids = {label: number for number, label in enumerate(labels)}
        for feature in features:
            feature["labels"] = self._target(examples[feature["example"]].label, ids)
        return features

    def decode(self, examples, features, logits, *, labels, level="standard"):
        return [self._prediction(np.asarray(row), labels) for row in logits]


class Classes(_Texts):
    """One class an example; metric and scorer say how right ones are counted."""

    head = "sequence"

    def __init__(self, metric, scorer):
        super().__init__(metric)
        self._scorer = scorer

    def labels(self, splits: Splits) -> list[str]:
        return sorted({example.label for example in [*splits.train, *splits.dev]})

    def score(self, examples, predictions):
        return self._scorer(examples, predictions)

    def _target(self, label, ids):
        return ids.get(label, IGNORED)

    def _prediction(self, row, labels):
        return labels[int(row.argmax())]


class Multilabel(_Texts):
    """Several classes an example, each on its own: those with a logit above 0. Primary: `f1` (micro)."""

    head = "multilabel"

    def labels(self, splits: Splits) -> list[str]:
        return sorted(set().union(*(example.label for example in [*splits.train, *splits.dev])))

    def score(self, examples, predictions):
        return score_multilabel(examples, predictions)

    def _target(self, label, ids):
        return [float(name in label) for name in ids]

    def _prediction(self, row, labels):
        return tuple(name for name, score in zip(labels, row, strict=True) if score > 0)


class Regression(_Texts):
    """A number an example. Primary: `pearson`."""

    head = "regression"

    def labels(self, splits: Splits) -> list[str]:
        return ["score"]

    def score(self, examples, predictions):
        return score_numbers(examples, predictions)

    def _target(self, label, ids):
        return float(label)

    def _prediction(self, row, labels):
        return float(row.reshape(-1)[0])


class Questions(_Summed):
    """Extractive question answering. Primary: `mrr`."""

    head = "span"

    def labels(self, splits: Splits) -> list[str]:
        return ["start", "end"]  # the order of the columns of the logits

    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        _is_published(level)
        return features_module.encode_questions(examples, tokenizer, max_length=max_length)

    def decode(self, examples, features, logits, *, labels, level="standard"):
        return features_module.decode_answers(examples, features, logits)

    def score(self, examples, predictions):
        return score_questions(examples, predictions)


def _is_published(level: str) -> bool:
    if level not in LEVELS:
        raise ValueError(f"level {level!r}: one of {LEVELS}")
    return level == "published"


KINDS: dict[str, Kind] = {
    "ner": Words("f1"),
    "relation": Classes("f1", score_relations),
    "classification": Classes("accuracy", score_classes),
    "multilabel": Multilabel("f1"),
    "regression": Regression("pearson"),
    "qa": Questions("mrr"),
}
