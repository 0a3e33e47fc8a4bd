"""PubTator: a title, an abstract, and a line per mention or relation; an empty line ends a document.

    1|t|Fever after aspirin
    1|a|We saw no fever .
    1<TAB>0<TAB>5<TAB>Fever<TAB>Disease<TAB>D005334            offsets in title + one character + abstract
    1<TAB>CID<TAB>D001241<TAB>D005334                          a relation between concepts

A document has two lines of text, so a line break within the abstract is written as U+2028, the line separator.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from compact_biomed.benchmarks.standoff.convert import TYPE, as_text
from compact_biomed.benchmarks.standoff.documents import (
    IDENTIFIER,
    AnnotatedDocument,
    Annotation,
    Attribute,
    Concept,
    Mention,
    Note,
    Passage,
    Relation,
    check_fragments,
    count,
    identifiers,
)
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError

LINE_SEPARATOR = "\u2028"
TEXT_LINE = re.compile(r"(?P<id>[^|\t]*)\|(?P<kind>[ta])\|(?P<text>.*)", re.DOTALL)
MENTION_LINE = re.compile(r"[^\t]*\t\d+\t\d+\t[^\t]*\t[^\t]*(\t.*)?")
_RESEMBLES_OFFSET = re.compile(r"\s*|\w|[-+]?\d.*")
_NONE = "-"  # what has no name
_FURTHER = "column"  # the infon of the 7th column is "column7"
_PLACES = (TYPE, IDENTIFIER)  # infons that have a column
_KINDS = {"t": "title", "a": "abstract"}


# ---- in


def read(path: Path, repairs: dict[str, int]) -> Iterator[AnnotatedDocument]:
    """Yield the documents of a file.

    Raises:
        UserError: a line that is none of the above, or is about another document (with file and line), or a mention
            that is not in the text.
    """
    block: list[tuple[int, str]] = []
    for number, line in read_lines(path):
        if line.strip():
            # Some files have no empty line between documents.
            if "|t|" in line and len(block) > 0 and (match := TEXT_LINE.fullmatch(line)) and match["kind"] == "t":
                yield _document(path, block)
                block = []
            block.append((number, line))
        elif block:
            yield _document(path, block)
            block = []
    if block:
        yield _document(path, block)


def _document(path: Path, block: list[tuple[int, str]]) -> AnnotatedDocument:
    texts, first = [], block[0][0]
    while len(texts) < min(2, len(block)) and (match := TEXT_LINE.fullmatch(block[len(texts)][1])):
        texts.append(match)
    if [match["kind"] for match in texts] not in (["t"], ["t", "a"]) or len({match["id"] for match in texts}) > 1:
        raise UserError(
            "no title of a document", where=f"{path}:{first}", remedy="begin it with ID|t|TITLE and ID|a|ABSTRACT"
        )
    name = texts[0]["id"]
    parts = [texts[0]["text"], *(match["text"].replace(LINE_SEPARATOR, "\n") for match in texts[1:])]
    text = "\n".join(parts) if parts[1:] != [""] else parts[0]
    passages, start = [], 0
    for match, part in zip(texts, parts, strict=True):
        passages.append(
            Passage(min(start, len(text)), min(start + len(part), len(text)), {TYPE: _KINDS[match["kind"]]})
        )
        start += len(part) + 1
    of_mentions = [line.split("\t") for _, line in block[len(texts) :] if MENTION_LINE.fullmatch(line)]
    concepts = identifiers(cell for cells in of_mentions for cell in cells[5:6])
    annotations = tuple(
        _annotation(line, name, text, concepts, f"{path}:{number}") for number, line in block[len(texts) :]
    )
    return AnnotatedDocument(name, text, annotations, tuple(passages), where=f"{path}:{first}")


def _annotation(line: str, name: str, text: str, concepts: set[str], where: str) -> Annotation:
    """Return the mention or relation of a line.

    Args:
        name, text: of the document.
        concepts: that its mentions have.
        where: of the line, for errors.
    """
    cells = line.split("\t")
    if cells[0] != name:
        remedy = "put an empty line between documents, and the title first"
        raise UserError(f"a line of {cells[0][:40]!r} in the document {name!r}", where=where, remedy=remedy)
    if MENTION_LINE.fullmatch(line):
        if not cells[4].strip():
            raise UserError("a mention without a type", where=where, remedy="name the type in the fifth column")
        fragments = ((int(cells[1]), int(cells[2])),)
        columns = [IDENTIFIER, *(f"{_FURTHER}{number}" for number in range(7, len(cells) + 1))]
        infons = dict(zip(columns, cells[5:], strict=False))
        return Mention("", cells[4], fragments, check_fragments(text, fragments, cells[3], where=where), infons)
    # A relation is between concepts. A line with a part of the text in place of the second concept is a mention, if its
    # second cell is no word, as the type of a relation is.
    is_text = len(cells) >= 5 and cells[3].strip() and cells[3] in text and concepts.isdisjoint(cells[2:4])
    is_text = is_text and _RESEMBLES_OFFSET.fullmatch(cells[1])
    if is_text or (len(cells) >= 5 and cells[1].isdecimal()):
        other = next(cell for cell in cells[1:3] if not cell.isdecimal())
        raise UserError(
            f"not an offset: {other[:40]!r}", where=where, remedy="write the number of characters before it"
        )
    if len(cells) >= 4 and all(cell.strip() for cell in cells[1:4]) and not cells[1].isdecimal():
        infons = {f"{_FURTHER}{number}": cell for number, cell in enumerate(cells[4:], 5)}
        return Relation("", cells[1], (("", cells[2]), ("", cells[3])), infons=infons)
    remedy = (
        "a mention is ID, START, END, TEXT, TYPE, CONCEPT, a relation ID, TYPE, CONCEPT, CONCEPT, separated by tabs"
    )
    raise UserError(f"{len(cells)} columns, neither a mention nor a relation", where=where, remedy=remedy)


# ---- out


def lines(documents: Iterable[AnnotatedDocument], left_out: dict[str, int]) -> Iterator[str]:
    """Yield the lines of a file.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
    """
    for number, document in enumerate(documents, 1):
        targets = {target for each in document.relations for _, target in each.arguments}
        name = re.sub(r"[|\s]", "_", document.id) or str(number)
        count(left_out, "documents whose id has | or white space, renamed", name != document.id)
        title, _, abstract = document.text.replace("\r\n", " \n").replace("\r", "\n").partition("\n")
        count(left_out, "line breaks, written as U+2028", abstract.count("\n"))
        yield f"{name}|t|{title}"
        if abstract or len(document.passages) != 1 or document.passages[0].infons.get(TYPE) != "title":
            yield f"{name}|a|{abstract.replace(chr(10), LINE_SEPARATOR)}"
        for each in document.annotations:
            match each:
                case Mention():
                    yield "\t".join([name, *_mention_cells(document, each, each.id in targets, left_out)])
                case Relation() if len(each.arguments) == 2:
                    yield "\t".join([name, *_relation_cells(document, each, left_out)])
                case Relation():
                    count(left_out, "relations without two arguments, left out")
                case Attribute() | Note():
                    count(left_out, "attributes and comments, left out")
                case Concept():
                    pass  # in the line of its mention
        yield ""


def _mention_cells(
    document: AnnotatedDocument, mention: Mention, is_argument: bool, left_out: dict[str, int]
) -> list[str]:
    count(left_out, "mentions in several parts, written from the first to the last", len(mention.fragments) > 1)
    text = mention.text if len(mention.fragments) == 1 and mention.text else document.text[mention.start : mention.end]
    cells = [str(mention.start), str(mention.end), text, mention.type]
    concepts = document.concepts_of(mention)
    further = [as_text(value) for key, value in mention.infons.items() if key.startswith(_FURTHER)]
    if concepts or further or IDENTIFIER in mention.infons:
        cells += ["|".join(concepts), *further]
    elif mention.id and is_argument:
        cells.append(mention.id)  # so that its relations find it
    count(
        left_out, "infons, left out", sum(key not in _PLACES and not key.startswith(_FURTHER) for key in mention.infons)
    )
    return [_cell(cell) for cell in cells]


def _relation_cells(document: AnnotatedDocument, relation: Relation, left_out: dict[str, int]) -> list[str]:
    targets = []
    for _, target in relation.arguments:
        concepts = document.concepts_of(document.by_id[target][0]) if target in document.by_id else []
        count(left_out, "arguments that are mentions, written as their concept", bool(concepts))
        targets.append(concepts[0] if concepts else target)
    count(left_out, "triggers of events, left out", bool(relation.trigger))
    further = [as_text(value) for key, value in relation.infons.items() if key.startswith(_FURTHER)]
    return [*(_cell(each) or _NONE for each in (relation.type, *targets)), *map(_cell, further)]


def _cell(text: str) -> str:
    return re.sub(r"[\t\r\n]", " ", text) if text.strip() else ""
