"""Load a fine-tuned model and predict: entities, classes or answers.

model = load("kept/tiny-NCBI-disease-seed1")
model.entities("She was treated for ovarian cancer.")
"""

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local
from typing import Any

import numpy as np

from compact_biomed.benchmarks import tags
from compact_biomed.benchmarks.examples import QuestionExample, TextExample
from compact_biomed.corpus.pieces import QUESTION_WINDOW
from compact_biomed.errors import UsageError, UserError
from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.evaluation.features import encode_questions, encode_texts, pieces_of
from compact_biomed.inference import words as tagging
from compact_biomed.inference.documents import Request, of_text
from compact_biomed.inference.engines import Engine, open_engine, requested, require_task
from compact_biomed.inference.inputs import Given, given
from compact_biomed.inference.ranking import Answer, Label, ranked_answers, ranked_labels
from compact_biomed.inference.words import Entity, Item, Result, Window, Word, in_order
from compact_biomed.machine import single_threaded, usable_cores
from compact_biomed.parameters import checked

WINDOW = 256  # default tokens, special ones included
CONTEXTS = ("sentence", "window")
PAIR_NEEDED = (
    "give two: a tab between them in a text or line, text and pair in JSON Lines or a table, or in Python "
    "model.classify(text, pair)"
)
# Family of the head -> method.
_METHODS = {"token": "entities", "sequence": "classify", "span": "answers", "encoder": "embed"}
_ABILITIES = {  # method -> what such a model does, and the head that it needs
    "entities": ("finds entities", "token classification"),
    "classify": ("classifies texts", "sequence classification"),
    "answers": ("answers questions", "question answering"),
}


def load(
    model: str | Path,
    *,
    window: int | None = None,
    context: str = "sentence",
    threads: int = 0,
    precision: str = "auto",
    threshold: float | str | None = None,
) -> "Predictor":
    """Load a model that is ready to predict.

    Args:
        model: a checkpoint saved by `compact-biomed evaluate --save`, a folder written by `compact-biomed export`, or
            an encoder without a task head, which embeds texts.
        window: tokens that are read at once in long texts, special ones included; None = `WINDOW`, or as many as the
            model reads.
        context: what a model of entities reads at once: "sentence", as in fine-tuning, or "window", as many sentences
            as fit.
        threads: inputs computed in parallel; 0 = one per core.
        precision: of a PyTorch model's predictions: "auto" (bf16 where it is faster), "bf16" or "fp32".
        threshold: lowest score of entities and classes: "dev" for those per type or class that were chosen on dev,
            or a number from 0 to 1 for all; None = what is likeliest, whatever its score.

    Raises:
        UserError: it cannot be read, reads fewer tokens than `window`, or has no such thresholds.
    """
    engine = open_engine(model, precision)
    return Predictor(engine, name=str(model), window=window, context=context, threads=threads, threshold=threshold)


class Predictor:
    """A model that predicts one unpadded input per core at a time, so that no answer depends on other inputs.

    Args:
        engine: computes logits.
        name: for messages.
        window, context, threads, threshold: see `load`.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        name: str,
        window: int | None = None,
        context: str = "sentence",
        threads: int = 0,
        threshold: float | str | None = None,
    ):
        self.engine, self.name = engine, name
        self.thresholds = self._thresholds(threshold)
        self.pairs = engine.pairs if engine.family == "sequence" else None
        self._pieces = pieces_of(engine.tokenizer)
        if context not in CONTEXTS:
            raise UsageError(f"no context {context!r}", where="--context", remedy=f"one of {', '.join(CONTEXTS)}")
        self.context = context
        if threads < 0:
            raise UsageError(f"{threads} threads", where="--threads", remedy="at least 1, or 0 for one per core")
        self.window = min(WINDOW, engine.limit) if window is None else window
        special = self.window - self._pieces.room(self.window)
        if self.window > engine.limit:
            what = f"--window {window}, but this model reads at most {engine.limit} tokens"
            raise UsageError(what, where=name, remedy=f"--window {engine.limit}, or leave it out")
        if self.window < special + 8:
            raise UsageError(f"{window} tokens are too few", where="--window", remedy=f"at least {special + 8}")
        self._room = self.window - special
        self._ahead = 2 * (threads or usable_cores())
        self._pool = ThreadPoolExecutor(self._ahead // 2, initializer=single_threaded)
        # Documents wait for the inputs that they submit to the first pool, so they need one of their own.
        self._thread = local()
        self._documents = ThreadPoolExecutor(self._ahead // 2, initializer=self._begin_thread_of_map)
        if engine.family == "token":
            tags.check_labels(engine.labels, where=name)

    @property
    def method(self) -> str:
        """The name of what this model predicts: "entities", "classify" or "answers"; "embed": only vectors."""
        return _METHODS[self.engine.family]

    def entities(self, texts: Any) -> Any:
        """Return the entities of a text of any length, in order; of several texts, in the shape of what is given.

        Args:
            texts: a text (str) -> a list of `Entity`. A list (or another ordered iterable) of texts -> a list of
                lists. A pandas Series -> a Series. A DataFrame with a column "text" -> a DataFrame, one row per entity.
                A `pathlib.Path` of a text -> a list of `Entity`; of a folder of texts or of JSON Lines -> a dictionary
                with the documents' names. Several texts are computed in parallel, to the same bits as one by one.

        Raises:
            UserError: the model is not for entities, or these are no texts.
        """
        return self._answer("entities", Entity, given(texts))

    def words(self, read: Callable[[int], str]) -> Iterator[Word]:
        """Return the words of a document with their tags, in order, while it is read. Memory stays constant.

        Args:
            read: returns at most so many characters, "" at the end (a text file's `read`).

        Raises:
            UserError: the model is not for entities.
        """
        self._require("entities")
        found = tagging.tokens(read, self._pieces, by_sentence=self.context == "sentence")
        document = tagging.sentence_windows(found, self._room, self._room // 4)
        tagged = in_order(self._window_logits, document, self._pool, self._ahead)
        words = tagging.words(tagged, self.engine.labels)
        words = tagging.as_iob2(words) if tags.are_iob1(self.engine.labels) else words
        return words if self.thresholds is None else tagging.above(words, self.thresholds)

    def words_of(self, request: Request) -> Iterator[Word]:
        """Return the words of a document with their tags; each of its passages is read by itself.

        Raises:
            UserError: the model is not for entities.
        """
        if not request.passages:
            return self.words(request.read)
        text = request.read()
        parts = ((start, self.words(io.StringIO(text[start:end], newline="").read)) for start, end in request.passages)
        return tagging.shifted(parts, text)

    def classify(self, texts: Any, pair: Any = None) -> Any:
        """Return all labels with their scores, the best first; with thresholds, those that are predicted (`choose`).

        Texts that are too long are cut as in evaluation.

        Args:
            texts: as for `entities`; of a text, a list of `Label`. A DataFrame -> the same rows with the best label.
            pair: the second text of a pair: one for all (str), or one per text; None: there is none, or it is in the
                column "pair" of the DataFrame or JSON Lines.

        Raises:
            UserError: the model does not classify, these are no texts, or it was fine-tuned on pairs and this is one
                text, or the other way round.
        """
        return self._answer("classify", Label, given(texts, pair=pair))

    @checked
    def answers(self, question: Any, context: Any = None, *, n: int = 5) -> Any:
        """Return the `n` best answers to a question in a context of any length, the best first.

        Args:
            question: one for all contexts (str), or one per context. A DataFrame or a Path of JSON Lines with
                "question" and "text" stands for both -> the same rows with the best answer, or a dictionary.
            context: as for `entities`; of a text, a list of `Answer`.
            n: number of answers.

        Raises:
            UserError: the model does not answer questions, or these are no texts.
        """
        if context is None and isinstance(question, str):
            raise UserError("no context", where="context", remedy="model.answers(question, context)")
        asked = given(question, question=None) if context is None else given(context, question=question)
        return self._answer("answers", Answer, asked, n=n)

    def embed(self, texts: Any) -> Any:
        """Return vectors of texts: means of the encoder's last states over all tokens, in float32.

        They are those that `evaluate --protocol zero-shot` scores; the cosine of two is the similarity of their texts.
        Every model has them, with its task head or without one; an export, if its graph shows where the encoder ends.
        Texts that are too long are cut at the model's limit.

        Args:
            texts: as for `entities`. A text -> [width]; a list, a Series or a DataFrame -> [texts, width]; a folder or
                JSON Lines -> a dictionary.

        Raises:
            UserError: these are no texts, or the export has no vectors.
        """
        asked = given(texts)
        if asked.is_single:
            return asked.shaped(map(self.vector, asked.requests), list)
        vectors = self.map(self.vector, asked.requests)
        if isinstance(texts, Path):
            return asked.shaped(vectors, list)
        rows = list(vectors)
        return np.stack(rows) if rows else np.zeros((0, len(self.vector(of_text("")))), np.float32)

    def vector(self, request: Request) -> np.ndarray:
        """Return the vector of one document; see `embed`."""
        return self.engine.vector(self._feature(request.read())["input_ids"])

    def predict(self, request: Request, *, n: int = 5, watch: Callable[[], None] = lambda: None) -> list:
        """Return the entities, labels or answers of one document.

        Args:
            n: number of answers.
            watch: called between windows of a context; an error that it raises ends the work.

        Raises:
            UserError: the model answers questions, and there is none.
        """
        if self.method == "entities":
            return list(tagging.entities(self.words_of(request)))
        if self.method == "classify":
            labels = self.labels(request)
            return labels if self.thresholds is None else self.choose(labels)
        if request.question is None:
            raise UserError("no question", where=request.where, remedy='give {"question": ..., "text": ...}')
        return self._answers(request.question, request.read(), n, watch)

    def _answer(self, method: str, row: type, asked: Given, **options: Any) -> Any:
        self._require(method)

        def work(request: Request) -> list:
            return self.predict(request, **options)

        return asked.shaped(map(work, asked.requests) if asked.is_single else self.map(work, asked.requests), row)

    def labels(self, request: Request) -> list[Label]:
        """Return all labels of one document with their scores, the best first, whatever the thresholds.

        Raises:
            UserError: the model was fine-tuned on pairs of texts and this is one text, or the other way round.
        """
        logits = self._feature_logits(self._feature(*self._texts(request)))
        return ranked_labels(logits, self.engine.labels, self.engine.problem_type)

    @property
    def several(self) -> bool:
        """Whether a text may have several labels, or none."""
        return self.engine.problem_type == "multi_label_classification"

    def choose(self, ranked: Sequence[Label]) -> list[Label]:
        """Return the labels that are predicted among all of a text, the best first.

        Without thresholds: the likeliest one, or where a text may have several, those above 0.5. With thresholds, see
        `Thresholds.choose`; there may be none.
        """
        thresholds = self.thresholds or Thresholds(default=0.5 if self.several else 0.0)
        labels, scores = zip(*ranked, strict=True)
        return [ranked[index] for index in thresholds.choose(labels, scores, several=self.several)]

    def _answers(self, question: str, context: str, n: int, watch: Callable[[], None]) -> list[Answer]:
        example = QuestionExample("", "", question, context, ())
        length = min(QUESTION_WINDOW, self.engine.limit)
        features = encode_questions([example], self.engine.tokenizer, max_length=length)
        logits = []
        for _, each in in_order(self._feature_logits, features, self._pool, self._ahead):
            watch()
            logits.append(each)
        return ranked_answers(context, features, logits, n)

    def map(self, work: Callable[[Item], Result], documents: Iterable[Item]) -> Iterator[Result]:
        """Yield work(document) in order, several documents in parallel: a short one alone occupies one core.

        Args:
            work: calls this model; it may itself call `map`, which is then done in its thread.
        """
        if getattr(self._thread, "is_of_map", False):  # waiting here for threads of the same pool might never end
            return map(work, documents)
        return (result for _, result in in_order(work, documents, self._documents, self._ahead))

    def close(self) -> None:
        """Stop the threads; work that nobody waits for any more, as after Ctrl-C, is not finished."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._documents.shutdown(cancel_futures=True)
        self._pool.shutdown()

    def __enter__(self) -> "Predictor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _begin_thread_of_map(self) -> None:
        single_threaded()
        self._thread.is_of_map = True

    def _window_logits(self, window: Window) -> np.ndarray:
        before, after = self._pieces.prefix, self._pieces.suffix
        ids = [*before, *(token.id for token in window.tokens), *after]
        return self.engine(ids)[len(before) : len(before) + len(window.tokens)]

    def _texts(self, request: Request) -> tuple[str, str | None]:
        """Return the text, or both texts, of a document as the model was fine-tuned on them.

        For a model of pairs, a tab separates the two in a text without a second one.
        """
        text, pair = request.read(), request.pair
        if self.pairs and pair is None and text.count("\t") == 1:
            text, pair = text.split("\t")
        where = request.where or self.name
        if self.pairs and not (text.strip() and pair and pair.strip()):
            what = "one text, but this model was fine-tuned on pairs of texts"
            raise UserError(what, where=where, remedy=PAIR_NEEDED)
        if self.pairs is False and pair is not None:
            what = "two texts, but this model was fine-tuned on single texts"
            raise UserError(what, where=where, remedy="leave the second text (pair, text_b) out")
        return text, pair

    def _feature(self, text: str, pair: str | None = None) -> dict:
        example = TextExample("", text, pair, None)
        return encode_texts([example], self.engine.tokenizer, max_length=self.engine.limit)[0]

    def _feature_logits(self, feature: dict) -> np.ndarray:
        return self.engine(feature["input_ids"], feature.get("token_type_ids"))

    def _thresholds(self, threshold: float | str | None) -> Thresholds | None:
        if threshold is None:
            return None
        require_task(self.engine, self.name)
        if self.method not in ("entities", "classify") or self.engine.problem_type == "regression":
            raise UsageError(
                "this model has neither types nor classes", where=f"--threshold {threshold}", remedy="leave it out"
            )
        return requested(threshold, self.engine.thresholds, where=self.name)

    def _require(self, method: str) -> None:
        require_task(self.engine, self.name)
        if self.method != method:
            raise UserError(
                f"this model {_ABILITIES[self.method][0]}; it has no {_ABILITIES[method][1]} head",
                where=self.name,
                remedy=f"use `model.{self.method}`",
            )
