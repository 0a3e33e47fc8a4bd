"""Read unlabeled text and turn it into examples of a task, without labels."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.benchmarks.examples import Example, QuestionExample, TextExample, WordsExample
from compact_biomed.benchmarks.test_sets import texts_of
from compact_biomed.corpus.pieces import split_words
from compact_biomed.corpus.streams import kind_by_name, read_lines
from compact_biomed.errors import UserError, no_file
from compact_biomed.files import sha256_json
from compact_biomed.settings import parse_json

# The placeholder for an unknown label that `Kind.encode` accepts; it is never trained on.
_NO_LABEL = {"relation": None, "classification": None, "multilabel": (), "regression": 0.0}
_OBJECT = 'each line is {"text": ...}, with "pair" or "question" where the task has them'


@dataclass(frozen=True)
class Text:
    """One line of a file.

    Args:
        text: the sentence, the text, or the context of the question.
        pair: the second text of a pair, or None.
        question: to be answered from the text, or None.
    """

    text: str
    pair: str | None = None
    question: str | None = None

    def parts(self) -> list[str]:
        """Return its texts in the order in which a model reads them."""
        return [part for part in (self.question, self.text, self.pair) if part is not None]


@dataclass(frozen=True)
class UnlabeledText:
    """What a student reads besides the labeled examples.

    Args:
        texts: from files.
        left_out: number of texts left out because they are in the dev or test set.
        rest: examples of the task whose labels are not read.
    """

    texts: Sequence[Text] = ()
    left_out: int = 0
    rest: Sequence[Example] = ()

    def __len__(self) -> int:
        return len(self.texts) + len(self.rest)

    def sha256(self) -> str:
        """Return the checksum of all that is read."""
        return sha256_json([[vars(text) for text in self.texts], [vars(example) for example in self.rest]])


def read_texts(path: Path | str, *, pairs: bool, questions: bool) -> list[Text]:
    """Read the lines of a file that are not blank: JSON objects with "text" if the file is named so, else sentences.

    Args:
        pairs: the examples of the task are pairs of texts.
        questions: they are questions with contexts.

    Raises:
        UserError: no file, no text in it, a line that is no JSON object with a "text", or one without the "pair" or
            "question" that the task has.
    """
    if not Path(path).is_file():
        raise no_file(path, "name a file with one sentence per line")
    lines = ((f"{path}:{number}", line) for number, line in read_lines(path) if line.strip())
    as_json = kind_by_name(path) == "jsonl"
    texts = [_from_json(line, where) if as_json else Text(line.strip()) for where, line in lines]
    for number, text in enumerate(texts, 1):
        for field, needed in (("pair", pairs), ("question", questions)):
            if needed and not getattr(text, field):
                raise UserError(
                    f'text {number} has no "{field}", which this task needs',
                    where=path,
                    remedy=f'write JSON lines (.jsonl): {{"text": ..., "{field}": ...}}',
                )
    if not texts:
        raise UserError("no text in this file", where=path, remedy="write one sentence per line")
    return texts


def _from_json(line: str, where: str) -> Text:
    content = parse_json(line, where=where, remedy=_OBJECT)
    if not isinstance(content, dict) or not isinstance(content.get("text"), str) or not content["text"].strip():
        raise UserError('no "text"', where=where, remedy=_OBJECT)
    for field in ("pair", "question"):
        if not isinstance(content.get(field, ""), str):
            raise UserError(f'"{field}" is not a string', where=where, remedy=_OBJECT)
    return Text(content["text"], content.get("pair"), content.get("question"))


def clear_of(texts: Iterable[Text], known: Iterable[Example]) -> list[Text]:
    """Return the texts that are none of the known examples; only letters and digits are compared, without case."""
    excluded = {_letters(" ".join(texts_of(example))) for example in known}
    return [text for text in texts if _letters(" ".join(text.parts())) not in excluded]


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def as_examples(texts: Sequence[Text], kind: str) -> list[Example]:
    """Turn texts into examples of a kind of task; a text without a word is left out.

    Args:
        kind: a key of `evaluation.kinds.KINDS`; for "ner" the text is split as `predict` splits it.
    """
    examples: list[Example] = []
    for number, text in enumerate(texts):
        key = f"unlabelled/{number}"
        if kind == "qa":
            examples.append(QuestionExample(key, key, text.question, text.text, ()))
        elif kind != "ner":
            examples.append(TextExample(key, text.text, text.pair, _NO_LABEL[kind]))
        elif words := tuple(text.text[start:end] for start, end in split_words(text.text)):
            examples.append(WordsExample(key, words, ("O",) * len(words)))
    return examples
