"""`load(name)`: a fine-tuned model that is given text and gives entities, classes or answers."""

import io
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from compact_biomed.cores import usable_cores
from compact_biomed.errors import UserError
from compact_biomed.inference import entities as tags
from compact_biomed.inference.engines import Engine, engine_of
from compact_biomed.inference.entities import Entity
from compact_biomed.inference.texts import Answer, Label, ranked_answers, ranked_labels
from compact_biomed.inference.tokens import tokens
from compact_biomed.inference.windows import in_order, windows
from compact_biomed.inference.words import Word, words

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
        from compact_biomed.evaluation.encode import frame

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
        from compact_biomed.evaluation.encode import encode_texts
        from compact_biomed.evaluation.examples import TextExample

        self._require("classify")
        example = TextExample("", text, pair, None)
        with self._encoding:
            (feature,) = encode_texts([example], self.engine.tokenizer, max_length=self.engine.limit)
        logits = self._feature_logits(feature)
        return ranked_labels(logits, self.engine.labels, self.engine.problem_type)

    def answers(self, question: str, context: str, *, n: int = 5) -> list[Answer]:
        """The `n` best answers to a question that stand in a context of any length, the best first."""
        from compact_biomed.evaluation.encode import encode_questions
        from compact_biomed.evaluation.examples import QuestionExample

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
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
