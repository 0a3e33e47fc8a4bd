"""Unlabelled text -> examples of a task without their labels."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from compact_biomed.benchmarks.examples import Example, QuestionExample, TextExample, WordsExample
from compact_biomed.benchmarks.test_sets import texts_of
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError
from compact_biomed.files import sha256_json

# What a label that is not known looks like to `Kind.encode`; it is never trained on.
_NO_LABEL = {"relation": None, "classification": None, "multilabel": (), "regression": 0.0}


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


@dataclass(frozen=True)
class Unlabelled:
    """What is read besides the labelled examples.

    Args:
        texts: from files.
        left_out: of them, as many were left out, for they stand in dev or test.
        rest: examples of the task's own whose labels are not read.
    """

    texts: Sequence[Text] = ()
    left_out: int = 0
    rest: Sequence[Example] = ()

    def __len__(self) -> int:
        return len(self.texts) + len(self.rest)

    def sha256(self) -> str:
        """Of all that is read."""
        return sha256_json([[vars(each) for each in self.texts], [vars(example) for example in self.rest]])


def read_texts(path: Path | str, *, pairs: bool, questions: bool) -> list[Text]:
    """The lines of a file that are not blank: JSON objects with "text" if its name says .jsonl, else sentences.

    Args:
        pairs: the task's examples are pairs of texts.
        questions: they are questions with contexts.

    Raises:
        UserError: no file, no text in it, a line that is no JSON object with a "text", or without the "pair" or
            "question" that the task has.
    """
    name = str(path).removesuffix(".gz")
    if not Path(path).is_file():
        raise UserError("no such file", where=path, remedy="--unlabelled takes files with one sentence a line")
    lines = ((f"{path}:{number}", line) for number, line in read_lines(path) if line.strip())
    as_json = name.endswith((".jsonl", ".ndjson"))
    found = [_of_json(line, where) if as_json else Text(line.strip()) for where, line in lines]
    for number, each in enumerate(found, 1):
        for field, needed in (("pair", pairs), ("question", questions)):
            if needed and not getattr(each, field):
                raise UserError(
                    f'text {number} has no "{field}", and this task has',
                    where=path,
                    remedy=f'JSON lines (.jsonl): {{"text": ..., "{field}": ...}}',
                )
    if not found:
        raise UserError("no text in this file", where=path, remedy="one sentence a line")
    return found


def _of_json(line: str, where: str) -> Text:
    remedy = 'each line is {"text": ...}, with "pair" or "question" where the task has them'
    try:
        given = json.loads(line)
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=where, remedy=remedy) from error
    if not isinstance(given, dict) or not isinstance(given.get("text"), str) or not given["text"].strip():
        raise UserError('no "text"', where=where, remedy=remedy)
    for field in ("pair", "question"):
        if not isinstance(given.get(field, ""), str):
            raise UserError(f'"{field}" is no text', where=where, remedy=remedy)
    return Text(given["text"], given.get("pair"), given.get("question"))


def clear_of(texts: Iterable[Text], known: Iterable[Example]) -> list[Text]:
    """The texts without those that are one of the known examples: letters and digits alone compared, case ignored."""
    seen = {_letters(" ".join(texts_of(example))) for example in known}
    return [each for each in texts if _letters(" ".join(_parts(each))) not in seen]


def _parts(each: Text) -> list[str]:
    return [part for part in (each.question, each.text, each.pair) if part is not None]


def _letters(text: str) -> str:
    return "".join(filter(str.isalnum, text.casefold()))


def as_examples(texts: Sequence[Text], kind: str, tokenizer: "PreTrainedTokenizerFast") -> list[Example]:
    """Texts as examples of a kind of task; a text without a word is left out.

    Args:
        kind: a key of `evaluation.kinds.KINDS`.
        tokenizer: says where a word of a sentence begins and ends, for BERT's at white space and punctuation.
    """
    examples: list[Example] = []
    for number, each in enumerate(texts):
        key = f"unlabelled/{number}"
        if kind == "qa":
            examples.append(QuestionExample(key, key, each.question, each.text, ()))
        elif kind != "ner":
            examples.append(TextExample(key, each.text, each.pair, _NO_LABEL[kind]))
        elif words := _words(each.text, tokenizer):
            examples.append(WordsExample(key, words, ("O",) * len(words)))
    return examples


def _words(text: str, tokenizer: "PreTrainedTokenizerFast") -> tuple[str, ...]:
    spans = [span for _, span in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(text)]
    return tuple(word for start, end in spans if (word := text[start:end].strip()))
