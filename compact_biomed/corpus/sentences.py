"""Where the sentences of running text end: at line breaks, and behind . ? ! before a capital letter or digit.

Entities are learned sentence by sentence, so text is read sentence by sentence too, whole or as a stream of words.
`compact-biomed export` puts this module into the script of the exported folder, so it needs nothing.
"""

import re
from collections.abc import Iterator

LOOK_BACK = 64  # characters of a sentence that `begins_sentence` needs at most, unless more brackets close at its end
_BREAK = re.compile(r"[\r\n\v\f\x85\u2028\u2029]")
_LAST = re.compile(r"""[.!?]["')\]\u2019\u201d]*$""")  # what ends a sentence, and what closes it
_FIRST = re.compile(r"""["'(\[\u2018\u201c]?[A-Z0-9]""")
_LAST_WORD = re.compile(r"([\w.]+)\.$")
_WORD = re.compile(r"\S+")
_ABBREVIATIONS = frozenset(
    "al approx ca cf dr e.g eq eqs fig figs i.e mr mrs ms no nos prof ref refs resp sp spp ssp st subsp var vs".split()
)


def begins_sentence(before: str, blank: str, after: str) -> bool:
    """Return whether a sentence ends and another begins between two words.

    Args:
        before: the last characters of the sentence so far, `LOOK_BACK` of them or all.
        blank: what stands between the words.
        after: what follows, two characters at least.
    """
    if _BREAK.search(blank):
        return True
    if not blank or not blank.isspace() or not _FIRST.match(after):
        return False
    end = _LAST.search(before)
    return end is not None and not _is_abbreviation(before[: end.start() + 1])


def sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    """Yield the characters (start, end) of each sentence of a text, in order, without white space at its ends."""
    start = end = None
    for word in _WORD.finditer(text):
        if start is None:
            start = word.start()
        elif begins_sentence(text[max(start, end - LOOK_BACK) : end], text[end : word.start()], word[0]):
            yield start, end
            start = word.start()
        end = word.end()
    if start is not None:
        yield start, end


def _is_abbreviation(text: str) -> bool:
    """Return whether a text ends in the point of an abbreviation, or of a letter as in "S. Typhi"."""
    word = _LAST_WORD.search(text[-20:])
    return word is not None and (word[1].lower() in _ABBREVIATIONS or (len(word[1]) == 1 and word[1].isalpha()))
