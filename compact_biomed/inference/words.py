"""Answers of windows -> the words of a document with their tags."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from compact_biomed.inference.windows import Window


class Word(NamedTuple):
    """A word of the text, as the tokenizer splits it: at white space and, for BERT's, at punctuation.

    Args:
        start, end: characters of the text.
        tag: IOB2, of the word's first piece, as in evaluation.
        score: probability of the tag.
        lead: what stands between the word before and this one.
        surface: its characters.
    """

    start: int
    end: int
    tag: str
    score: float
    lead: str
    surface: str


def words(answered: Iterable[tuple[Window, np.ndarray]], labels: Sequence[str]) -> Iterator[Word]:
    """The words of a document, in order.

    Args:
        answered: windows, each with its logits [tokens, labels].
        labels: names of the columns.
    """
    number, open_word, pieces = None, None, []
    for window, logits in answered:
        tags, scores = _best(logits[window.first : window.last])
        for token, tag, score in zip(window.tokens[window.first : window.last], tags, scores, strict=True):
            if token.word == number:
                pieces.append(token)
                continue
            if open_word is not None:
                yield _closed(open_word, pieces)
            number, pieces = token.word, []
            open_word = Word(token.start, token.end, labels[tag], score, token.lead, token.surface)
    if open_word is not None:
        yield _closed(open_word, pieces)


def _closed(word: Word, further: list) -> Word:
    if not further:
        return word
    surface = word.surface + "".join(token.lead + token.surface for token in further)
    return word._replace(end=further[-1].end, surface=surface)


def _best(logits: np.ndarray) -> tuple[list[int], list[float]]:
    """For each row the label of the highest logit and its softmax."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return logits.argmax(-1).tolist(), (shifted.max(-1) / shifted.sum(-1)).tolist()
