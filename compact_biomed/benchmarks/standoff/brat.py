"""BRAT's standoff format: a folder with NAME.txt and NAME.ann for each document (also BioNLP's .a1 and .a2).

T1<TAB>Disease 4 19<TAB>breast cancer       a mention; "4 10;23 29" for one in several parts
R1<TAB>Causes Arg1:T1 Arg2:T2               a relation; "*<TAB>Equiv T1 T2" one without roles
E1<TAB>Binding:T3 Theme:T1                  an event, named by the mention T3
A1<TAB>Negated E1                           an attribute (also M1), perhaps with a value
N1<TAB>Reference T1 MESH:D001943<TAB>...    a concept of a database
#1<TAB>AnnotatorNotes T1<TAB>...            a comment
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.standoff.convert import COMMENT, as_brat, as_text, file_name
from compact_biomed.benchmarks.standoff.documents import (
    AnnotatedDocument,
    Annotation,
    Attribute,
    Concept,
    Fragments,
    Mention,
    Note,
    Relation,
    check_fragments,
    count,
    joined,
)
from compact_biomed.corpus.streams import read_blocks, read_lines
from compact_biomed.errors import UserError

ENDINGS = (".ann", ".a1", ".a2")
_DIGITS = re.compile(r"(\d+)")
_PLACES = re.compile(r"\d+ \d+(?:;\d+ \d+)*")
_BREAKS = re.compile(r"[\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029]+")
# What stands between tabs and line breaks of any kind, without white space at either end.
_ONE_LINE = re.compile(r"\S(?:[^\t\n\r\v\f\x1c-\x1f\x85\u2028\u2029]*\S)?")
_REMEDY = "correct the line, see brat's standoff format"


# ---- in


def read(folder: Path, repairs: dict[str, int]) -> Iterator[AnnotatedDocument]:
    """Yield the documents of a folder and those below it, in the order of their names; numbers count as numbers.

    Raises:
        UserError: annotations without a text, a line that is none of the above (with file and line), or a mention that
            is not in the text.
    """
    texts = sorted(folder.rglob("*.txt"), key=_natural)
    for path in folder.rglob("*"):
        if path.suffix in ENDINGS and not path.with_suffix(".txt").exists():
            raise UserError(
                "there is no such text", where=path.with_suffix(".txt"), remedy=f"remove {path.name}, or add it"
            )
    for path in texts:
        annotated = [path.with_suffix(ending) for ending in ENDINGS if path.with_suffix(ending).exists()]
        if not annotated:
            count(repairs, "texts without a file of annotations, left out")
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        lines = [
            (f"{file}:{number}", line)
            for file in annotated
            if file.stat().st_size
            for number, line in read_lines(file)
            if line.strip()
        ]
        yield _document(name, path, lines, repairs)


def _natural(path: Path) -> list:
    return [(int(part), part) if part.isdigit() else (-1, part) for part in _DIGITS.split(path.as_posix())]


def _document(name: str, path: Path, lines: Sequence[tuple[str, str]], repairs: dict[str, int]) -> AnnotatedDocument:
    content = b"".join(read_blocks(path)) if path.stat().st_size else b""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=f"{path}, byte {error.start}", remedy="convert it to UTF-8") from None
    try:
        annotations = [_annotation(line, text, where) for where, line in lines]
    except UserError:
        # Some tools count CR LF as one character, or do not count a byte order mark, or both.
        without = text.removeprefix("\ufeff")
        for other in (without, text.replace("\r\n", "\n"), without.replace("\r\n", "\n")):
            try:
                annotations = [_annotation(line, other, where) for where, line in lines]
            except UserError:
                continue
            count(repairs, "texts whose offsets leave out a byte order mark, or half of CR LF")
            return AnnotatedDocument(name, other, tuple(annotations), where=str(path))
        raise
    return AnnotatedDocument(name, text, tuple(annotations), where=str(path))


def _annotation(line: str, text: str, where: str) -> Annotation:
    key, _, rest = line.partition("\t")
    body, tab, comment = rest.partition("\t")
    words = body.split()
    reader = _READERS.get(key[:1])
    if reader is None or not words:
        raise UserError(f"not a line of annotations: {line[:40]!r}", where=where, remedy=_REMEDY)
    return reader(key, words, comment if tab else None, text, where)


def _mention(key: str, words: list[str], comment: str | None, text: str, where: str) -> Mention:
    places = " ".join(words[1:])
    if not _PLACES.fullmatch(places):
        raise UserError(f"no characters START END: {places[:40]!r}", where=where, remedy=_REMEDY)
    numbers = [int(number) for number in re.findall(r"\d+", places)]
    fragments: Fragments = tuple(zip(numbers[::2], numbers[1::2], strict=True))
    return Mention(key, words[0], fragments, check_fragments(text, fragments, comment, where=where))


def _relation(key: str, words: list[str], comment: str | None, text: str, where: str) -> Relation:
    arguments = [argument.rpartition(":")[::2] for argument in words[1:]]
    if key != "*" and not all(role and target for role, target in arguments):
        raise UserError(f"arguments are ROLE:ID, not {' '.join(words[1:])!r}", where=where, remedy=_REMEDY)
    kind, _, trigger = words[0].partition(":") if key[0] == "E" else (words[0], "", "")
    return Relation(key, kind, tuple(arguments), trigger, {COMMENT: comment} if comment else {})


def _attribute(key: str, words: list[str], comment: str | None, text: str, where: str) -> Attribute:
    if len(words) < 2:
        raise UserError("an attribute without a target", where=where, remedy=_REMEDY)
    return Attribute(key, words[0], words[1], " ".join(words[2:]) or None)


def _concept(key: str, words: list[str], comment: str | None, text: str, where: str) -> Concept:
    if len(words) < 3:
        raise UserError("a reference is NAME TARGET IDENTIFIER", where=where, remedy=_REMEDY)
    return Concept(key, words[0], words[1], " ".join(words[2:]), comment or "")


def _note(key: str, words: list[str], comment: str | None, text: str, where: str) -> Note:
    return Note(key, words[0], words[1] if len(words) > 1 else "", comment or "")


_READERS = {
    "T": _mention,
    "R": _relation,
    "*": _relation,
    "E": _relation,
    "A": _attribute,
    "M": _attribute,
    "N": _concept,
    "#": _note,
}


# ---- out


def write(documents: Iterable[AnnotatedDocument], folder: Path, left_out: dict[str, int]) -> None:
    """Write NAME.txt and NAME.ann of each document into an empty folder.

    Args:
        left_out: description of what was written otherwise -> how often; added to.

    Raises:
        UserError: two documents of one name.
    """
    for number, document in enumerate(documents, 1):
        name = file_name(document.id or str(number))
        count(left_out, "documents whose id is not the name of a file, renamed", name != document.id)
        path = folder / f"{name}.txt"
        if path.exists():
            raise UserError(f"two documents with the id {name!r}", where=document.where or None, remedy="rename one")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(document.text.encode())
        lines = ann_lines(document, left_out)
        path.with_suffix(".ann").write_bytes("".join(f"{line}\n" for line in lines).encode())


def ann_lines(document: AnnotatedDocument, left_out: dict[str, int] | None = None) -> Iterator[str]:
    """Yield the lines of a document's .ann file.

    A mention that contains a line break or a tab is written in parts, as the format requires.

    Args:
        left_out: description of what was written otherwise -> how often; added to.
    """
    for each in as_brat(document, {} if left_out is None else left_out):
        match each:
            case Mention():
                fragments = tuple(without_breaks(document.text, each.fragments))
                places = ";".join(f"{start} {end}" for start, end in fragments)
                text = " ".join(_BREAKS.split(each.text)) or joined(document.text, fragments)
                yield f"{each.id}\t{each.type} {places}\t{text}"
            case Relation():
                head = f"{each.type}:{each.trigger}" if each.trigger else each.type
                arguments = (f"{role}:{target}" if role else target for role, target in each.arguments)
                comment = _BREAKS.sub(" ", as_text(each.infons.get(COMMENT)))
                yield "\t".join([each.id, " ".join([head, *arguments]), *([comment] if comment else [])])
            case Attribute():
                yield f"{each.id}\t{' '.join(filter(None, [each.name, each.target, each.value]))}"
            case Concept():
                yield f"{each.id}\t{each.name} {each.target} {each.identifier}\t{each.text}"
            case Note():
                yield f"{each.id}\t{' '.join(filter(None, [each.name, each.target]))}\t{each.text}"


def without_breaks(text: str, fragments: Fragments) -> Iterator[tuple[int, int]]:
    """Yield the parts of fragments that hold neither a line break nor a tab, which would end the field."""
    for start, end in fragments:
        for piece in _ONE_LINE.finditer(text, start, end):
            yield piece.span()
