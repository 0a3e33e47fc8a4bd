"""Split a text into sentences and words.

There are two kinds of texts:

* Tokenized: each line is a sentence, and blanks separate its words ("fever , and cough ."). They are taken as they are,
  so words that were joined to such a text come back the same.
* Running: words are those of `corpus.pieces.split_words`, as `predict` splits them. Sentences end at line breaks, and
  behind . ? ! before white space and a capital letter or digit, unless it is the point of an abbreviation.
"""

import re
from collections.abc import Iterable

from compact_biomed.corpus.pieces import split_words

Spans = list[tuple[int, int]]
_LINE = re.compile(r"[^\r\n]+")
_RUNNING_LINE = re.compile(r"[^\r\n\v\f\x85\u2028\u2029]+")
_BLANK_SEPARATED = re.compile(r"[^ \t\r\n]+")
# Behind the end of a sentence: what closes it, and the blanks before the next one.
_END = re.compile(r"""(?<=[.!?])(?P<closing>["')\]\u2019\u201d]*)\s+(?=["'(\[\u2018\u201c]?[A-Z0-9])""")
_LAST_WORD = re.compile(r"([\w.]+)\.$")
_ABBREVIATIONS = frozenset(
    "al approx ca cf dr e.g eq eqs fig figs i.e mr mrs ms no nos prof ref refs resp sp spp ssp st subsp var vs".split()
)
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
    for start, end in _running_sentences(text):
        if words := [(start + s, start + e) for s, e in split_words(text[start:end])]:
            sentences.append(words)
    return sentences


def _running_sentences(text: str) -> Iterable[tuple[int, int]]:
    for line in _RUNNING_LINE.finditer(text):
        start = line.start()
        for match in _END.finditer(text, line.start(), line.end()):
            if not _is_abbreviation(text[start : match.start()]):
                yield start, match.end("closing")
                start = match.end()
        yield start, line.end()


def _is_abbreviation(before: str) -> bool:
    """Return whether a text ends in the point of an abbreviation, or of a letter as in "S. Typhi"."""
    word = _LAST_WORD.search(before[-20:])
    return word is not None and (word[1].lower() in _ABBREVIATIONS or (len(word[1]) == 1 and word[1].isalpha()))
