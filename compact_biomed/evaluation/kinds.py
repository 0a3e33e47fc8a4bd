"""The kinds of tasks: labels, encoding, decoding, scoring and analysis of each, behind one interface."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Protocol

import numpy as np
from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example, Splits, TextExample
from compact_biomed.benchmarks.tasks import NEGATIVE
from compact_biomed.evaluation.analysis import candidates as rows
from compact_biomed.evaluation.analysis import errors
from compact_biomed.evaluation.analysis.analyze import analyze_confusions, analyze_entities, analyze_labels
from compact_biomed.evaluation.analysis.candidates import Candidates
from compact_biomed.evaluation.features import (
    Choice,
    Feature,
    decode_answers,
    decode_words,
    encode_questions,
    encode_texts,
    encode_words,
    probabilities,
)
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
_CHUNK = 1024  # examples per chunk of predictions, so that memory does not grow with their number


class Kind(Protocol):
    """A kind of task.

    Attributes:
        head: "token", "sequence", "multilabel", "regression", "span", or "none" (see `evaluation.zero_shot`).
    """

    head: str

    def labels(self, splits: Splits) -> list[str]:
        """Return the names of the outputs, sorted, so that label ids are the same in every process.

        Labels that occur in the test set alone are not included.
        """

    def encode(
        self,
        examples: Sequence[Example],
        tokenizer: PreTrainedTokenizerFast,
        *,
        labels: Sequence[str],
        max_length: int,
        level: str = "standard",
    ) -> list[Feature]:
        """Encode examples as features with their targets.

        The targets are `labels` (token: one id per position; sequence: an id; multilabel: 0.0 or
        1.0 per label; regression: a number) or `start` and `end` (span).
        """

    def decode(
        self,
        examples: Sequence[Example],
        features: Sequence[Feature],
        logits: Sequence[np.ndarray],
        *,
        labels: Sequence[str],
        level: str = "standard",
    ) -> list[Any]:
        """Return one prediction per example.

        Args:
            logits: of each feature: [positions, labels] for token, [labels] for sequence and
                multilabel, [1] for regression, [positions, 2] for span.
        """

    def score(self, examples: Sequence[Example], predictions: Sequence[Any]) -> Scores:
        """Score predictions on examples with known labels."""

    def candidates(
        self, examples: Sequence[Example], predictions: Sequence[Any], labels: Sequence[str]
    ) -> Candidates | None:
        """Return what could be predicted, from which scores per label and thresholds follow; None without labels."""

    def analyze(self, examples: Sequence[Example], predictions: Sequence[Any], labels: Sequence[str]) -> dict[str, Any]:
        """Return the part `analysis` of a record (`analysis.analyze`); empty if there is none."""

    def errors(
        self, examples: Sequence[Example], predictions: Sequence[Any], labels: Sequence[str]
    ) -> Iterator[dict[str, Any]]:
        """Yield the lines of errors.jsonl (`analysis.errors`)."""


def predict(
    kind: Kind,
    examples: Sequence[Example],
    tokenizer: PreTrainedTokenizerFast,
    logits: Callable[[Sequence[Feature]], Sequence[np.ndarray]],
    encoding: dict[str, Any],
) -> Iterator[list[Any]]:
    """Yield predictions chunk by chunk, one per example.

    Args:
        logits: computes the logits of each feature, in the shapes of `Kind.decode`.
        encoding: `labels`, `max_length` and `level`, the arguments of `Kind.encode`.
    """
    decoding = {name: encoding[name] for name in ("labels", "level")}
    for first in range(0, len(examples), _CHUNK):
        chunk = examples[first : first + _CHUNK]
        features = kind.encode(chunk, tokenizer, **encoding)
        yield kind.decode(chunk, features, logits(features), **decoding)


class _AnyKind:
    """What the kinds share: the analysis of candidates, and no candidates where a kind defines none."""

    def candidates(self, examples, predictions, labels) -> Candidates | None:
        """Return None: most kinds have neither types nor classes."""
        return None

    def analyze(self, examples, predictions, labels) -> dict[str, Any]:
        """Return what follows from the candidates, if there are any."""
        found = self.candidates(examples, predictions, labels)
        return {} if found is None else analyze_labels(found)


class EntityKind(_AnyKind):
    """Named entities. Primary metric: `f1` on words."""

    head = "token"

    def labels(self, splits: Splits) -> list[str]:
        return sorted({"O"}.union(*(example.tags for example in [*splits.train, *splits.dev])))

    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        ids = {label: number for number, label in enumerate(labels)}
        published = _is_published(level)
        return encode_words(examples, tokenizer, label_ids=ids, max_length=max_length, published=published)

    def decode(self, examples, features, logits, *, labels, level="standard"):
        return decode_words(features, logits, labels=labels, published=_is_published(level))

    def score(self, examples, predictions):
        return score_entities(examples, predictions)

    def candidates(self, examples, predictions, labels):
        return rows.of_entities(examples, predictions)

    def analyze(self, examples, predictions, labels):
        return super().analyze(examples, predictions, labels) | analyze_entities(examples, predictions)

    def errors(self, examples, predictions, labels):
        return errors.entity_errors(examples, predictions)


class _TextKind(_AnyKind):
    """A label per text, or pair of texts; subclasses define `_target` and `_prediction`."""

    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        _is_published(level)
        features = encode_texts(examples, tokenizer, max_length=max_length)
        ids = {label: number for number, label in enumerate(labels)}
        for feature in features:
            feature["labels"] = self._target(examples[feature["example"]].label, ids)
        return features

    def decode(self, examples, features, logits, *, labels, level="standard"):
        return [self._prediction(np.asarray(row), labels) for row in logits]


class ClassKind(_TextKind):
    """One class per example.

    Args:
        scorer: (examples, predicted classes) -> `Scores`.
        negative: names of the class that says that nothing is there.
    """

    head = "sequence"

    def __init__(self, scorer: Callable[[Sequence[TextExample], Sequence[str]], Scores], negative: Sequence[str] = ()):
        self._scorer, self._negative = scorer, negative

    def labels(self, splits: Splits) -> list[str]:
        return sorted({example.label for example in [*splits.train, *splits.dev]})

    def score(self, examples, predictions):
        return self._scorer(examples, [each.label for each in predictions])

    def candidates(self, examples, predictions, labels):
        return rows.of_classes(examples, predictions, labels, negative=self._negative)

    def analyze(self, examples, predictions, labels):
        return super().analyze(examples, predictions, labels) | analyze_confusions(examples, predictions)

    def errors(self, examples, predictions, labels):
        return errors.class_errors(examples, predictions, labels)

    def _target(self, label, ids):
        return ids.get(label, IGNORED)

    def _prediction(self, row, labels):
        return Choice(labels[int(row.argmax())], tuple(probabilities(row).tolist()))


class MultilabelKind(_TextKind):
    """Several classes per example, predicted where the logit is above 0. Primary metric: micro-averaged `f1`."""

    head = "multilabel"

    def labels(self, splits: Splits) -> list[str]:
        return sorted(set().union(*(example.label for example in [*splits.train, *splits.dev])))

    def score(self, examples, predictions):
        return score_multilabel(examples, [each.label for each in predictions])

    def candidates(self, examples, predictions, labels):
        return rows.of_classes(examples, predictions, labels, several=True)

    def errors(self, examples, predictions, labels):
        return errors.multilabel_errors(examples, predictions, labels)

    def _target(self, label, ids):
        return [float(name in label) for name in ids]

    def _prediction(self, row, labels):
        chosen = tuple(name for name, score in zip(labels, row, strict=True) if score > 0)
        return Choice(chosen, tuple(probabilities(row, several=True).tolist()))


class RegressionKind(_TextKind):
    """A number per example. Primary metric: `pearson`."""

    head = "regression"

    def labels(self, splits: Splits) -> list[str]:
        return ["score"]

    def score(self, examples, predictions):
        return score_numbers(examples, predictions)

    def errors(self, examples, predictions, labels):
        return errors.number_errors(examples, predictions)

    def _target(self, label, ids):
        return float(label)

    def _prediction(self, row, labels):
        return float(row.reshape(-1)[0])


class SimilarityKind(_AnyKind):
    """The similarity of two texts, each read alone: the cosine of their embeddings. Primary metric: `pearson`."""

    head = "none"

    def labels(self, splits: Splits) -> list[str]:
        return ["cosine"]

    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        """Encode the two texts of each example as two features in a row, without targets."""
        texts = [
            replace(example, text=text, pair=None) for example in examples for text in (example.text, example.pair)
        ]
        return encode_texts(texts, tokenizer, max_length=max_length)

    def decode(self, examples, features, logits, *, labels, level="standard"):
        """Return the cosines; `logits` are the embeddings [hidden] of the features."""
        vectors = np.asarray(logits, np.float64)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors[::2] * vectors[1::2]).sum(1).tolist()

    def score(self, examples, predictions):
        return score_numbers(examples, predictions)

    def errors(self, examples, predictions, labels):
        return errors.number_errors(examples, predictions)


class QuestionKind(_AnyKind):
    """Extractive question answering. Primary metric: `mrr`."""

    head = "span"

    def labels(self, splits: Splits) -> list[str]:
        return ["start", "end"]  # the columns of the logits

    def encode(self, examples, tokenizer, *, labels, max_length, level="standard"):
        _is_published(level)
        return encode_questions(examples, tokenizer, max_length=max_length)

    def decode(self, examples, features, logits, *, labels, level="standard"):
        return decode_answers(examples, features, logits)

    def score(self, examples, predictions):
        return score_questions(examples, predictions)

    def errors(self, examples, predictions, labels):
        return errors.question_errors(examples, predictions)


def _is_published(level: str) -> bool:
    if level not in LEVELS:
        raise ValueError(f"level {level!r}: one of {LEVELS}")
    return level == "published"


KINDS: dict[str, Kind] = {
    "ner": EntityKind(),
    "relation": ClassKind(score_relations, NEGATIVE),
    "classification": ClassKind(score_classes),
    "multilabel": MultilabelKind(),
    "regression": RegressionKind(),
    "similarity": SimilarityKind(),
    "qa": QuestionKind(),
}
