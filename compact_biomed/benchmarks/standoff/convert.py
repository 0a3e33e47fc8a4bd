"""Convert annotations to the conventions of another format.

A document that is written in the format it was read from passes through unchanged.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from compact_biomed.benchmarks.standoff.documents import (
    IDENTIFIER,
    NO_DATABASE,
    AnnotatedDocument,
    Annotation,
    Attribute,
    Concept,
    Mention,
    Note,
    Relation,
    count,
)

TYPE = "type"  # the infon that is `Mention.type` or `Relation.type`
COMMENT = "comment"  # the infon of a relation that is the third column of its line in BRAT
_NOTES = "AnnotatorNotes"
_REFERENCE = "Reference"
_NOT_IN_NAMES = re.compile(r"[^\w.+=,@-]")
_IDS = {Mention: re.compile(r"T\d+"), Relation: re.compile(r"[RE]\d+|\*")}


def file_name(name: str) -> str:
    """Return the id of a document as a path below a folder; "/" separates folders."""
    parts = [_NOT_IN_NAMES.sub("_", part) for part in name.split("/")]
    return "/".join(f"_{part}" if part[:1] in ("", ".") else part for part in parts)


def one_word(text: str) -> str:
    """Return a text with _ for its white space."""
    return "_".join(text.split()) or "_"


# ---- to BRAT


def as_brat(document: AnnotatedDocument, left_out: dict[str, int]) -> list[Annotation]:
    """Return annotations that BRAT's lines can hold: ids as it has them, infons as concepts and comments.

    Args:
        left_out: description of what was written otherwise -> how often; added to.
    """
    annotations = _numbered(document, left_out)
    new = {kind: _free_ids(annotations, kind) for kind in "N#"}
    result: list[Annotation] = []
    for each in annotations:
        result.append(each)
        if isinstance(each, Mention | Relation):
            for key, value in _further(each.infons).items():
                if key == COMMENT and isinstance(each, Relation):
                    continue  # in its line
                if key == IDENTIFIER and isinstance(each, Mention):
                    entry = str(value) if ":" in str(value) else f"{NO_DATABASE}{value}"
                    result.append(Concept(next(new["N"]), _REFERENCE, each.id, entry, ""))
                else:
                    comment = " ".join(f"{key} {as_text(value)}".split())
                    result.append(Note(next(new["#"]), _NOTES, each.id, comment))
    return result


def _numbered(document: AnnotatedDocument, left_out: dict[str, int]) -> list[Annotation]:
    """Return annotations with ids of BRAT, each once, types of one word, and relations between mentions."""
    ids: dict[str, str] = {}
    keep = {kind: _are_ids(document.annotations, kind) for kind in _IDS}
    numbers = dict.fromkeys(_IDS, 0)
    numbered: list[Annotation] = []
    for each in document.annotations:
        if isinstance(each, Mention | Relation):
            kind = type(each)
            numbers[kind] += 1
            letter = "T" if kind is Mention else "E" if each.trigger else "R"
            name = each.id if keep[kind] else f"{letter}{numbers[kind]}"
            if each.id:
                count(left_out, f"ids of {kind.__name__.lower()}s, written as a letter and a number", each.id != name)
                ids.setdefault(each.id, name)
            each = replace(each, id=name, type=one_word(each.type))
        numbered.append(each)
    return [_retargeted(each, ids, document, numbered, left_out) for each in numbered]


def _are_ids(annotations: Iterable[Annotation], kind: type) -> bool:
    ids = [each.id for each in annotations if isinstance(each, kind)]
    named = [name for name in ids if name != "*"]
    return all(_IDS[kind].fullmatch(name) for name in ids) and len(named) == len(set(named))


def _retargeted(
    each: Annotation,
    ids: Mapping[str, str],
    document: AnnotatedDocument,
    numbered: list[Annotation],
    left_out: dict[str, int],
) -> Annotation:
    match each:
        case Attribute() | Concept() | Note():
            return replace(each, target=ids.get(each.target, each.target))
        case Relation():
            arguments = []
            for number, (role, target) in enumerate(each.arguments, 1):
                if target not in ids and (meant := document.resolve(target)):
                    count(left_out, "arguments that are concepts, written as their first mention")
                    position = next(i for i, old in enumerate(document.annotations) if old is meant[0])
                    name = numbered[position].id
                else:
                    name = ids.get(target, one_word(target))
                arguments.append((one_word(role) if role else "" if each.id == "*" else f"Arg{number}", name))
            return replace(each, arguments=tuple(arguments), trigger=ids.get(each.trigger, each.trigger))
    return each


def _free_ids(annotations: Iterable[Annotation], letter: str) -> Iterator[str]:
    taken = [int(each.id[1:]) for each in annotations if each.id[:1] == letter and each.id[1:].isdecimal()]
    number = max(taken, default=0)
    while True:
        number += 1
        yield f"{letter}{number}"


# ---- to infons


def infons_of(document: AnnotatedDocument, each: Mention | Relation) -> dict[str, Any]:
    """Return a mention's or relation's infons, its type first, with BRAT's attributes, concepts and comments of it."""
    infons = {**({} if TYPE in each.infons else {TYPE: each.type}), **each.infons}
    infons[TYPE] = each.type
    for other in document.about(each):
        match other:
            case Attribute():
                key, value = other.name, "true" if other.value is None else other.value
            case Concept():
                key, value = IDENTIFIER, other.identifier.removeprefix(NO_DATABASE)
            case Note():
                key, value = other.name, other.text
        infons[key] = f"{infons[key]};{value}" if key in infons else value
    return infons


def _further(infons: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in infons.items() if key != TYPE and value is not None}


def as_text(value: Any) -> str:
    """Return an infon's value as XML and BRAT write it."""
    return value if isinstance(value, str) else "" if value is None else _plain(value)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
