"""Entity tags of any usual scheme -> IOB2."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from compact_biomed.errors import UserError

_TAG = re.compile(r"O|[BIESLU](?:-(?P<type>\S+))?")
# Other names of the same thing: BILOU's Last and Unit are IOBES' End and Single.
_PREFIX = {"L": "E", "U": "S"}

Sentence = Sequence[str]
Place = Callable[[int, int], str]


@dataclass(frozen=True)
class Normalized:
    """Args:
    tags: in IOB2, as many as were given.
    scheme: what they were in: "IOB2", "IOB1" or "IOBES".
    repaired: tags without a beginning ("O I"), taken for one, in a file that is not IOB1.
    """

    tags: list[list[str]]
    scheme: str
    repaired: int


def is_tag(tag: str) -> bool:
    """Whether this is O, or one of B I E S L U, alone or with "-" and a type."""
    return _TAG.fullmatch(tag) is not None


def to_iob2(sentences: Sequence[Sentence], place: Place) -> Normalized:
    """Detect the scheme of a file and write it in IOB2.

    E, S, L or U anywhere make it IOBES (or BILOU). Without them it is IOB1 if some entity
    begins with I and every B follows an entity of its own type, else IOB2; an entity of an
    IOB2 file that begins with I is taken for one, as conlleval and seqeval do, and counted.

    Args:
        sentences: tags for which `is_tag` holds.
        place: (sentence, word) -> how to name it in a message.

    Raises:
        UserError: bare and typed tags in one file, or two schemes (an IOBES entity without end).
    """
    parts = [[_parts(tag) for tag in sentence] for sentence in sentences]
    _check_types(parts, place)
    if any(prefix in "ES" for sentence in parts for prefix, _ in sentence):
        _check_ends(parts, place)
        scheme = "IOBES"
    else:
        scheme = "IOB2" if not _orphans(parts) else "IOB1" if _only_between(parts) else "IOB2"
    repaired = 0 if scheme == "IOB1" else _orphans(parts)
    return Normalized([_write(sentence) for sentence in parts], scheme, repaired)


def _parts(tag: str) -> tuple[str, str | None]:
    """("B", type), the type "" for a bare tag and None for O."""
    if tag == "O":
        return "O", None
    return _PREFIX.get(tag[0], tag[0]), tag[2:]


def _goes_on(before: tuple[str, str | None], here: tuple[str, str | None]) -> bool:
    return before[0] in "BI" and here[0] in "IE" and before[1] == here[1]


def _walk(parts):
    """(sentence, word, tag before, tag) of every tag."""
    for s, sentence in enumerate(parts):
        for w, (before, here) in enumerate(zip([("O", None), *sentence], sentence, strict=False)):
            yield s, w, before, here


def _orphans(parts) -> int:
    return sum(here[0] in "IE" and not _goes_on(before, here) for _, _, before, here in _walk(parts))


def _only_between(parts) -> bool:
    """IOB1's B: only where an entity follows one of the same type at once."""
    return all(before[0] != "O" and before[1] == here[1] for _, _, before, here in _walk(parts) if here[0] == "B")


def _check_types(parts, place: Place) -> None:
    bare = None
    for s, w, _, (prefix, kind) in _walk(parts):
        if prefix != "O":
            if bare is not None and bare != (kind == ""):
                raise UserError("bare and typed tags in one file", where=place(s, w), remedy="write B or B-TYPE")
            bare = kind == ""


def _check_ends(parts, place: Place) -> None:
    for s, sentence in enumerate(parts):
        for w, (here, after) in enumerate(zip(sentence, [*sentence[1:], ("O", None)], strict=True)):
            if here[0] in "BI" and not _goes_on(here, after):
                raise UserError(
                    "mixed schemes: an entity without end, where others end in E or S",
                    where=place(s, w),
                    remedy="write all tags of a file in one scheme",
                )


def _write(sentence) -> list[str]:
    tags = []
    for before, here in zip([("O", None), *sentence], sentence, strict=False):
        prefix = "O" if here[0] == "O" else "I" if _goes_on(before, here) else "B"
        tags.append(f"{prefix}-{here[1]}" if here[1] else prefix)
    return tags
