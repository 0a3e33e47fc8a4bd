"""The formats by name: detect, read and write them."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.examples import WordsExample
from compact_biomed.benchmarks.standoff.documents import AnnotatedDocument

# Those of documents, then those of words with tags.
DOCUMENT_FORMATS = ("brat", "pubtator", "bioc", "bioc-json", "doccano", "prodigy", "label-studio")
WORD_FORMATS = ("conll", "tokens")


def detect(path: Path | str) -> str:
    """Return the format of a file or folder, one of `DOCUMENT_FORMATS` or `WORD_FORMATS`, where it leaves no doubt.

    Raises:
        UserError: it is none of them, or could be several. The message names the formats and docs/own-data.md.
    """
    raise NotImplementedError


def read_documents(
    path: Path | str, form: str | None = None, *, repairs: dict[str, int] | None = None
) -> list[AnnotatedDocument]:
    """Read the documents of a file, or of a folder of BRAT.

    Args:
        form: one of `DOCUMENT_FORMATS`; None: as detected.
        repairs: description of what was corrected or left out -> how often; added to.

    Raises:
        UserError: another format, or (with file and line) a mention that is not in its text.
    """
    raise NotImplementedError


def read_examples(
    path: Path | str,
    split: str,
    repairs: dict[str, int],
    form: str | None = None,
    *,
    column: int = -1,
    names: Sequence[str] | None = None,
    rules: object = None,
) -> list[WordsExample]:
    """Read a file or folder in any of the formats as sentences of words with IOB2 tags.

    Args:
        split: "train", "dev" or "test": the first part of each example's key.
        repairs: description of what was corrected or left out -> how often; added to.
        form: one of `DOCUMENT_FORMATS` or `WORD_FORMATS`; None: as detected.
        column: of the tag in columns: from 1 on, or from the last, which is -1.
        names: of tags that are written as whole numbers.
        rules: how texts become words (`words.rules_of`), for dev and test those of train; None: as these documents are.
    """
    raise NotImplementedError


def write_documents(
    documents: Iterable[AnnotatedDocument], path: Path | str, form: str, *, scheme: str = "IOB2"
) -> dict[str, int]:
    """Write documents to a file, or to a folder for BRAT; nothing half-written remains.

    Args:
        form: one of `DOCUMENT_FORMATS` or `WORD_FORMATS`.
        scheme: of the tags: "IOB2", "IOB1", "IOBES" (or "BIOES"), "BILOU".

    Returns:
        What the format has no place for -> how often it was left out or written otherwise.
    """
    raise NotImplementedError


def document_lines(
    documents: Iterable[AnnotatedDocument], form: str, left_out: dict[str, int] | None = None
) -> Iterator[str]:
    """Yield the lines of a file of one of `DOCUMENT_FORMATS` except BRAT, in memory for one document at a time.

    Args:
        left_out: what the format has no place for -> how often; added to.
    """
    raise NotImplementedError
