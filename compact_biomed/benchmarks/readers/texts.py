"""Sets of whole texts and of pairs: PubMedQA, Hallmarks of Cancer, BIOSSES."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.examples import Splits, TextExample, hold_out_dev, share
from compact_biomed.benchmarks.readers.files import need_file, read_json, read_table
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus.document import document_key, is_heldout
from compact_biomed.corpus.medline import Section
from compact_biomed.corpus.medline import read_sections as read_file
from compact_biomed.corpus.registry import medline_sample
from compact_biomed.errors import UserError

_FIELDS = ("QUESTION", "CONTEXTS", "final_decision")
_DECISIONS = ("yes", "no", "maybe")
_HALLMARKS = {
    "Sustaining proliferative signaling", "Evading growth suppressors", "Resisting cell death",
    "Enabling replicative immortality", "Inducing angiogenesis", "Activating invasion and metastasis",
    "Genomic instability and mutation", "Tumor promoting inflammation", "Cellular energetics",
    "Avoiding immune destruction",
}  # fmt: skip
_BIOSSES = ("index", "sentence1", "sentence2", "score", "a", "b", "c", "d", "e")


def read_pubmedqa(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """PubMedQA's expert-labeled part: question and abstract (without its conclusion) -> yes, no, maybe.

    The 500 test questions are those of test_ground_truth.json. LONG_ANSWER, the conclusion
    that gives the decision away, is not read. Dev is a tenth of the rest, by hash of the PMID.
    """
    path = need_file(folder, ["ori_pqal"], [".json"])
    truth_path = need_file(folder, ["test_ground_truth"], [".json"])
    questions, truth = (_by_pmid(file) for file in (path, truth_path))
    examples = [_decision(pmid, question, path) for pmid, question in questions.items()]
    known = {example.key: example.label for example in examples}
    for pmid, label in truth.items():
        if known.get(pmid) != label:
            raise UserError(
                f"PMID {pmid} is {known.get(pmid)!r} in {path.name}, here {label!r}", where=truth_path,
                remedy="take both files from one release",
            )  # fmt: skip
    train, dev = hold_out_dev([example for example in examples if example.key not in truth])
    return Splits(train, dev, [example for example in examples if example.key in truth], dev_of_train=True)


def _by_pmid(path: Path) -> dict:
    found = read_json(path)
    if not isinstance(found, dict):
        raise UserError("no JSON object of PMIDs", where=path, remedy="is this a file of PubMedQA?")
    return found


def _decision(pmid: str, question: dict, path: Path) -> TextExample:
    where = f"{path}, PMID {pmid}"
    found = [question.get(name) if isinstance(question, dict) else None for name in _FIELDS]
    text, contexts, label = found
    whole = isinstance(contexts, list) and contexts and all(isinstance(part, str) for part in contexts)
    for name, right in zip(_FIELDS, (isinstance(text, str), whole, isinstance(label, str)), strict=True):
        if not right:
            raise UserError(f"no {name}, or not of its form", where=where, remedy="is this PQA-L?")
    if label not in _DECISIONS:
        raise UserError(f"unknown label {label!r}", where=where, remedy=f"one of {', '.join(_DECISIONS)}")
    return TextExample(pmid, text, " ".join(contexts), label)


def read_hoc(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Hallmarks of Cancer by abstract: the hallmarks of all its sentences; 10 labels.

    As in BLUE and BLURB, abstracts without any label are left out. Their split lists are not
    published with the corpus: here test is a fifth and dev a tenth of the abstracts, by hash
    of the PMID, so the scores are not comparable with theirs to the digit.
    """
    path = need_file(folder, ["hoc"], [".tsv"])
    sentences: dict[str, list[str]] = {}
    labels: dict[str, set[str]] = {}
    for number, (index, sentence, label, _) in read_table(
        path, ("index", "sentence", "label", "taxonomy"), header=True
    ):
        pmid, mark, _ = index.partition("_s")
        if not mark:
            raise UserError(f"index {index!r}", where=f"{path}, line {number}", remedy="expected PMID_s<number>")
        named = {name for name in label.split(";") if name}
        if unknown := sorted(named - _HALLMARKS):
            remedy = f"one of {', '.join(sorted(_HALLMARKS))}"
            raise UserError(f"unknown label {unknown[0]!r}", where=f"{path}, line {number}", remedy=remedy)
        sentences.setdefault(pmid, []).append(sentence)
        labels.setdefault(pmid, set()).update(named)
    examples = [
        TextExample(pmid, " ".join(sentences[pmid]), None, tuple(sorted(labels[pmid])))
        for pmid in sentences
        if labels[pmid]
    ]
    splits = _by_share(examples, test=0.2, dev=0.1)
    if left_out := len(sentences) - len(examples):
        splits.repairs["abstracts left out: no hallmark"] = left_out
    return splits


def read_biosses(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """BIOSSES: pairs of sentences and their similarity, 0 to 4, the mean of five annotators.

    There is no official split. As in BLUE 64 : 16 : 20, but by hash of the pair's number; 100
    pairs say little about any model.
    """
    path = need_file(folder, ["biosses"], [".tsv"])
    examples = []
    for number, (index, first, second, score, *_) in read_table(path, _BIOSSES, header=True):
        try:
            value = float(score)
            if not 0 <= value <= 4:
                raise ValueError
        except ValueError:
            where = f"{path}, line {number}"
            raise UserError(f"not a score: {score!r}", where=where, remedy="a number from 0 to 4") from None
        examples.append(TextExample(index, first, second, value))
    return _by_share(examples, test=0.2, dev=0.16)


def _by_share(examples: Sequence[TextExample], *, test: float, dev: float) -> Splits:
    splits = Splits([], [], [])
    for example in examples:
        number = share(example.key)
        part = splits.test if number < test else splits.dev if number < test + dev else splits.train
        part.append(example)
    return splits


# ----------------------------------------------------------------------------------------------------
# Relation sets: a sentence with two masked entities (@GENE$, @DISEASE$, @CHEMICAL$) and its class.


_BINARY = ("0", "1")
_CHEMPROT = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9", "false")
_ENDINGS = (".tsv",)


def read_fold(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """One fold of GAD or EU-ADR; dev is a tenth of its train, by hash of the key.

    BioBERT's train.tsv has two columns and no header, its test.tsv three columns with one.
    """
    assert fold is not None
    place = folder / str(fold)
    train_path = need_file(place, ["train"], _ENDINGS)
    examples = [
        _example(f"{fold}/train/{number - 1}", sentence, label, _BINARY, f"{train_path}, line {number}")
        for number, (sentence, label) in read_table(train_path, ("sentence", "label"))
    ]
    train, dev = hold_out_dev(examples)
    test_path = need_file(place, ["test"], _ENDINGS)
    test = [
        _example(f"{fold}/test/{index}", sentence, label, _BINARY, f"{test_path}, line {number}")
        for number, (index, sentence, label) in read_table(test_path, ("index", "sentence", "label"), header=True)
    ]
    return Splits(train, dev, test, dev_of_train=True)


def read_chemprot(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """CHEMPROT in BLUE's layout. A pair with two labels stands there as two examples, as in BLUE."""
    parts = {}
    for split, names in (("train", ["train"]), ("dev", ["dev", "devel"]), ("test", ["test"])):
        path = need_file(folder, names, _ENDINGS)
        seen: dict[str, int] = {}
        parts[split] = []
        for number, (index, sentence, label) in read_table(path, ("index", "sentence", "label"), header=True):
            seen[index] = seen.get(index, 0) + 1
            key = index if seen[index] == 1 else f"{index}#{seen[index]}"
            parts[split].append(_example(key, sentence, label, _CHEMPROT, f"{path}, line {number}"))
    return Splits(**parts)


def _example(key: str, sentence: str, label: str, classes: tuple[str, ...], where: str) -> TextExample:
    label = label.strip()
    if label not in classes:
        raise UserError(f"unknown label {label!r}", where=where, remedy=f"one of {', '.join(classes)}")
    if not sentence.strip():
        raise UserError("an empty sentence", where=where, remedy="correct or remove the line")
    return TextExample(key, sentence, None, label)


# ----------------------------------------------------------------------------------------------------
# MEDLINE-sections: the role of each sentence, told by MEDLINE's own structured abstracts.
#
# It needs nothing but the package index. Its documents are those with the lowest keys, as the
# held-out side of a corpus (`corpus.document.is_heldout`), so that pretraining on the same sample
# with a held-out share of 2 % or more (the default) sees no test document, and with 10 % none at
# all. A corpus that holds out less, all of PubMed say, is decontaminated against this task.


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
