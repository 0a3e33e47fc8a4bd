"""MEDLINE-terms: chemicals and diseases in abstracts, found by the terms under which MEDLINE lists the articles.

It needs nothing but the package index. NLM's indexers list each article's chemicals, and its diseases, which are known
by subheadings that only diseases have (drug therapy, complications, ...). The names of all articles of the sample are
looked up in each text. So the labels are silver: a score says how well a model learned to find such names, not how well
it would agree with annotators.

Documents are divided by key, as in MEDLINE-sections, so the same corpora keep its test documents out.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from compact_biomed.benchmarks.examples import Splits, WordsExample
from compact_biomed.benchmarks.readers.texts import SHARES, split_sentences
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus import medline
from compact_biomed.corpus.document import document_key, is_heldout
from compact_biomed.corpus.pieces import split_words
from compact_biomed.corpus.registry import medline_sample

CHEMICAL, DISEASE = "Chemical", "Disease"
# Subheadings that MeSH allows below diseases alone (not below places and operations, as epidemiology and mortality).
OF_DISEASES = frozenset(("complications", "diagnosis", "drug therapy", "etiology", "prevention & control", "therapy"))
# Names that are also other words, or too general to be the name of anything.
_NO_NAMES = {
    *("lead", "wye", "gel", "element", "capsule", "buffer", "dust", "placebo", "solution", "ligand", "ion", "acid"),
    *("protein", "enzyme", "antigen", "antibody", "disease", "syndrome", "recurrence", "chronic disease"),
}
_TUMORS = ("cancer", "tumor", "tumour")  # how texts write MeSH's Neoplasms
_LONGEST = 6  # words of a name

Name = tuple[str, ...]


def read_index_terms(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """Read the sentences of the sample's indexed abstracts, with tags of chemicals and diseases."""
    names: dict[Name, str] = {}
    texts: list[tuple[str, int, str]] = []
    largest_share = max(SHARES.values())
    for path in medline_sample():
        for citation in medline.read_index_terms(path):
            diseases = [term for term, subheadings in citation.headings if OF_DISEASES & subheadings]
            for kind, terms in ((CHEMICAL, citation.chemicals), (DISEASE, diseases)):
                for term in terms:
                    names.update((name, kind) for name in printed_forms(term))
            key = document_key(citation.pmid, "")
            if citation.abstract and (diseases or citation.chemicals) and is_heldout(key, largest_share):
                split = next(name for name, share in SHARES.items() if is_heldout(key, share))
                texts.append((split, citation.pmid, citation.abstract))
    parts: dict[str, list[WordsExample]] = {split: [] for split in SHARES}
    for split, pmid, text in texts:
        for number, sentence in enumerate(split_sentences(text)):
            words = tuple(sentence[start:end] for start, end in split_words(sentence))
            parts[split].append(WordsExample(f"pmid:{pmid}/{number}", words, tag(words, names)))
    return Splits(**parts)


def printed_forms(term: str) -> Iterator[Name]:
    """Yield how texts print a term: "Carcinoma, Squamous Cell" as squamous cell carcinoma, neoplasms also as cancer."""
    if "(" in term or "/" in term:
        return
    name = _normalized(word for part in reversed(term.split(", ")) for word in _words(part))
    for form in (name, *((*name[:-1], tumor) for tumor in _TUMORS if name[-1:] == ("neoplasm",))):
        if form and len(form) <= _LONGEST and " ".join(form) not in _NO_NAMES and len("".join(form)) > 2:
            yield form


def tag(words: Iterable[str], names: dict[Name, str]) -> tuple[str, ...]:
    """Return the IOB2 tags of a sentence: from left to right, the longest name that begins at a word."""
    words = list(words)
    tags, start = ["O"] * len(words), 0
    while start < len(words):
        for end in range(min(len(words), start + _LONGEST), start, -1):
            if kind := names.get(_normalized(words[start:end])):
                tags[start:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - start - 1)]
                start = end
                break
        else:
            start += 1
    return tuple(tags)


def _words(text: str) -> list[str]:
    return [text[start:end] for start, end in split_words(text)]


def _normalized(words: Iterable[str]) -> Name:
    """Return words in lower case, the last one as a singular."""
    name = [word.lower() for word in words]
    if name and len(name[-1]) > 4 and name[-1].endswith("ies"):
        name[-1] = f"{name[-1][:-3]}y"
    elif name and len(name[-1]) > 3 and name[-1].endswith("s") and not name[-1].endswith(("ss", "is", "us")):
        name[-1] = name[-1][:-1]
    return tuple(name)
