"""Sets of whole texts and of pairs: PubMedQA, Hallmarks of Cancer, BIOSSES."""

from collections.abc import Sequence
from pathlib import Path

from compact_biomed.errors import UserError
from compact_biomed.evaluation.examples import Splits, TextExample, hold_out_dev, share
from compact_biomed.evaluation.readers.files import need_file, read_json, read_table
from compact_biomed.evaluation.tasks import Task

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
