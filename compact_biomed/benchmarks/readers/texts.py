"""Read data sets of texts, pairs and sentences: PubMedQA, Hallmarks of Cancer, BIOSSES, relations, MEDLINE-sections."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from compact_biomed.benchmarks.examples import Splits, TextExample, hold_out_dev, share
from compact_biomed.benchmarks.readers.files import need_file, read_json, read_table
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.corpus import medline
from compact_biomed.corpus.document import document_key, is_heldout
from compact_biomed.corpus.registry import medline_sample
from compact_biomed.errors import UserError

_PUBMEDQA_FIELDS = ("QUESTION", "CONTEXTS", "final_decision")
_DECISIONS = ("yes", "no", "maybe")
_HALLMARKS = {
    "Sustaining proliferative signaling",
    "Evading growth suppressors",
    "Resisting cell death",
    "Enabling replicative immortality",
    "Inducing angiogenesis",
    "Activating invasion and metastasis",
    "Genomic instability and mutation",
    "Tumor promoting inflammation",
    "Cellular energetics",
    "Avoiding immune destruction",
}
_BIOSSES_COLUMNS = ("index", "sentence1", "sentence2", "score", "a", "b", "c", "d", "e")
_BINARY_LABELS = ("0", "1")
_CHEMPROT_LABELS = ("CPR:3", "CPR:4", "CPR:5", "CPR:6", "CPR:9", "false")


def read_pubmedqa(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read PubMedQA's expert-labeled part: question and abstract without its conclusion -> yes, no, maybe.

    The 500 test questions are those of test_ground_truth.json. LONG_ANSWER, the conclusion that reveals the
    decision, is not read. Dev is a tenth of the other questions, by hash of the PMID.
    """
    path = need_file(folder, ["ori_pqal"], [".json"])
    truth_path = need_file(folder, ["test_ground_truth"], [".json"])
    questions, truth = (_by_pmid(file) for file in (path, truth_path))
    examples = [_decision(pmid, question, path) for pmid, question in questions.items()]
    known = {example.key: example.label for example in examples}
    for pmid, label in truth.items():
        if known.get(pmid) != label:
            what = f"PMID {pmid} is {known.get(pmid)!r} in {path.name}, here {label!r}"
            raise UserError(what, where=truth_path, remedy="get both files from one release")
    train, dev = hold_out_dev([example for example in examples if example.key not in truth])
    return Splits(train, dev, [example for example in examples if example.key in truth], dev_of_train=True)


def _by_pmid(path: Path) -> dict:
    questions = read_json(path)
    if not isinstance(questions, dict):
        raise UserError("no JSON object of PMIDs", where=path, remedy="use a file of PubMedQA")
    return questions


def _decision(pmid: str, question: dict, path: Path) -> TextExample:
    where = f"{path}, PMID {pmid}"
    values = [question.get(name) if isinstance(question, dict) else None for name in _PUBMEDQA_FIELDS]
    text, contexts, label = values
    are_texts = isinstance(contexts, list) and contexts and all(isinstance(part, str) for part in contexts)
    valid = (isinstance(text, str), are_texts, isinstance(label, str))
    for name, is_valid in zip(_PUBMEDQA_FIELDS, valid, strict=True):
        if not is_valid:
            raise UserError(f"no {name}, or of the wrong type", where=where, remedy="use the labeled part, PQA-L")
    if label not in _DECISIONS:
        raise UserError(f"unknown label {label!r}", where=where, remedy=f"use one of {', '.join(_DECISIONS)}")
    return TextExample(pmid, text, " ".join(contexts), label)


def read_hoc(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read Hallmarks of Cancer: abstracts with the hallmarks of all their sentences; 10 labels.

    As in BLUE and BLURB, abstracts without any label are left out. Their splits are not published with the
    corpus. Here a fifth of the abstracts is test and a tenth dev, by hash of the PMID, so scores are not
    exactly comparable with theirs.
    """
    path = need_file(folder, ["hoc"], [".tsv"])
    sentences: dict[str, list[str]] = {}
    labels: dict[str, set[str]] = {}
    for number, (index, sentence, label, _) in read_table(
        path, ("index", "sentence", "label", "taxonomy"), header=True
    ):
        pmid, separator, _ = index.partition("_s")
        if not separator:
            raise UserError(f"index {index!r}", where=f"{path}:{number}", remedy="write PMID_s<number>")
        hallmarks = {name for name in label.split(";") if name}
        if unknown := sorted(hallmarks - _HALLMARKS):
            remedy = f"use one of {', '.join(sorted(_HALLMARKS))}"
            raise UserError(f"unknown label {unknown[0]!r}", where=f"{path}:{number}", remedy=remedy)
        sentences.setdefault(pmid, []).append(sentence)
        labels.setdefault(pmid, set()).update(hallmarks)
    examples = [
        TextExample(pmid, " ".join(sentences[pmid]), None, tuple(sorted(labels[pmid])))
        for pmid in sentences
        if labels[pmid]
    ]
    splits = _split_by_share(examples, test=0.2, dev=0.1)
    if left_out := len(sentences) - len(examples):
        splits.repairs["abstracts left out: no hallmark"] = left_out
    return splits


def read_biosses(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read BIOSSES: pairs of sentences and their similarity from 0 to 4, the mean of five annotators.

    There is no official split, and a score of 20 pairs says little. So there are five folds, decided by the hash of
    the pair's number: each has a fifth of the pairs for test, a fifth of the others for dev.

    Args:
        fold: None = all pairs are for test.
    """
    path = need_file(folder, ["biosses"], [".tsv"])
    examples = []
    for number, (index, first, second, score, *_) in read_table(path, _BIOSSES_COLUMNS, header=True):
        try:
            value = float(score)
            if not 0 <= value <= 4:
                raise ValueError
        except ValueError:
            remedy = "write a number from 0 to 4"
            raise UserError(f"not a score: {score!r}", where=f"{path}:{number}", remedy=remedy) from None
        examples.append(TextExample(index, first, second, value))
    if fold is None:
        return Splits([], [], examples)
    shuffled = sorted(examples, key=lambda example: (share(example.key), example.key))
    test = shuffled[fold - 1 :: task.folds]
    others = [example for number, example in enumerate(shuffled) if number % task.folds != fold - 1]
    dev = others[:: task.folds]
    train = [example for number, example in enumerate(others) if number % task.folds]
    return Splits(train, dev, test, dev_of_train=True)


def _split_by_share(examples: Sequence[TextExample], *, test: float, dev: float) -> Splits:
    splits = Splits([], [], [])
    for example in examples:
        position = share(example.key)
        part = splits.test if position < test else splits.dev if position < test + dev else splits.train
        part.append(example)
    return splits


# ---- Relations: a sentence with two masked entities (@GENE$, @DISEASE$, @CHEMICAL$) and its class


def read_fold(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read one fold of GAD or EU-ADR; dev is a tenth of its train, by hash of the key.

    BioBERT's train.tsv has two columns and no header, its test.tsv three columns and a header.
    """
    assert fold is not None
    fold_folder = folder / str(fold)
    train_path = need_file(fold_folder, ["train"], [".tsv"])
    examples = [
        _relation(f"{fold}/train/{number - 1}", sentence, label, _BINARY_LABELS, f"{train_path}:{number}")
        for number, (sentence, label) in read_table(train_path, ("sentence", "label"))
    ]
    train, dev = hold_out_dev(examples)
    test_path = need_file(fold_folder, ["test"], [".tsv"])
    test = [
        _relation(f"{fold}/test/{index}", sentence, label, _BINARY_LABELS, f"{test_path}:{number}")
        for number, (index, sentence, label) in read_table(test_path, ("index", "sentence", "label"), header=True)
    ]
    return Splits(train, dev, test, dev_of_train=True)


def read_chemprot(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read CHEMPROT in BLUE's format. As in BLUE, a pair with two labels is two examples."""
    parts = {}
    for split, names in (("train", ["train"]), ("dev", ["dev", "devel"]), ("test", ["test"])):
        path = need_file(folder, names, [".tsv"])
        occurrences: dict[str, int] = {}
        parts[split] = []
        for number, (index, sentence, label) in read_table(path, ("index", "sentence", "label"), header=True):
            occurrences[index] = occurrences.get(index, 0) + 1
            key = index if occurrences[index] == 1 else f"{index}#{occurrences[index]}"
            parts[split].append(_relation(key, sentence, label, _CHEMPROT_LABELS, f"{path}:{number}"))
    return Splits(**parts)


def _relation(key: str, sentence: str, label: str, classes: tuple[str, ...], where: str) -> TextExample:
    label = label.strip()
    if label not in classes:
        raise UserError(f"unknown label {label!r}", where=where, remedy=f"use one of {', '.join(classes)}")
    if not sentence.strip():
        raise UserError("an empty sentence", where=where, remedy="correct or remove the line")
    return TextExample(key, sentence, None, label)


# ---- MEDLINE-sections: the role of each sentence, as labeled in MEDLINE's structured abstracts
# It needs nothing but the package index. Its documents are those with the lowest keys, like the held-out
# side of a corpus (`corpus.document.is_heldout`). So pretraining on the same sample with a held-out share
# of 2 % or more (the default) sees no test document, and with 10 % no document of the task at all. A corpus
# that holds out less, such as all of PubMed, must be decontaminated against this task.


# Shares of all documents, by key: below 0.02 is test, then up to 0.03 dev, then up to 0.1 train.
SHARES = {"test": 0.02, "dev": 0.03, "train": 0.1}
ROLES = ("BACKGROUND", "OBJECTIVE", "METHODS", "RESULTS", "CONCLUSIONS")  # NLM's categories except UNASSIGNED
_MINIMUM_ROLES = 3  # different roles in a structured abstract

# A sentence ends with . ! or ?, optionally followed by closing brackets or quotation marks, before a blank and a
# possible beginning: a capital, a digit, an opening bracket or quotation mark.
_CLOSING, _OPENING = ")\\]\"'\u2019\u201d", "(\\[\"'\u2018\u201c"
_END = re.compile(rf"[.!?][{_CLOSING}]*\s+(?=[A-Z0-9{_OPENING}])")
# ... unless the full stop is part of an abbreviation.
_NO_END = re.compile(r"\b(?:vs|cf|ca|al|approx|e\.g|i\.e|figs?|nos?|dr|prof|mrs?|st|resp|viz)\.$", re.IGNORECASE)


def read_sections(task: Task, folder: Path | None = None, fold: int | None = None) -> Splits:
    """Read the sentences of the sample's structured abstracts, each with its role in lower case.

    An abstract is used if every section has one of the five `ROLES` and at least three different ones occur.
    """
    parts: dict[str, list[TextExample]] = {split: [] for split in SHARES}
    for pmid, sections in _structured_abstracts(medline_sample()):
        split = next(name for name, share in SHARES.items() if is_heldout(document_key(pmid, ""), share))
        parts[split] += _role_examples(pmid, sections)
    return Splits(**parts)


def split_sentences(text: str) -> list[str]:
    """Split at `_END`, not after `_NO_END`: a simple rule with the same result on every machine."""
    sentences, start = [], 0
    for match in _END.finditer(text):
        if not _NO_END.search(text[start : match.start() + 1]):
            sentences.append(text[start : match.end()].strip())
            start = match.end()
    return [sentence for sentence in [*sentences, text[start:].strip()] if sentence]


def _structured_abstracts(paths: Iterable[Path]) -> Iterator[tuple[int, list[medline.Section]]]:
    largest_share = max(SHARES.values())
    for path in paths:
        for pmid, sections in medline.read_sections(path):
            roles = {section.category for section in sections}
            structured = len(roles) >= _MINIMUM_ROLES and roles <= {*ROLES}
            if structured and is_heldout(document_key(pmid, ""), largest_share):
                yield pmid, sections


def _role_examples(pmid: int, sections: list[medline.Section]) -> list[TextExample]:
    texts = [(sentence, section.category) for section in sections for sentence in split_sentences(section.text)]
    return [TextExample(f"pmid:{pmid}/{number}", text, None, role.lower()) for number, (text, role) in enumerate(texts)]
