"""Columns: a word and its tag per line, an empty line between sentences, -DOCSTART- between documents.

Fever<TAB>B-Disease          tabs or blanks, any number of columns (CoNLL-2003 has four), the tag in any of them
after<TAB>O                  tags in IOB1, IOB2, IOBES (BIOES) or BILOU
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.examples import WordsExample
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument, count
from compact_biomed.benchmarks.standoff.words import Sentences, WordRules, tagged_documents
from compact_biomed.benchmarks.tags import in_scheme, is_tag, to_iob2
from compact_biomed.corpus.streams import read_lines
from compact_biomed.errors import UserError

_BLANKS = re.compile(r"[ \t]+")
_DOCUMENT = "-DOCSTART-"
_NAME = re.compile(r"-DOCSTART-\s+\((?P<name>[^)]*)\)")


# ---- in


def read_columns(path: Path, split: str, repairs: dict[str, int], column: int = -1) -> Sentences:
    """Return the sentences of a file; add what was corrected to `repairs`.

    Columns are separated by tabs or blanks, as in the first line; the word is in the first. A byte order mark, CR LF,
    comments ("# ...") before a sentence and a last line without an end are accepted.

    Args:
        split: "train", "dev" or "test": the first part of each example's key.
        repairs: description of what was corrected -> how often.
        column: of the tag, from 1 on, or from the last, which is -1.

    Raises:
        UserError: no sentence, or (with the line) another number of columns than in the first line, no word, or an
            unknown tag.
    """
    sentences, documents = _sentences(path, column, split, repairs)
    if not sentences:
        raise UserError("no sentence", where=path, remedy="write a word and its tag per line")
    normalized = to_iob2(
        [[tag for _, _, tag in sentence] for sentence in sentences],
        lambda s, w: f"{path}:{sentences[s][w][0]}",
    )
    count(repairs, f"{split}: entities that began with I", normalized.repaired)
    if normalized.scheme != "IOB2":
        count(repairs, f"{split}: sentences written in {normalized.scheme}", len(sentences))
    examples = [
        WordsExample(f"{split}/{number}", tuple(word for _, word, _ in sentence), tuple(tags))
        for number, (sentence, tags) in enumerate(zip(sentences, normalized.tags, strict=True))
    ]
    return Sentences(examples, documents)


def _sentences(
    path: Path, column: int, split: str, repairs: dict[str, int]
) -> tuple[list[list[tuple[int, str, str]]], list[str] | None]:
    """Return (line number, word, tag) of every word, one list per sentence, and the document of each sentence."""
    sentences: list[list[tuple[int, str, str]]] = []
    documents: list[str] = []
    sentence: list[tuple[int, str, str]] = []
    layout: tuple[bool, int] | None = None  # whether tabs separate the columns; number of columns
    name, begun = "", 0
    for number, line in read_lines(path):
        if not line.strip() or line.startswith(_DOCUMENT):
            sentence = []
            if line.startswith(_DOCUMENT):
                begun += 1
                match = _NAME.match(line)
                name = match["name"] if match else str(begun)
        elif not sentence and line.startswith("# ") and not is_tag(line.split()[-1]):
            count(repairs, f"{split}: lines of comments, left out")
        else:
            layout = layout or _layout(line)
            if not sentence:
                sentences.append(sentence)
                documents.append(name)
            sentence.append((number, *_word_and_tag(line, layout, column, f"{path}:{number}")))
    return sentences, documents if begun else None


def _layout(line: str) -> tuple[bool, int]:
    tabs = "\t" in line
    return tabs, len(_cells(line, tabs))


def _cells(line: str, tabs: bool) -> list[str]:
    return [cell.strip(" ") for cell in line.split("\t")] if tabs else _BLANKS.split(line.strip(" \t"))


def _word_and_tag(line: str, layout: tuple[bool, int], column: int, where: str) -> tuple[str, str]:
    tabs, columns = layout
    cells = _cells(line, tabs)
    if len(cells) != columns or columns < 2:
        expected = f"{columns}, as in the first line" if columns > 1 else "a word and its tag"
        raise UserError(
            f"{len(cells)} columns (separated by {'tabs' if tabs else 'blanks'}), expected {expected}",
            where=where,
            remedy="correct the line",
        )
    if not cells[0] or cells[0].isspace():
        raise UserError("no word before the tab", where=where, remedy="correct the line")
    position = column - 1 if column > 0 else columns + column
    if not 1 <= position < columns:
        remedy = f"name a column from 2 to {columns}, or -1 for the last"
        raise UserError(f"no tag in column {column}", where=where, remedy=remedy)
    if not is_tag(cells[position]):
        remedy = "use O, or one of B I E S L U, alone or followed by - and a type; or name another column"
        raise UserError(f"unknown tag {cells[position]!r} in column {position + 1}", where=where, remedy=remedy)
    return cells[0], cells[position]


# ---- out


def lines(
    documents: Sequence[AnnotatedDocument], rules: WordRules, scheme: str, left_out: dict[str, int]
) -> Iterator[str]:
    """Yield the lines of documents; -DOCSTART- and the id are before each, unless each is one sentence.

    Args:
        rules: how the texts become words.
        scheme: of the tags, a key of `tags.SCHEMES`.
        left_out: description of what was changed or left out -> how often; added to.
    """
    for name, sentences in tagged_documents(documents, rules, left_out):
        if name is not None:
            yield f"{_DOCUMENT} ({name})\tO"
            yield ""
        for words, tags in sentences:
            yield from _sentence_lines(words, tags, scheme)


def _sentence_lines(words: Sequence[str], tags: Sequence[str], scheme: str) -> Iterator[str]:
    for word, tag in zip(words, in_scheme(tags, scheme), strict=True):
        yield f"{word}\t{tag}"
    yield ""
