"""Load a fine-tuned model and predict: entities, classes or answers.

model = load("kept/tiny-NCBI-disease-seed1")
model.entities("She was treated for ovarian cancer.")
"""

import io
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from compact_biomed.benchmarks import tags
from compact_biomed.benchmarks.examples import QuestionExample, TextExample
from compact_biomed.corpus.pieces import QUESTION_WINDOW
from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis.thresholds import Thresholds, requested
from compact_biomed.evaluation.features import best_spans, encode_questions, encode_texts, pieces_of, probabilities
from compact_biomed.inference import words as tagging
from compact_biomed.inference.engines import Engine, open_engine
from compact_biomed.inference.words import Entity, Item, Result, Window, Word, in_order
from compact_biomed.machine import usable_cores

WINDOW = 256  # default tokens, special ones included
_METHODS = {"token": "entities", "sequence": "classify", "span": "answers"}  # family of the head -> method
_ABILITIES = {  # method -> what such a model does, and the head that it needs
    "entities": ("finds entities", "token classification"),
    "classify": ("classifies texts", "sequence classification"),
    "answers": ("answers questions", "question answering"),
}


class Label(NamedTuple):
    """A class with its probability; of a regression, its name and the number."""

    label: str
    score: float


class Answer(NamedTuple):
    """A stretch of the context: context[start:end] is the text. The scores of all answers add up to 1."""

    start: int
    end: int
    score: float
    text: str


def load(
    model: str | Path,
    *,
    window: int | None = None,
    threads: int = 0,
    precision: str = "auto",
    threshold: float | str | None = None,
) -> "Predictor":
    """Load a model that is ready to predict.

    Args:
        model: a checkpoint saved by `compact-biomed evaluate --save`, or a folder written by `compact-biomed export`.
        window: tokens that are read at once in long documents, special ones included; None = `WINDOW`, or as many as
            the model reads.
        threads: inputs computed in parallel; 0 = one per core.
        precision: of a PyTorch model: "auto" (bf16 where the processor computes it), "bf16" or "fp32".
        threshold: lowest score of entities and classes: "dev" for those per type or class that were chosen on dev,
            or a number from 0 to 1 for all; None = what is likeliest, whatever its score.

    Raises:
        UserError: it cannot be read, has no task head, reads fewer tokens than `window`, or has no such thresholds.
    """
    engine = open_engine(model, precision)
    return Predictor(engine, name=str(model), window=window, threads=threads, threshold=threshold)


class Predictor:
    """A model that predicts one unpadded input per core at a time, so that no answer depends on other inputs.

    Args:
        engine: computes logits.
        name: for messages.
        window, threads, threshold: see `load`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        window: int | None = None,
        threads: int = 0,
        threshold: float | str | None = None,
    ):
        self.engine, self.name = engine, name
        self.thresholds = self._thresholds(threshold)
        self._pieces = pieces_of(engine.tokenizer)
        if threads < 0:
            raise UserError(f"{threads} threads", where="--threads", remedy="at least 1, or 0 for one per core")
        self.window = min(WINDOW, engine.limit) if window is None else window
        special = self.window - self._pieces.room(self.window)
        if self.window > engine.limit:
            what = f"--window {window}, but this model reads at most {engine.limit} tokens"
            raise UserError(what, where=name, remedy=f"--window {engine.limit}, or leave it out")
        if self.window < special + 8:
            raise UserError(f"{window} tokens are too few", where="--window", remedy=f"at least {special + 8}")
        self._room = self.window - special
        self._ahead = 2 * (threads or usable_cores())
        self._pool = ThreadPoolExecutor(self._ahead // 2, initializer=single_threaded)
        # Documents wait for the inputs that they submit to the first pool, so they need one of their own.
        self._documents = ThreadPoolExecutor(self._ahead // 2, initializer=single_threaded)
        if engine.family == "token":
            tags.check_labels(engine.labels, where=name)

    @property
    def method(self) -> str:
        """The name of the method that this model supports: "entities", "classify" or "answers"."""
        return _METHODS[self.engine.family]

    def entities(self, text: str) -> list[Entity]:
        """Return the entities of a text of any length, in order.

        Raises:
            UserError: the model is not for entities.
        """
        return list(tagging.entities(self.words(io.StringIO(text, newline="").read)))

    def words(self, read: Callable[[int], str]) -> Iterator[Word]:
        """Return the words of a document with their tags, in order, while it is read. Memory stays constant.

        Args:
            read: returns at most so many characters, "" at the end (a text file's `read`).

        Raises:
            UserError: the model is not for entities.
        """
        self._require("entities")
        document = tagging.windows(tagging.tokens(read, self._pieces), self._room, self._room // 4)
        tagged = in_order(self._window_logits, document, self._pool, self._ahead)
        words = tagging.words(tagged, self.engine.labels)
        words = tagging.as_iob2(words) if tags.are_iob1(self.engine.labels) else words
        return words if self.thresholds is None else tagging.above(words, self.thresholds)

    def classify(self, text: str, pair: str | None = None) -> list[Label]:
        """Return all labels with their scores, the best first. Texts that are too long are cut as in evaluation.

        Raises:
            UserError: the model does not classify.
        """
        self._require("classify")
        example = TextExample("", text, pair, None)
        (feature,) = encode_texts([example], self.engine.tokenizer, max_length=self.engine.limit)
        logits = self._feature_logits(feature)
        return ranked_labels(logits, self.engine.labels, self.engine.problem_type)

    def choose(self, ranked: Sequence[Label]) -> list[str]:
        """Return the classes that are predicted among those of `classify`, the likeliest first.

        Without thresholds: the likeliest one, or where a text may have several, those above 0.5. With thresholds, see
        `Thresholds.choose`; there may be none.
        """
        several = self.engine.problem_type == "multi_label_classification"
        thresholds = self.thresholds or Thresholds(default=0.5 if several else 0.0)
        labels, scores = zip(*ranked, strict=True)
        return [labels[index] for index in thresholds.choose(labels, scores, several=several)]

    def answers(self, question: str, context: str, *, n: int = 5) -> list[Answer]:
        """Return the `n` best answers to a question in a context of any length, the best first.

        Raises:
            UserError: the model does not answer questions.
        """
        self._require("answers")
        example = QuestionExample("", "", question, context, ())
        length = min(QUESTION_WINDOW, self.engine.limit)
        features = encode_questions([example], self.engine.tokenizer, max_length=length)
        logits = list(self._pool.map(self._feature_logits, features))
        return ranked_answers(context, features, logits, n)

    def map(self, work: Callable[[Item], Result], documents: Iterable[Item]) -> Iterator[Result]:
        """Yield work(document) in order, several documents in parallel: a short one alone occupies one core.

        Args:
            work: calls this model.
        """
        return (result for _, result in in_order(work, documents, self._documents, self._ahead))

    def close(self) -> None:
        """Stop the threads."""
        self._documents.shutdown()
        self._pool.shutdown()

    def _window_logits(self, window: Window) -> np.ndarray:
        before, after = self._pieces.prefix, self._pieces.suffix
        ids = [*before, *(token.id for token in window.tokens), *after]
        return self.engine(ids)[len(before) : len(before) + len(window.tokens)]

    def _feature_logits(self, feature: dict) -> np.ndarray:
        return self.engine(feature["input_ids"], feature.get("token_type_ids"))

    def _thresholds(self, threshold: float | str | None) -> Thresholds | None:
        if threshold is None:
            return None
        if self.method == "answers" or self.engine.problem_type == "regression":
            raise UserError(
                "this model has neither types nor classes", where=f"--threshold {threshold}", remedy="leave it out"
            )
        return requested(threshold, self.engine.thresholds, where=self.name)

    def _require(self, method: str) -> None:
        if self.method != method:
            raise UserError(
                f"this model {_ABILITIES[self.method][0]}; it has no {_ABILITIES[method][1]} head",
                where=self.name,
                remedy=f"use `model.{self.method}`",
            )


def single_threaded() -> None:
    """Limit the torch of this thread to one core."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def ranked_labels(logits: np.ndarray, labels: Sequence[str], problem_type: str | None) -> list[Label]:
    """Return all labels, the likeliest first.

    Args:
        logits: [labels].
        problem_type: transformers' name: "regression" leaves the number as it is, "multi_label_classification"
            gives each label a probability of its own; otherwise the probabilities add up to 1.
    """
    if problem_type == "regression":
        scores = logits.astype(np.float64)
    else:
        scores = probabilities(logits, several=problem_type == "multi_label_classification")
    ranked = [Label(label, float(score)) for label, score in zip(labels, scores, strict=True)]
    return sorted(ranked, key=lambda each: -each.score)


def ranked_answers(context: str, features: Sequence[dict], logits: Sequence[np.ndarray], n: int) -> list[Answer]:
    """Return the `n` likeliest answers in one context, over its windows.

    Args:
        features: of `evaluation.features.encode_questions`, of this context alone.
        logits: for each [positions, 2]: start, end.
    """
    (spans,) = best_spans([context], features, logits)
    return [Answer(start, end, score, context[start:end]) for (start, end), score in spans[:n]]
