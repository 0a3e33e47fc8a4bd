"""Tagged words -> entities."""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from compact_biomed.errors import UserError
from compact_biomed.inference.words import Word

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
