"""Split a text into sentences and words.

There are two kinds of texts:

* Tokenized: each line is a sentence, and blanks separate its words ("fever , and cough ."). They are taken as they are,
  so words that were joined to such a text come back the same.
* Running: words are those of `corpus.pieces.split_words`, sentences those of `corpus.sentences`, as in `predict`.
"""

import re
from collections.abc import Iterable

from compact_biomed.corpus.pieces import split_words
from compact_biomed.corpus.sentences import sentence_spans

Spans = list[tuple[int, int]]
_LINE = re.compile(r"[^\r\n]+")
_BLANK_SEPARATED = re.compile(r"[^ \t\r\n]+")
_MARKS = (",", ";")


def is_tokenized(texts: Iterable[str]) -> bool:
    """Return whether blanks separate all words of texts, punctuation marks too.

    They do if more commas and semicolons, and points at the ends of lines, have a blank before them than have none.
    """
    apart = attached = 0
    for text in texts:
        for line in _LINE.findall(text):
            words = line.split()
            for word in words:
                if word in _MARKS:
                    apart += 1
                elif word.endswith(_MARKS):
                    attached += 1
            if words and words[-1].endswith("."):
                apart += words[-1] == "."
                attached += words[-1] != "."
    return apart > attached


def split_sentences(text: str, *, tokenized: bool) -> list[Spans]:
    """Return (start, end) of each word of a text, one list per sentence; sentences without a word are left out."""
    if tokenized:
        lines = [
            [(line.start() + word.start(), line.start() + word.end()) for word in _BLANK_SEPARATED.finditer(line[0])]
            for line in _LINE.finditer(text)
        ]
        return [words for words in lines if words]
    sentences = []
    for start, end in sentence_spans(text):
        if words := [(start + s, start + e) for s, e in split_words(text[start:end])]:
            sentences.append(words)
    return sentences
