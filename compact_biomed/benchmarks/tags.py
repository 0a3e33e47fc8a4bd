"""Tag schemes: any common one becomes IOB2 and back, IOB2 becomes entities; the labels of a model are checked."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from compact_biomed.errors import UserError

_TAG = re.compile(r"O|[BIESLU](?:-(?P<type>\S+))?")
# Other names for the same: BILOU's Last and Unit are IOBES' End and Single.
_PREFIX = {"L": "E", "U": "S"}
UNTYPED = "Entity"  # the type of an entity whose tags are a bare B and I
Locate = Callable[[int, int], str]  # (sentence, word) -> file and line, for errors


@dataclass(frozen=True)
class Normalized:
    """Tags converted to IOB2.

    Args:
        tags: the converted tags, one per tag given.
        scheme: the original scheme: "IOB2", "IOB1" or "IOBES".
        repaired: number of entities that began with I ("O I") in a file that is not IOB1.
    """

    tags: list[list[str]]
    scheme: str
    repaired: int


def is_tag(tag: str) -> bool:
    """Return whether a tag is O, or one of B I E S L U, alone or followed by "-" and a type."""
    return _TAG.fullmatch(tag) is not None


def to_iob2(sentences: Sequence[Sequence[str]], locate: Locate) -> Normalized:
    """Detect the tag scheme of a file and convert the tags to IOB2.

    With E, S, L or U anywhere, the scheme is IOBES (or BILOU). Otherwise it is IOB1 if some entity begins with
    I and every B follows an entity of its own type, and else IOB2. An entity of an IOB2 file that begins with
    I counts as an entity, as in conlleval and seqeval, and is reported in `repaired`.

    Args:
        sentences: tags for which `is_tag` holds.
        locate: (sentence, word) -> file and line, for errors.

    Raises:
        UserError: bare and typed tags in one file, or two schemes (an IOBES entity without an end).
    """
    parts = [[_parts(tag) for tag in sentence] for sentence in sentences]
    _check_types(parts, locate)
    if any(prefix in "ES" for sentence in parts for prefix, _ in sentence):
        _check_ends(parts, locate)
        scheme = "IOBES"
    else:
        scheme = "IOB1" if _orphans(parts) and _b_only_between(parts) else "IOB2"
    repaired = 0 if scheme == "IOB1" else _orphans(parts)
    return Normalized([_to_tags(sentence) for sentence in parts], scheme, repaired)


def _parts(tag: str) -> tuple[str, str | None]:
    """Split a tag into prefix and type; the type is "" for a bare tag and None for O."""
    if tag == "O":
        return "O", None
    return _PREFIX.get(tag[0], tag[0]), tag[2:]


def _continues(before: tuple[str, str | None], here: tuple[str, str | None]) -> bool:
    return before[0] in "BI" and here[0] in "IE" and before[1] == here[1]


def _walk(parts):
    """Yield (sentence, word, previous tag, tag) for every tag."""
    for s, sentence in enumerate(parts):
        for w, (before, here) in enumerate(zip([("O", None), *sentence], sentence, strict=False)):
            yield s, w, before, here


def _orphans(parts) -> int:
    """Return the number of tags inside an entity that no beginning precedes."""
    return sum(here[0] in "IE" and not _continues(before, here) for _, _, before, here in _walk(parts))


def _b_only_between(parts) -> bool:
    """Return whether B occurs only between two adjacent entities of one type, as in IOB1."""
    return all(before[0] != "O" and before[1] == here[1] for _, _, before, here in _walk(parts) if here[0] == "B")


def _check_types(parts, locate: Locate) -> None:
    bare = None
    for s, w, _, (prefix, kind) in _walk(parts):
        if prefix != "O":
            if bare is not None and bare != (kind == ""):
                remedy = "write B everywhere, or B-TYPE everywhere"
                raise UserError("bare and typed tags in one file", where=locate(s, w), remedy=remedy)
            bare = kind == ""


def _check_ends(parts, locate: Locate) -> None:
    for s, sentence in enumerate(parts):
        for w, (here, after) in enumerate(zip(sentence, [*sentence[1:], ("O", None)], strict=True)):
            if here[0] in "BI" and not _continues(here, after):
                raise UserError(
                    "mixed schemes: an entity without an end, while others end in E or S",
                    where=locate(s, w),
                    remedy="write all tags of a file in one scheme",
                )


def _to_tags(sentence) -> list[str]:
    tags = []
    for before, here in zip([("O", None), *sentence], sentence, strict=False):
        prefix = "O" if here[0] == "O" else "I" if _continues(before, here) else "B"
        tags.append(f"{prefix}-{here[1]}" if here[1] else prefix)
    return tags


# ---- IOB2 tags -> entities, and tags of another scheme


def entity_ranges(tags: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield (first word, last word, type) of each entity of a sentence in IOB2; the type of bare tags is "".

    An I that no B precedes is ignored, as in evaluation.
    """
    first, kind = None, ""
    for position, tag in enumerate([*tags, "O"]):
        if first is not None and tag[0] == "I" and tag[2:] == kind:
            continue
        if first is not None:
            yield first, position - 1, kind
        first, kind = (position, tag[2:]) if tag[0] == "B" else (None, "")


# Scheme -> the prefixes of an entity's first, middle and last word, and of an entity of one word. None: as I, or as B
# where the entity before ends at this word and has the same type.
SCHEMES: dict[str, tuple[str | None, str, str, str | None]] = {
    "IOB2": ("B", "I", "I", "B"),
    "IOB1": (None, "I", "I", None),
    "IOBES": ("B", "I", "E", "S"),
    "BIOES": ("B", "I", "E", "S"),
    "BILOU": ("B", "I", "L", "U"),
}


def in_scheme(tags: Sequence[str], scheme: str) -> list[str]:
    """Return the IOB2 tags of a sentence in another scheme, a key of `SCHEMES`."""
    begin, inside, last, single = SCHEMES[scheme]
    converted = ["O"] * len(tags)
    before = (-2, "")  # last word and type of the entity before
    for first, end, kind in entity_ranges(tags):
        prefixes = [single] if first == end else [begin, *[inside] * (end - first - 1), last]
        for position, prefix in enumerate(prefixes, first):
            prefix = prefix or ("B" if before == (position - 1, kind) else "I")
            converted[position] = f"{prefix}-{kind}" if kind else prefix
        before = (end, kind)
    return converted


# ---- Labels of a model


def check_labels(labels: Sequence[str], *, where: object) -> None:
    """Raise a `UserError` unless the labels of a model are O and tags B and I, at least one of them."""
    tags = [label for label in labels if label != "O"]
    if "O" not in labels or not tags or not all(is_tag(tag) and tag[0] in "BI" for tag in tags):
        raise UserError(
            f"the labels are no IOB2 tags: {', '.join(labels[:5])}",
            where=where,
            remedy="fine-tune on a set with tags B-..., I-... and O",
        )


def are_iob1(labels: Sequence[str]) -> bool:
    """Return whether some type has a label I but none B: the model learned IOB1 tags, in which I begins an entity."""
    return any(label[0] == "I" and f"B{label[1:]}" not in labels for label in labels)


# ---- Entities of tags


class TypedSpan(NamedTuple):
    """An entity: the words from `start` to before `end`, and its type (`UNTYPED` where tags have none)."""

    start: int
    end: int
    type: str


def entities_of(tags: Sequence[str]) -> list[TypedSpan]:
    """Return the entities of a sentence in order, by strict IOB2: an I that continues no entity is none."""
    return [TypedSpan(first, last + 1, kind or UNTYPED) for first, last, kind in entity_ranges(tags)]
