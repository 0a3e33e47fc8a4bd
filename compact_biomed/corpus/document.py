"""What one document is, which number names it, and on which side of the split it falls."""

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np

_NO_BRACKETS = str.maketrans("", "", "[]")


@dataclass(frozen=True)
class Document:
    """One citation, or one text that is not from PubMed.

    Args:
        title: article title as printed, white space normalized; "" for plain text.
        abstract: abstract with its section labels, or the whole of a plain text; "" if there is none.
        pmid: PubMed identifier, None for text from elsewhere.
        version: PMID version (journals that revise publish 1, 2, ...); 0 without a PMID.
        year: year of publication, None where the source does not say.
    """

    title: str
    abstract: str
    pmid: int | None = None
    version: int = 0
    year: int | None = None

    @property
    def text(self) -> str:
        """What a model reads."""
        return document_text(self.title, self.abstract)

    @cached_property
    def key(self) -> int:
        """Unsigned 64-bit name: all versions of a citation share it, and so do equal texts without PMID."""
        return document_key(self.pmid, self.text)


@dataclass(frozen=True)
class Deletion:
    """An update file's order to forget one version of a citation."""

    pmid: int
    version: int = 1

    @property
    def key(self) -> int:
        return document_key(self.pmid, "")


def document_text(title: str, abstract: str) -> str:
    """Title without square brackets, one space, abstract: the text of arXiv 2209.03182.

    MEDLINE prints the translated title of an article that is not in English in brackets.
    """
    title = normalize(title.translate(_NO_BRACKETS))
    return f"{title} {abstract}" if title and abstract else title or abstract


def document_key(pmid: int | None, text: str) -> int:
    """First 8 bytes (big-endian) of sha256("pmid:<pmid>"), or of sha256("text:<text>") without a PMID.

    A hash rather than the number itself, because PMIDs follow time: a range of them
    would hold out a decade, not a sample.
    """
    name = f"text:{text}" if pmid is None else f"pmid:{pmid}"
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()[:8], "big")


def is_heldout(key: int, fraction: float) -> bool:
    """Whether a document is held out: the same answer on every machine and in every corpus.

    Raising the fraction only adds documents to the held-out side.
    """
    return key < _threshold(fraction)


def heldout_mask(keys: np.ndarray, fraction: float) -> np.ndarray:
    """`is_heldout` for a uint64 array (n,): a boolean array (n,)."""
    return keys < np.uint64(_threshold(fraction))


def normalize(text: str) -> str:
    """Every run of Unicode white space becomes one space; none at the ends."""
    return " ".join(text.split())


def _threshold(fraction: float) -> int:
    if not 0 <= fraction < 1:
        raise ValueError(f"the held-out fraction must be at least 0 and below 1, not {fraction}")
    return int(fraction * 2**64)
