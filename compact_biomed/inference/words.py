"""Find the entities of a document of any length, in constant memory.

    text -> blocks -> tokens -> overlapping windows -> (a model tags each window) -> words with tags -> entities

Every step is a generator that reads as much of its input as it needs.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numpy as np
from tokenizers import Tokenizer

from compact_biomed.errors import UserError

BLOCK = 1 << 16  # characters
_LONGEST_RUN = 16 * BLOCK  # characters without white space after which a block is cut anyway
_SPACE = " \t\r\n"
UNTYPED = "Entity"  # the label where tags are a bare B, I and O

Item = TypeVar("Item")
Result = TypeVar("Result")


class Token(NamedTuple):
    """A word-piece with its position in the text.

    Args:
        id: in the vocabulary.
        start, end: characters of the whole text.
        word: number of the word; pieces of one word share it.
        lead: characters between the token before and this one.
        surface: its own characters. All leads and surfaces in a row are the text.
    """

    id: int
    start: int
    end: int
    word: int
    lead: str
    surface: str


class Window(NamedTuple):
    """Tokens that a model reads together; it tags those from `first` to before `last`, the others are context."""

    tokens: list[Token]
    first: int
    last: int


class Word(NamedTuple):
    """A word as the tokenizer splits text: at white space and, for BERT's, at punctuation.

    Args:
        start, end: characters of the text.
        tag: IOB2, of the first piece of the word, as in evaluation.
        score: probability of the tag.
        lead: characters between the word before and this one.
        surface: its own characters.
    """

    start: int
    end: int
    tag: str
    score: float
    lead: str
    surface: str


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


# ---- text -> tokens


def blocks(read: Callable[[int], str], size: int = BLOCK) -> Iterator[str]:
    """Cut a text where a word ends and white space begins, so that a block has the same tokens as in the whole text.

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


def tokens(read: Callable[[int], str], tokenizer: Tokenizer, size: int = BLOCK) -> Iterator[Token]:
    """Tokenize a text, in order; memory does not grow with it.

    Args:
        read: as for `blocks`.
        tokenizer: the backend of a fast tokenizer, without truncation.
    """
    offset = n_words = 0
    lead = ""
    for block in blocks(read, size):
        encoded = tokenizer.encode(block, add_special_tokens=False)
        done, word, last = 0, n_words - 1, None
        for number, (begin, end), word_in_block in zip(encoded.ids, encoded.offsets, encoded.word_ids, strict=True):
            if word_in_block is None or word_in_block != last:
                word += 1
            last = word_in_block
            # Some normalizers make several tokens of one character; byte-level ones count the space before a word.
            begin, end = max(begin, done), max(end, done)
            begin += len(block[begin:end]) - len(block[begin:end].lstrip())
            yield Token(number, offset + begin, offset + end, word, lead + block[done:begin], block[begin:end])
            done, lead = end, ""
        lead += block[done:]
        offset, n_words = offset + len(block), word + 1


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
    number, word, further = None, None, []
    for window, logits in tagged:
        tags, scores = _best(logits[window.first : window.last])
        for token, tag, score in zip(window.tokens[window.first : window.last], tags, scores, strict=True):
            if token.word == number:
                further.append(token)
                continue
            if word is not None:
                yield _extended(word, further)
            number, further = token.word, []
            word = Word(token.start, token.end, labels[tag], score, token.lead, token.surface)
    if word is not None:
        yield _extended(word, further)


def _extended(word: Word, further: list[Token]) -> Word:
    """Append further pieces to the first piece of a word."""
    if not further:
        return word
    surface = word.surface + "".join(token.lead + token.surface for token in further)
    return word._replace(end=further[-1].end, surface=surface)


def _best(logits: np.ndarray) -> tuple[list[int], list[float]]:
    """Return the label of the highest logit of each row, and its softmax."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(-1, keepdims=True))
    return logits.argmax(-1).tolist(), (shifted.max(-1) / shifted.sum(-1)).tolist()


# ---- words -> entities


def entities(words: Iterable[Word]) -> Iterator[Entity]:
    """Join tagged words to entities by strict IOB2, as evaluation does: an I that no B precedes is ignored."""
    current: list[Word] = []
    label = ""
    for word in words:
        prefix, _, kind = word.tag.partition("-")
        if current and prefix == "I" and kind == label:
            current.append(word)
            continue
        if current:
            yield _entity(current, label)
        current, label = ([word], kind) if prefix == "B" else ([], "")
    if current:
        yield _entity(current, label)


def _entity(words: list[Word], label: str) -> Entity:
    text = words[0].surface + "".join(word.lead + word.surface for word in words[1:])
    score = sum(word.score for word in words) / len(words)
    return Entity(words[0].start, words[-1].end, label or UNTYPED, score, text)


def check_tags(labels: Sequence[str], *, where: object) -> None:
    """Raise a `UserError` unless the labels are IOB2 tags."""
    if "O" not in labels or any(label != "O" and label.partition("-")[0] not in ("B", "I") for label in labels):
        raise UserError(
            f"the labels are no IOB2 tags: {', '.join(labels[:5])}",
            where=where,
            remedy="fine-tune on a set with tags B-..., I-... and O",
        )
