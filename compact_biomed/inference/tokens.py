"""A text of any length, read in blocks -> its tokens, each with its place in the text."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
