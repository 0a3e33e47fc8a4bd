"""Find the entities of a document of any length, in constant memory.

    text -> blocks -> words -> tokens -> sentences -> windows -> (a model tags them) -> words with tags -> entities

A sentence is read by itself, as in fine-tuning; one that is too long, in windows that overlap.

Every step is a generator that reads as much of its input as it needs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from itertools import groupby
from typing import NamedTuple, TypeVar

import numpy as np

from compact_biomed.benchmarks.tags import UNTYPED
from compact_biomed.corpus.pieces import Pieces, split_words
from compact_biomed.corpus.sentences import LOOK_BACK, begins_sentence
from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.evaluation.features import probabilities

BLOCK = 1 << 16  # characters
_LONGEST_RUN = 16 * BLOCK  # characters without white space after which a block is cut anyway
_SPACE = " \t\r\n"

Item = TypeVar("Item")
Result = TypeVar("Result")


class Span(NamedTuple):
    """A word of a text.

    Args:
        start, end: characters of the whole text.
        lead: characters between the word before and this one.
        surface: its own characters. All leads and surfaces in a row are the text.
        begins: whether it is the first of a sentence that is read by itself.
    """

    start: int
    end: int
    lead: str
    surface: str
    begins: bool = False


class Token(NamedTuple):
    """A piece of a word.

    Args:
        id: in the vocabulary.
        word: of which this is the first piece; None for further pieces.
    """

    id: int
    word: Span | None


class Window(NamedTuple):
    """Tokens that a model reads together; it tags those from `first` to before `last`, the others are context."""

    tokens: list[Token]
    first: int
    last: int


class Word(NamedTuple):
    """A word with its tag: text is split at white space and punctuation, as `corpus.pieces.split_words` does.

    Args:
        start, end: characters of the text.
        tag: IOB2, of the first piece of the word, as in evaluation.
        score: probability of the tag.
        lead: characters between the word before and this one.
        surface: its own characters.
        begins: whether it is the first of a sentence that was read by itself; no entity goes on here.
    """

    start: int
    end: int
    tag: str
    score: float
    lead: str
    surface: str
    begins: bool = False


class Entity(NamedTuple):
    """A name in a text.

    Args:
        start, end: characters of the text: text[start:end] is the name.
        label: its type; "Entity" where the model has one type without a name.
        score: mean probability of its words' tags.
        text: its characters.
    """

    start: int
    end: int
    label: str
    score: float
    text: str


# ---- text -> words -> tokens


def blocks(read: Callable[[int], str], size: int = BLOCK) -> Iterator[str]:
    """Cut a text where a word ends and white space begins, so that a block has the same words as in the whole text.

    A run of more than `_LONGEST_RUN` characters without white space is cut all the same.

    Args:
        read: returns at most so many characters, "" at the end (a text file's `read`).
    """
    rest = ""
    while more := read(size):
        rest += more
        cut = _last_word_end(rest)
        if cut == 0 and len(rest) >= _LONGEST_RUN:
            cut = len(rest)
        if cut:
            yield rest[:cut]
            rest = rest[cut:]
    if rest:
        yield rest


def _last_word_end(text: str) -> int:
    """Return the last position at which a word ends and white space begins, 0 if there is none."""
    last = max(text.rfind(space) for space in _SPACE)
    return len(text[:last].rstrip(_SPACE)) if last > 0 else 0


def tokens(
    read: Callable[[int], str], pieces: Pieces, size: int = BLOCK, *, by_sentence: bool = False
) -> Iterator[Token]:
    """Split a text into words, and these into pieces, in order; memory does not grow with the text.

    Args:
        read: as for `blocks`.
        pieces: of the vocabulary.
        by_sentence: find out where sentences begin.
    """
    offset, lead, sentence = 0, "", ""  # `sentence`: its last characters
    for block in blocks(read, size):
        spans, done = split_words(block), 0
        for (start, end), ids in zip(spans, pieces.of_words([block[s:e] for s, e in spans]), strict=True):
            lead, surface = lead + block[done:start], block[start:end]
            begins = by_sentence and begins_sentence(sentence, lead, block[start : start + 2])
            sentence = surface if begins else (sentence + lead + surface)[-LOOK_BACK:]
            yield Token(ids[0], Span(offset + start, offset + end, lead, surface, begins))
            for piece in ids[1:]:
                yield Token(piece, None)
            done, lead = end, ""
        lead += block[done:]
        offset += len(block)


# ---- tokens -> windows


def windows(tokens: Iterable[Token], length: int, overlap: int) -> Iterator[Window]:
    """Cut a document into windows of `length` tokens of which neighbors share `overlap`.

    Each token is tagged once, by the window in which it is farther from an edge. The ends of the document are no edges.
    0 <= 2 * overlap <= length.
    """
    half = overlap // 2
    buffer: list[Token] = []
    first = 0
    for token in tokens:
        if len(buffer) == length:  # and one more: this window is not the last
            yield Window(buffer, first, length - overlap + half)
            buffer, first = buffer[length - overlap :], half
        buffer.append(token)
    if buffer:
        yield Window(buffer, first, len(buffer))


def sentence_windows(tokens: Iterable[Token], length: int, overlap: int) -> Iterator[Window]:
    """Cut a document into its sentences (`Span.begins`), and each of them into `windows`."""
    number = 0

    def sentence_of(token: Token) -> int:
        nonlocal number
        number += token.word is not None and token.word.begins
        return number

    for _, sentence in groupby(tokens, sentence_of):
        yield from windows(sentence, length, overlap)


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], pool: Executor, ahead: int
) -> Iterator[tuple[Item, Result]]:
    """Yield (item, work(item)) for each item in order, computed by a pool, with at most `ahead` in memory.

    If the items end in an error, the results of those before it come first.
    """
    pending: deque = deque()
    items, failure = iter(items), None
    try:
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception as error:
                failure = error
                break
            pending.append((item, pool.submit(work, item)))
            if len(pending) >= ahead:
                oldest, future = pending.popleft()
                yield oldest, future.result()
        while pending:
            oldest, future = pending.popleft()
            yield oldest, future.result()
        if failure is not None:
            raise failure
    finally:
        for _, future in pending:
            future.cancel()


# ---- windows with logits -> words


def words(tagged: Iterable[tuple[Window, np.ndarray]], labels: Sequence[str]) -> Iterator[Word]:
    """Yield the words of a document with their tags, in order.

    Args:
        tagged: windows, each with its logits [tokens, labels].
        labels: names of the columns.
    """
    for window, logits in tagged:
        tags, scores = _best(logits[window.first : window.last])
        for token, tag, score in zip(window.tokens[window.first : window.last], tags, scores, strict=True):
            if token.word is not None:
                start, end, lead, surface, begins = token.word
                yield Word(start, end, labels[tag], score, lead, surface, begins)


def shifted(parts: Iterable[tuple[int, Iterable[Word]]], text: str) -> Iterator[Word]:
    """Yield the words of a text whose parts were read by themselves, at their places in the text.

    Args:
        parts: first character of each part, and its words; in order.
        text: all of it.
    """
    done = 0
    for offset, words in parts:
        for word in words:
            start, end = offset + word.start, offset + word.end
            yield word._replace(start=start, end=end, lead=text[done:start])
            done = end


def as_iob2(words: Iterable[Word]) -> Iterator[Word]:
    """Convert IOB1 tags to IOB2: an I that continues no entity becomes a B."""
    before, of = "O", ""
    for word in words:
        prefix, _, kind = word.tag.partition("-")
        if prefix == "I" and (before == "O" or kind != of or word.begins):
            word = word._replace(tag=f"B{word.tag[1:]}")
        before, of = prefix, kind
        yield word


def _best(logits: np.ndarray) -> tuple[list[int], list[float]]:
    """Return the label of the highest logit of each row, and its probability."""
    return logits.argmax(-1).tolist(), probabilities(logits).max(-1).tolist()


# ---- words -> entities


def types(labels: Iterable[str]) -> list[str]:
    """Return the types of entities that a model with these labels finds, sorted."""
    return sorted({label.partition("-")[2] or UNTYPED for label in labels if label != "O"})


def entities(words: Iterable[Word]) -> Iterator[Entity]:
    """Join tagged words to entities by strict IOB2, as evaluation does: an I that no B precedes is ignored."""
    for group in _groups(words):
        if group[0].tag.startswith("B"):
            text = group[0].surface + "".join(word.lead + word.surface for word in group[1:])
            yield Entity(group[0].start, group[-1].end, _type(group), _score(group), text)


def above(words: Iterable[Word], thresholds: Thresholds) -> Iterator[Word]:
    """Yield the words with the tag O in place of those of entities whose score does not reach its threshold."""
    for group in _groups(words):
        if group[0].tag.startswith("B") and _score(group) < thresholds.of(_type(group)):
            yield from (word._replace(tag="O") for word in group)
        else:
            yield from group


def without_strays(words: Iterable[Word]) -> Iterator[Word]:
    """Yield the words with the tag O in place of each I that continues no entity: `entities` ignores it too."""
    for group in _groups(words):
        stray = group[0].tag.startswith("I")
        yield from (word._replace(tag="O") for word in group) if stray else group


def _groups(words: Iterable[Word]) -> Iterator[list[Word]]:
    """Yield the words of each entity together, and every other word alone."""
    current: list[Word] = []
    for word in words:
        prefix, _, kind = word.tag.partition("-")
        if current and prefix == "I" and kind == current[0].tag.partition("-")[2] and not word.begins:
            current.append(word)
            continue
        if current:
            yield current
        current = [word] if prefix == "B" else []
        if not current:
            yield [word]
    if current:
        yield current


def _type(entity: list[Word]) -> str:
    return entity[0].tag.partition("-")[2] or UNTYPED


def _score(entity: list[Word]) -> float:
    return sum(word.score for word in entity) / len(entity)
