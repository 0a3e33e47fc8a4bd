"""A text with mentions of entities and relations, at character offsets: what all formats have in common.

Everything that a format can say about a text has a place here, so a file that is read and written again is the same.
Offsets count characters (Unicode code points) of the whole text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, TypeAlias

from compact_biomed.errors import UserError

Fragments: TypeAlias = tuple[tuple[int, int], ...]
IDENTIFIER = "identifier"  # the infon of a mention that names its concept, as in PubTator's BioC
NO_DATABASE = "id:"  # before it in BRAT, which wants DATABASE:ENTRY
# Its other names, in small letters.
_IDENTIFIERS = (IDENTIFIER, "mesh", "omim", "ncbi gene", "ncbi_gene", "ncbigene", "taxonomy", "umls", "cui", "concept")


@dataclass(frozen=True)
class Mention:
    """An entity in the text.

    Args:
        id: "T1"; "" where the format has none.
        type: of the entity, as the file spells it.
        fragments: (start, end) of its parts in order, at least one; text[start:end] are its characters.
        text: its characters as the file has them; "" if these are its fragments, joined by blanks.
        infons: what else the format says about it: BioC's infons, PubTator's concept identifier, a score.
        unit: the passage or sentence that it belongs to, an index into `AnnotatedDocument.units`; -1 is the document
            itself, None is wherever it stands.
        extra: keys of the format that are none of BioC's.
    """

    id: str
    type: str
    fragments: Fragments
    text: str = ""
    infons: Mapping[str, Any] = field(default_factory=dict)
    unit: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """The first character of the first fragment."""
        return self.fragments[0][0]

    @property
    def end(self) -> int:
        """The character behind the last fragment."""
        return self.fragments[-1][1]

    @property
    def span(self) -> tuple[int, int]:
        """From the first character to behind the last."""
        return self.start, self.end


@dataclass(frozen=True)
class Relation:
    """A relation between mentions or concepts, or an event.

    Args:
        id: "R1", or BRAT's "*"; "" where the format has none.
        type: of the relation.
        arguments: (role, target); a target is the id of a mention or relation, or the identifier of a concept.
        trigger: id of the mention that names an event, else "".
        infons: what else the format says about it.
        unit: as for a mention; None is the document.
        extra: keys of the format that are none of BioC's.
    """

    id: str
    type: str
    arguments: tuple[tuple[str, str], ...]
    trigger: str = ""
    infons: Mapping[str, Any] = field(default_factory=dict)
    unit: int | None = None
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Attribute:
    """BRAT's A or M: a property of a mention, relation or event. `value` is None for one that is there or not."""

    id: str
    name: str
    target: str
    value: str | None = None


@dataclass(frozen=True)
class Concept:
    """BRAT's N: the entry of a database that a mention refers to, "MESH:D003000", with the entry's text."""

    id: str
    name: str
    target: str
    identifier: str
    text: str = ""


@dataclass(frozen=True)
class Note:
    """BRAT's #: a comment on a mention, relation or event."""

    id: str
    name: str
    target: str
    text: str


Annotation: TypeAlias = Mention | Relation | Attribute | Concept | Note


@dataclass(frozen=True)
class Passage:
    """A part of the text: a title, an abstract, a paragraph; or a sentence of one.

    Args:
        start, end: characters of the document.
        infons: "type" is "title" or "abstract" in PubTator.
        sentences: its parts, where the format gives them.
        extra: keys of the format that are none of BioC's.
    """

    start: int
    end: int
    infons: Mapping[str, Any] = field(default_factory=dict)
    sentences: tuple["Passage", ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AnnotatedDocument:
    """A text with its annotations.

    Args:
        id: "" if the format has none.
        text: all of it. Between two passages there are as many line breaks as their offsets leave room for.
        annotations: in the order of the file.
        passages: in the order of the text; none if the format does not divide texts.
        infons: what the format says about the document.
        extra: keys of the format that are none of BioC's.
        collection: BioC's source, date, key and infons of the file, the same in each of its documents.
        where: file and line, for messages.
    """

    id: str
    text: str
    annotations: tuple[Annotation, ...] = ()
    passages: tuple[Passage, ...] = ()
    infons: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)
    collection: Mapping[str, Any] = field(default_factory=dict)
    where: str = field(default="", compare=False)

    @cached_property
    def mentions(self) -> tuple[Mention, ...]:
        """The mentions of entities, in the order of the file."""
        return tuple(each for each in self.annotations if isinstance(each, Mention))

    @cached_property
    def relations(self) -> tuple[Relation, ...]:
        """The relations and events, in the order of the file."""
        return tuple(each for each in self.annotations if isinstance(each, Relation))

    @cached_property
    def by_id(self) -> Mapping[str, Sequence[Mention]]:
        """The mentions with each id; several where an id occurs twice. Mentions without an id are left out."""
        found: dict[str, list[Mention]] = {}
        for mention in self.mentions:
            if mention.id:
                found.setdefault(mention.id, []).append(mention)
        return found

    @cached_property
    def comments(self) -> Mapping[str, Sequence[Attribute | Concept | Note]]:
        """BRAT's attributes, concepts and notes by the id of their mention or relation."""
        found: dict[str, list[Attribute | Concept | Note]] = {}
        for each in self.annotations:
            if isinstance(each, Attribute | Concept | Note):
                found.setdefault(each.target, []).append(each)
        return found

    @cached_property
    def units(self) -> tuple[Passage, ...]:
        """Each passage, followed by its sentences."""
        return tuple(unit for passage in self.passages for unit in (passage, *passage.sentences))

    def text_of(self, mention: Mention) -> str:
        """Return a mention's characters; fragments are joined by blanks."""
        return mention.text or joined(self.text, mention.fragments)

    def about(self, each: Mention | Relation) -> Sequence[Attribute | Concept | Note]:
        """Return BRAT's attributes, concepts and notes of a mention or relation."""
        return self.comments.get(each.id, ()) if each.id else ()

    def concepts_of(self, mention: Mention) -> list[str]:
        """Return the identifiers of the concepts that a mention refers to, of either kind: `Concept` or infon."""
        written = [str(value) for key, value in mention.infons.items() if key.lower() in _IDENTIFIERS and value]
        named = [each.identifier for each in self.about(mention) if isinstance(each, Concept)]
        return [*written, *(each.removeprefix(NO_DATABASE) for each in named)]

    def resolve(self, target: str) -> list[Mention]:
        """Return the mentions that an argument of a relation means: the one with that id, or all of that concept.

        A mention of several concepts ("D003000|D003001") belongs to each of them.
        """
        if target in self.by_id:
            return [*self.by_id[target]]
        return [*self._by_concept.get(target, ())]

    @cached_property
    def _by_concept(self) -> Mapping[str, Sequence[Mention]]:
        found: dict[str, list[Mention]] = {}
        for mention in self.mentions:
            for name in identifiers(self.concepts_of(mention)):
                found.setdefault(name, []).append(mention)
        return found


def identifiers(written: Iterable[str]) -> set[str]:
    """Return the identifiers of concepts in these texts: each as a whole, and its parts between | ; and commas."""
    return {part for each in written for part in (each, *each.replace(";", "|").replace(",", "|").split("|"))}


def joined(text: str, fragments: Sequence[tuple[int, int]]) -> str:
    """Return the characters of fragments, joined by blanks."""
    return " ".join(text[start:end] for start, end in fragments)


def check_fragments(text: str, fragments: Fragments, written: str | None, *, where: object) -> str:
    """Check a mention against its text; return what `Mention.text` has to be.

    Args:
        written: its characters as the file has them, None if it does not say. White space need not agree, as formats
            write line breaks in several ways; for several fragments, the text from the first to the last is accepted.

    Raises:
        UserError: no characters, beyond the text, parts out of order, or other characters than those written.
    """
    if not fragments:
        raise UserError("a mention without a place", where=where, remedy="give its first character and its end")
    for start, end in fragments:
        if not 0 <= start < end <= len(text):
            what = "no characters" if start == end else f"outside of the text, which has {len(text)} characters"
            raise UserError(f"a mention from {start} to {end}: {what}", where=where, remedy="correct its offsets")
    if any(after[0] < before[1] for before, after in pairwise(fragments)):
        raise UserError("parts of a mention overlap or are not in order", where=where, remedy="sort them by offset")
    marked = joined(text, fragments)
    if not marked.strip():
        raise UserError("a mention of white space alone", where=where, remedy="correct its offsets, or remove it")
    if written is None or written == marked:
        return ""
    hull = text[fragments[0][0] : fragments[-1][1]]
    if "".join(written.split()) not in ("".join(marked.split()), "".join(hull.split())):
        at = ", ".join(f"{start}-{end}" for start, end in fragments)
        raise UserError(
            f"the text at {at} is {_short(marked)}, the file says {_short(written)}",
            where=where,
            remedy="offsets count characters (not bytes) from 0, line ends included: correct them, or the text",
        )
    return written


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def count(repairs: dict[str, int], what: str, number: int = 1) -> None:
    """Add to the count of what was corrected or left out, if anything was."""
    if number:
        repairs[what] = repairs.get(what, 0) + number
