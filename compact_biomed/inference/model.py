"""`load(name)`: a fine-tuned model that is given text and gives entities, classes or answers."""

import io
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from compact_biomed.benchmarks.examples import QuestionExample, TextExample
from compact_biomed.errors import UserError
from compact_biomed.evaluation.features import best_spans, encode_questions, encode_texts, frame
from compact_biomed.inference import words as tags
from compact_biomed.inference.engines import Engine, engine_of
from compact_biomed.inference.words import Entity, Word, in_order, tokens, windows, words
from compact_biomed.machine import usable_cores

# ----------------------------------------------------------------------------------------------------
# Logits -> the class of a text, and the answers to a question.


class Label(NamedTuple):
    """A class, with its probability; of a model that gives a number, its name and the number."""

    label: str
    score: float


class Answer(NamedTuple):
    """A stretch of the context: context[start:end] is the text. The scores of all answers add up to 1."""

    start: int
    end: int
    score: float
    text: str


def ranked_labels(logits: np.ndarray, labels: Sequence[str], problem_type: str | None) -> list[Label]:
    """All labels, the likeliest first.

    Args:
        logits: [labels].
        problem_type: transformers' name: "regression" leaves the number as it is, "multi_label_classification"
            gives each label its own probability, else they add up to 1.
    """
    x = logits.astype(np.float64)
    if problem_type == "regression":
        scores = x
    elif problem_type == "multi_label_classification":
        scores = 1 / (1 + np.exp(-x))
    else:
        scores = np.exp(x - x.max())
        scores /= scores.sum()
    found = [Label(label, float(score)) for label, score in zip(labels, scores, strict=True)]
    return sorted(found, key=lambda each: -each.score)


def ranked_answers(context: str, features: Sequence[dict], logits: Sequence[np.ndarray], n: int) -> list[Answer]:
    """The `n` likeliest answers in one context, over its windows.

    Args:
        features: of `evaluation.encode.encode_questions`, of this context alone.
        logits: for each [positions, 2]: start, end.
    """
    (spans,) = best_spans(1, features, logits)
    return [Answer(start, end, score, context[start:end]) for (start, end), score in spans[:n]]


WINDOW = 256  # tokens, special ones included
_FAMILIES = {"token": "entities", "sequence": "classify", "span": "answers"}


def load(model: str | Path, *, window: int = WINDOW, threads: int = 0, precision: str = "auto") -> "Model":
    """A model that is ready to predict.

    Args:
        model: a checkpoint that `compact-biomed evaluate --save` kept, or a folder that `compact-biomed export` made.
        window: tokens that are read at once in long documents (entities, answers).
        threads: inputs side by side; 0 = one for each core.
        precision: of a PyTorch model: "auto" (bf16 where the processor computes it), "bf16" or "fp32".

    Raises:
        UserError: it cannot be read or has no head.
    """
    return Model(engine_of(model, precision), name=str(model), window=window, threads=threads)


class Model:
    """Predicts, one unpadded input on each core at a time: what else is asked changes no answer.

    Args:
        engine: computes logits.
        name: for messages.
        window, threads: see `load`.
    """

    def __init__(self, engine: Engine, *, name: str, window: int = WINDOW, threads: int = 0):
        self.engine, self.name = engine, name
        self._prefix, self._suffix = frame(engine.tokenizer)
        if threads < 0:
            raise UserError(f"{threads} threads", where="--threads", remedy="at least 1, or 0 for one on each core")
        special = len(self._prefix) + len(self._suffix)
        self.window = min(window, engine.limit)
        if self.window < special + 8:
            raise UserError(f"{window} tokens are too few", where="--window", remedy=f"at least {special + 8}")
        self._room = self.window - special
        self._ahead = 2 * (threads or usable_cores())
        self._pool = ThreadPoolExecutor(self._ahead // 2, initializer=single_threaded)
        self._documents = ThreadPoolExecutor(self._ahead // 2, initializer=single_threaded)  # they wait for the others
        self._encoding = threading.Lock()  # a tokenizer that cuts texts holds how in itself
        self._tokenizer = engine.tokenizer.backend_tokenizer
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # "[SEP]" in a document is what its author wrote, no mark of ours
        if engine.family == "token":
            tags.check_tags(engine.labels, where=name)

    @property
    def does(self) -> str:
        """Which of its methods it can: "entities", "classify" or "answers"."""
        return _FAMILIES[self.engine.family]

    def entities(self, text: str) -> list[Entity]:
        """The entities of a text of any length, in order."""
        return list(tags.entities(self.words(io.StringIO(text, newline="").read)))

    def words(self, read: Callable[[int], str]) -> Iterator[Word]:
        """The words of a document with their tags, in order, while it is read; memory does not grow with it.

        Args:
            read: gives at most so many characters, "" at the end (a text file's `read`).
        """
        self._require("entities")
        document = windows(tokens(read, self._tokenizer), self._room, self._room // 4)
        answered = in_order(self._window_logits, document, self._pool, self._ahead)
        return words(answered, self.engine.labels)

    def classify(self, text: str, pair: str | None = None) -> list[Label]:
        """All labels with their scores, the best first; texts that are too long are cut as in evaluation."""

        self._require("classify")
        example = TextExample("", text, pair, None)
        with self._encoding:
            (feature,) = encode_texts([example], self.engine.tokenizer, max_length=self.engine.limit)
        logits = self._feature_logits(feature)
        return ranked_labels(logits, self.engine.labels, self.engine.problem_type)

    def answers(self, question: str, context: str, *, n: int = 5) -> list[Answer]:
        """The `n` best answers to a question that stand in a context of any length, the best first."""

        self._require("answers")
        example = QuestionExample("", "", question, context, ())
        with self._encoding:
            features = encode_questions([example], self.engine.tokenizer, max_length=min(384, self.engine.limit))
        logits = list(self._pool.map(self._feature_logits, features))
        return ranked_answers(context, features, logits, n)

    def each(self, work: Callable[[Any], Any], documents: Iterable[Any]) -> Iterator[Any]:
        """work(document) in order, documents side by side as inputs are: a short one alone has work for one core.

        Args:
            work: asks this model.
        """
        return (result for _, result in in_order(work, documents, self._documents, self._ahead))

    def close(self) -> None:
        """End the threads."""
        self._documents.shutdown()
        self._pool.shutdown()

    def _window_logits(self, window):
        ids = [*self._prefix, *(token.id for token in window.tokens), *self._suffix]
        return self.engine(ids)[len(self._prefix) : len(self._prefix) + len(window.tokens)]

    def _feature_logits(self, feature: dict):
        return self.engine(feature["input_ids"], feature.get("token_type_ids"))

    def _require(self, method: str) -> None:
        if self.does != method:
            raise UserError(f"this model can not do this ({method}), but: {self.does}", where=self.name)


def single_threaded() -> None:
    """Each thread computes on one core."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
