"""Answers of windows -> the words of a document with their tags."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from typing import NamedTuple, TypeVar

import numpy as np
from tokenizers import Tokenizer

from compact_biomed.errors import UserError

# ----------------------------------------------------------------------------------------------------
# A text of any length, read in blocks -> its tokens, each with its place in the text.


BLOCK = 1 << 16  # characters
_LONGEST_RUN = 16 * BLOCK  # characters without white space after which a block is cut anyway
_SPACE = " \t\r\n"


class Token(NamedTuple):
    """A word-piece.

    Args:
        id: in the vocabulary.
        start, end: characters of the whole text.
        word: pieces of one word share it.
        lead: what stands between the token before and this one.
        surface: its own characters. All leads and surfaces in a row are the text.
    """

    id: int
    start: int
    end: int
    word: int
    lead: str
    surface: str


def blocks(read: Callable[[int], str], size: int = BLOCK) -> Iterator[str]:
    """Cut a text where a word has ended and white space begins: blocks have the tokens that they have in the whole.

    A run of more than `_LONGEST_RUN` characters without white space is cut all the same.

    Args:
        read: gives at most so many characters, "" at the end (a text file's `read`).
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
    """The last place in front of which a word ends and behind which white space begins, 0 if there is none."""
    last = max(text.rfind(space) for space in _SPACE)
    return len(text[:last].rstrip(_SPACE)) if last > 0 else 0


def tokens(read: Callable[[int], str], tokenizer: "Tokenizer", size: int = BLOCK) -> Iterator[Token]:
    """The tokens of a text, in order; memory does not grow with it.

    Args:
        read: as `blocks` takes it.
        tokenizer: a fast tokenizer's backend, without truncation.
    """
    offset = words = 0
    lead = ""
    for block in blocks(read, size):
        encoded = tokenizer.encode(block, add_special_tokens=False)
        done, word, last = 0, words - 1, None
        for number, (begin, end), of_word in zip(encoded.ids, encoded.offsets, encoded.word_ids, strict=True):
            if of_word is None or of_word != last:
                word += 1
            last = of_word
            # Some normalizers make several tokens of one character; byte-level ones count the space before a word.
            begin, end = max(begin, done), max(end, done)
            begin += len(block[begin:end]) - len(block[begin:end].lstrip())
            yield Token(number, offset + begin, offset + end, word, lead + block[done:begin], block[begin:end])
            done, lead = end, ""
        lead += block[done:]
        offset, words = offset + len(block), word + 1


# ----------------------------------------------------------------------------------------------------
# Long documents in overlapping windows; each token is answered where it is farthest from an edge.


Item = TypeVar("Item")
Result = TypeVar("Result")


class Window(NamedTuple):
    """Tokens that are read together; those from `first` to before `last` take their answer from here."""

    tokens: list[Token]
    first: int
    last: int


def windows(tokens: Iterable[Token], length: int, overlap: int) -> Iterator[Window]:
    """Cut a document into windows of `length` tokens of which neighbors share `overlap`.

    The answered parts lie end to end: each token is answered once, by the window in whose middle it lies
    deeper. The ends of the document are no edges. 0 <= 2 * overlap <= length.
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
    """(item, work(item)) for each item in order, computed by a pool, at most `ahead` at a time in memory.

    Where the items end in an error, those before it are answered first.
    """
    waiting: deque = deque()
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
            waiting.append((item, pool.submit(work, item)))
            if len(waiting) >= ahead:
                done, future = waiting.popleft()
                yield done, future.result()
        while waiting:
            done, future = waiting.popleft()
            yield done, future.result()
        if failure is not None:
            raise failure
    finally:
        for _, future in waiting:
            future.cancel()


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


# ----------------------------------------------------------------------------------------------------
# Tagged words -> entities.


UNTYPED = "Entity"  # of sets whose tags are a bare B, I and O


class Entity(NamedTuple):
    """A name that was found.

    Args:
        start, end: characters of the text: text[start:end] is the name.
        label: its type, "Entity" where the model knows one type without a name.
        score: mean probability of its words' tags.
        text: its characters.
    """

    start: int
    end: int
    label: str
    score: float
    text: str


def entities(words: Iterable[Word]) -> Iterator[Entity]:
    """Read IOB2 strictly, as the scores on words do: an entity begins with B, and I without B before it is none."""
    found: list[Word] = []
    kind = ""
    for word in words:
        begin, _, of = word.tag.partition("-")
        if found and begin == "I" and of == kind:
            found.append(word)
            continue
        if found:
            yield _entity(found, kind)
        found, kind = ([word], of) if begin == "B" else ([], "")
    if found:
        yield _entity(found, kind)


def _entity(words: list[Word], kind: str) -> Entity:
    text = words[0].surface + "".join(word.lead + word.surface for word in words[1:])
    score = sum(word.score for word in words) / len(words)
    return Entity(words[0].start, words[-1].end, kind or UNTYPED, score, text)


def check_tags(labels: Sequence[str], *, where: object) -> None:
    """Raise a `UserError` unless the labels are IOB2 tags."""
    if "O" not in labels or any(label != "O" and label.partition("-")[0] not in ("B", "I") for label in labels):
        raise UserError(
            f"the labels are no IOB2 tags: {', '.join(labels[:5])}", where=where,
            remedy="fine-tune on a set with tags B-..., I-... and O",
        )  # fmt: skip
