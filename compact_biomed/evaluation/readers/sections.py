"""MEDLINE-sections: the role of each sentence, told by MEDLINE's own structured abstracts.

It needs nothing but the package index. Its documents are those with the lowest keys, as the
held-out side of a corpus (`corpus.document.is_heldout`), so that pretraining on the same sample
with a held-out share of 2 % or more (the default) sees no test document, and with 10 % none at
all. A corpus that holds out less, all of PubMed say, is decontaminated against this task.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from compact_biomed.corpus.document import document_key, is_heldout
from compact_biomed.corpus.fetch import medline_sample
from compact_biomed.corpus.medline import Section
from compact_biomed.corpus.medline import read_sections as read_file
from compact_biomed.evaluation.examples import Splits, TextExample
from compact_biomed.evaluation.tasks import Task

# Test is what lies below the first of these shares of all documents, by key, dev what follows, then train.
SHARES = {"test": 0.02, "dev": 0.03, "train": 0.1}
ROLES = ("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS")  # NLM's categories, but for UNASSIGNED
_FEWEST = 3  # different roles that make an abstract a structured one

# A sentence ends in . ! or ? (and what closes a bracket or a quotation), before a blank and what may
# begin one: a capital, a digit, an opening bracket or quotation mark.
_CLOSING, _OPENING = ")\\]\"'\u2019\u201d", "(\\[\"'\u2018\u201c"
_END = re.compile(rf"[.!?][{_CLOSING}]*\s+(?=[A-Z0-9{_OPENING}])")
# ... unless the full stop belongs to one of these.
_NO_END = re.compile(r"\b(?:vs|cf|ca|al|approx|e\.g|i\.e|figs?|nos?|dr|prof|mrs?|st|resp|viz)\.$", re.IGNORECASE)


def read_sections(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """Sentences of the sample's structured abstracts, each with its role in lower case.

    An abstract counts if every section carries one of the five `ROLES` and at least three occur.
    """
    parts: dict[str, list[TextExample]] = {split: [] for split in SHARES}
    for pmid, sections in _structured(medline_sample()):
        split = next(name for name, share in SHARES.items() if is_heldout(document_key(pmid, ""), share))
        parts[split] += _sentences(pmid, sections)
    return Splits(**parts)


def split_sentences(text: str) -> list[str]:
    """Split at `_END`, not after `_NO_END`: a rule of two lines, the same on every machine."""
    sentences, start = [], 0
    for match in _END.finditer(text):
        if not _NO_END.search(text[start : match.start() + 1]):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    return [sentence for sentence in [*sentences, text[start:].strip()] if sentence]


def _structured(paths: Iterable[Path]) -> Iterator[tuple[int, list[Section]]]:
    for path in paths:
        for pmid, sections in read_file(path):
            roles = {section.category for section in sections}
            if len(roles) >= _FEWEST and roles <= {*ROLES} and is_heldout(document_key(pmid, ""), max(SHARES.values())):
                yield pmid, sections


def _sentences(pmid: int, sections: list[Section]) -> list[TextExample]:
    texts = [(sentence, section.category) for section in sections for sentence in split_sentences(section.text)]
    return [TextExample(f"pmid:{pmid}/{number}", text, None, role.lower()) for number, (text, role) in enumerate(texts)]
