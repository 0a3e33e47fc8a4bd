"""Read and write the formats by name."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from compact_biomed.benchmarks.standoff import bioc, bioc_xml, brat, columns, label_studio, pubtator, spans, tokens
from compact_biomed.benchmarks.standoff.columns import read_columns
from compact_biomed.benchmarks.standoff.detect import ALL, PAGE, WORD_FORMATS, detect
from compact_biomed.benchmarks.standoff.documents import (
    AnnotatedDocument,
    Attribute,
    Concept,
    Mention,
    Note,
    Relation,
    count,
)
from compact_biomed.benchmarks.standoff.tokens import read_tokens
from compact_biomed.benchmarks.standoff.words import Sentences, WordRules, from_words, rules_of, to_sentences
from compact_biomed.benchmarks.tags import SCHEMES
from compact_biomed.errors import UsageError, UserError, no_file
from compact_biomed.files import atomic_file, atomic_folder

_Read = Callable[[Path, dict[str, int]], Iterator[AnnotatedDocument]]
_Lines = Callable[[Iterable[AnnotatedDocument], dict[str, int]], Iterator[str]]


@dataclass(frozen=True)
class Format:
    """A format of documents.

    Args:
        read: (path, repairs) -> documents.
        lines: (documents, what has no place) -> lines of a file; None for a folder.
        ending: of a file's name.
    """

    read: _Read
    lines: _Lines | None
    ending: str


FORMATS: dict[str, Format] = {
    "brat": Format(brat.read, None, ""),
    "pubtator": Format(pubtator.read, pubtator.lines, ".pubtator"),
    "bioc": Format(bioc_xml.read, bioc_xml.lines, ".xml"),
    "bioc-json": Format(bioc.read, bioc.lines, ".json"),
    "doccano": Format(spans.read, spans.doccano_lines, ".jsonl"),
    "prodigy": Format(spans.read, spans.prodigy_lines, ".jsonl"),
    "label-studio": Format(label_studio.read, label_studio.lines, ".json"),
}


# ---- in


def read_documents(
    path: Path | str,
    form: str | None = None,
    *,
    repairs: dict[str, int] | None = None,
    column: int = -1,
    names: Sequence[str] | None = None,
) -> list[AnnotatedDocument]:
    """Read the documents of a file, or of a folder of BRAT.

    Args:
        form: one of `ALL`; None: as detected.
        repairs: description of what was corrected or left out -> how often; added to.
        column, names: as in `read_sentences`.

    Raises:
        UserError: another format, or (with file and line) a mention that is not in its text.
    """
    repairs = {} if repairs is None else repairs
    path, form = _known(path, form)
    if form == "conll":
        sentences = read_columns(path, _stem(path), repairs, column)
        return from_words(sentences.examples, sentences.documents, repairs)
    if form == "tokens":
        sentences = read_tokens(path, _stem(path), repairs, names)
        return from_words(sentences.examples, sentences.documents, repairs)
    documents = list(FORMATS[form].read(path, repairs))
    if not documents:
        raise UserError("no document", where=path, remedy=f"see {PAGE}")
    _count_ids(documents, repairs)
    return documents


def read_sentences(
    path: Path | str,
    split: str,
    repairs: dict[str, int],
    form: str | None = None,
    *,
    column: int = -1,
    names: Sequence[str] | None = None,
    rules: WordRules | None = None,
) -> Sentences:
    """Read a file or folder in any of the formats as sentences of words with IOB2 tags.

    Args:
        split: "train", "dev" or "test": the first part of each example's key.
        repairs: description of what was corrected or left out -> how often; added to.
        form: one of `ALL`; None: as detected.
        column: of the tag in columns: from 1 on, or from the last, which is -1.
        names: of tags that are written as whole numbers.
        rules: how texts become words: for dev and test `Sentences.rules` of train; None: as these documents are.

    Raises:
        UserError: another format, or (with file and line) a mention that is not in its text.
    """
    path, form = _known(path, form)
    if form == "conll":
        return read_columns(path, split, repairs, column)
    if form == "tokens":
        return read_tokens(path, split, repairs, names)
    found: dict[str, int] = {}
    documents = read_documents(path, form, repairs=found)
    for what, number in found.items():
        count(repairs, f"{split}: {what}", number)
    return to_sentences(documents, split, repairs, rules)


def _known(path: Path | str, form: str | None) -> tuple[Path, str]:
    path = Path(path)
    if form is None:
        return path, detect(path)
    if form not in ALL:
        raise UsageError(f"no format {form!r}", where="--format", remedy=f"use one of {', '.join(ALL)}, see {PAGE}")
    if path.is_dir() != (form == "brat"):
        what = "is a folder" if form == "brat" else "is a file"
        raise UserError(f"what is in {form} {what}", where=path, remedy=f"name one, see {PAGE}")
    if not path.exists():
        raise no_file(path, "check the path")
    return path, form


def _stem(path: Path) -> str:
    return path.name.split(".")[0]


def _count_ids(documents: Sequence[AnnotatedDocument], repairs: dict[str, int]) -> None:
    """Count ids that several documents, or several annotations of a document, share."""
    count(
        repairs, "documents with the id of another one", _repeated(document.id for document in documents if document.id)
    )
    for kind, name in ((Mention, "mentions"), (Relation, "relations"), (Attribute | Concept | Note, "comments")):
        number = sum(
            _repeated(each.id for each in document.annotations if isinstance(each, kind) and each.id not in ("", "*"))
            for document in documents
        )
        count(repairs, f"{name} with the id of another one", number)


def _repeated(ids: Iterable[str]) -> int:
    return sum(number - 1 for number in Counter(ids).values())


# ---- out


def write_documents(
    documents: Iterable[AnnotatedDocument],
    path: Path | str,
    form: str,
    *,
    scheme: str = "IOB2",
    rules: WordRules | None = None,
) -> dict[str, int]:
    """Write documents to a file, or to a new folder for BRAT; nothing half-written remains.

    Args:
        form: one of `ALL`.
        scheme: of tags, a key of `tags.SCHEMES`.
        rules: how texts become words, for `WORD_FORMATS`; None: as these documents are.

    Returns:
        What the format has no place for -> how often it was left out or written otherwise.

    Raises:
        UserError: BRAT's folder exists and is not empty, or two of its documents have one id.
    """
    path, left_out = Path(path), {}
    if form == "brat":
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise UserError("exists and is not an empty folder", where=path, remedy="name another folder, or empty it")
        with atomic_folder(path) as folder:
            brat.write(documents, folder, left_out)
        return left_out
    with atomic_file(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:
        for line in document_lines(documents, form, left_out, scheme=scheme, rules=rules):
            stream.write(line + "\n")
    return left_out


def document_lines(
    documents: Iterable[AnnotatedDocument],
    form: str,
    left_out: dict[str, int] | None = None,
    *,
    scheme: str = "IOB2",
    rules: WordRules | None = None,
) -> Iterator[str]:
    """Yield the lines of a file of one of `ALL` except BRAT, for which see `brat.ann_lines`.

    Of `FORMATS`, one document is in memory at a time.

    Args:
        left_out: description of what the format has no place for -> how often; added to.
        scheme, rules: as in `write_documents`.
    """
    left_out = {} if left_out is None else left_out
    if scheme not in SCHEMES:
        raise UsageError(f"no scheme {scheme!r}", where="--scheme", remedy=f"use one of {', '.join(SCHEMES)}")
    if form in WORD_FORMATS:
        documents = list(documents)
        rules = rules or rules_of(documents)
        writer_of_words = columns.lines if form == "conll" else tokens.lines
        yield from writer_of_words(documents, rules, scheme, left_out)
        relations = sum(len(document.annotations) - len(document.mentions) for document in documents)
        count(left_out, "relations, attributes, concepts and comments, left out", relations)
        return
    writer = FORMATS[form].lines if form in FORMATS else None
    if writer is None:
        raise UsageError(f"no lines of format {form!r}", where="--format", remedy=f"use one of {', '.join(ALL[1:])}")
    yield from writer(documents, left_out)
