"""Turn text or words into pieces of a vocabulary, in the one way that pretraining, fine-tuning and prediction share.

* Pretraining, classification and questions read running text.
* Entities are read word by word: each word as it is tokenized behind a blank, whatever stands around it. The words of a
  data set are given; a text is split into words at white space and punctuation.

`compact-biomed export` puts this module into the script of the exported folder, so it needs nothing but `tokenizers`.
"""

import re
from collections.abc import Sequence
from threading import Lock

from tokenizers import Encoding, Regex, Tokenizer, pre_tokenizers

STRIDE = 128  # pieces that two windows of one context share (arXiv 2209.03182's qa.py)
QUESTION_WINDOW = 384  # pieces of a question and a part of its context that are read together
LONGEST_QUESTION = 64  # pieces, as in BERT's run_squad
MASK = re.compile(r"@[A-Z][A-Z-]*\$")  # @GENE$, @DISEASE$, @CHEM-GENE$

# Chinese has no blanks, so an ideograph is a word, as for BERT. The separators \x1c to \x1f are white space.
_APART = Regex("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f\x1c-\x1f]")
_SPLITTER = pre_tokenizers.Sequence(
    [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(_APART, behavior="isolated")]
)


def split_words(text: str) -> list[tuple[int, int]]:
    """Return the characters (start, end) of each word of a text, in order.

    White space separates words; every punctuation mark and every ideograph is a word.
    """
    spans = (span for _, span in _SPLITTER.pre_tokenize_str(text))
    return [(start, end) for start, end in spans if not text[start:end].isspace()]


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Return (start, end) without the white space at both ends of text[start:end]; start = end if nothing is left."""
    stretch = text[start:end]
    start += len(stretch) - len(stretch.lstrip())
    return start, max(start, start + len(stretch.strip()))


def frame(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Return the ids of the special tokens before and after a text ([CLS] and [SEP]), taken from an example.

    Raises:
        ValueError: they cannot be determined.
    """
    bare = tokenizer.encode("a", add_special_tokens=False).ids
    framed = tokenizer.encode("a", add_special_tokens=True).ids
    for start in range(len(framed) - len(bare) + 1):
        if bare and framed[start : start + len(bare)] == bare:
            return framed[:start], framed[start + len(bare) :]
    raise ValueError("the special tokens around a text cannot be determined")


class Pieces:
    """A tokenizer that reads texts and words; threads may share it.

    Special tokens written out in a text ("[SEP]") are ordinary text.

    Args:
        tokenizer: it is copied, so that truncation and padding have no effect.
        unknown: id of the unknown token, which stands for a word without any piece; None = the vocabulary has none.

    Attributes:
        prefix, suffix: ids of the special tokens around a text.
        blank: what is put before a word, so that its pieces are those of running text: " " for byte-level vocabularies
            that tell "fever" from " fever", else "".

    Raises:
        ValueError: the special tokens cannot be determined.
    """

    def __init__(self, tokenizer: Tokenizer, unknown: int | None = None):
        self._tokenizer = Tokenizer.from_str(tokenizer.to_str())
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True
        self._lock = Lock()  # the tokenizer stores how it truncates
        self.prefix, self.suffix = frame(self._tokenizer)
        self.blank = self._blank()
        self._no_piece = [unknown] if unknown is not None else self.suffix[:1]

    def _blank(self) -> str:
        alone, behind, both = self.of_texts(["a", " a", "a a"])
        # With a vocabulary that marks the begin of every word, a second blank would be a piece of its own.
        return "" if alone == behind or both == 2 * alone else " "

    def _bare(self, text: str) -> Encoding:
        with self._lock:
            return self._tokenizer.encode(text, add_special_tokens=False)

    def of_words(self, words: Sequence[str]) -> list[list[int]]:
        """Return the ids of each word, at least one: the unknown token for a word without any piece."""
        distinct = list(dict.fromkeys(words))
        encoded = self.of_texts([self.blank + word for word in distinct])
        pieces = {word: ids or self._no_piece for word, ids in zip(distinct, encoded, strict=True)}
        return [pieces[word] for word in words]

    def of_texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each running text, uncut and without special tokens."""
        with self._lock:
            encoded = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [encoding.ids for encoding in encoded]

    def room(self, max_length: int) -> int:
        """Return how many pieces of a single text fit into `max_length` beside the special tokens."""
        return max_length - len(self.prefix) - len(self.suffix)

    def of_text(self, text: str, max_length: int) -> list[int]:
        """Return the ids of a running text with its special tokens, cut at its end.

        If that would lose an entity mask (`MASK`), a window around the masks is kept instead; where they are too far
        apart for one window, the pieces after the first mask and those before the last one.
        """
        encoding = self._bare(text)
        masks = [match.span() for match in MASK.finditer(text)]
        inside = [
            position
            for position, (start, end) in enumerate(encoding.offsets)
            if any(start < mask_end and end > mask_start for mask_start, mask_end in masks)
        ]
        return [*self.prefix, *_cut_around(encoding.ids, inside, self.room(max_length)), *self.suffix]

    def of_pair(self, text: str, pair: str, max_length: int) -> Encoding:
        """Return the encoding of two running texts with their special tokens; the longer one is cut."""
        with self._lock:
            self._tokenizer.enable_truncation(max_length, strategy="longest_first")
            try:
                return self._tokenizer.encode(text, pair)
            finally:
                self._tokenizer.no_truncation()

    def of_question(self, question: str, context: str, max_length: int, stride: int = STRIDE) -> list[Encoding]:
        """Return an encoding per window of the context, each after the question; neighbors share `stride` pieces.

        Questions are cut at `LONGEST_QUESTION` pieces. Below a `max_length` of 384, questions and stride take at most a
        third of it each.
        """
        third = max_length // 3
        question = self._cut(question, min(LONGEST_QUESTION, third))
        with self._lock:
            self._tokenizer.enable_truncation(max_length, stride=min(stride, third), strategy="only_second")
            try:
                encoding = self._tokenizer.encode(question, context)
            finally:
                self._tokenizer.no_truncation()
        return [encoding, *encoding.overflowing]

    def _cut(self, text: str, longest: int) -> str:
        encoding = self._bare(text)
        return text if len(encoding) <= longest else text[: encoding.offsets[longest - 1][1]]


def _cut_around(ids: list[int], inside: list[int], room: int) -> list[int]:
    """Return at most `room` of the pieces, those at the positions `inside` among them."""
    if len(ids) <= room or not inside or inside[-1] < room:
        return ids[:room]
    first, last = inside[0], inside[-1] + 1
    if last - first > room:
        head = room // 2
        return ids[first : first + head] + ids[last - (room - head) : last]
    start = min(max(0, first - (room - (last - first)) // 2), len(ids) - room)
    return ids[start : start + room]
