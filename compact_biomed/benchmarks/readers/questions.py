"""Read BioASQ factoid questions in SQuAD format, with the official golden files for the test sets."""

import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from compact_biomed.benchmarks.examples import QuestionExample, Splits, hold_out_dev
from compact_biomed.benchmarks.readers.files import find_file, need_file, read_json
from compact_biomed.benchmarks.readers.squad import CASE, MOVED, align, squad_pairs
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import UserError

# BioBERT's training files, or else those whose contexts are snippets. That is another data set: records
# contain the sha256 of what was read.
_TRAIN = ("BioASQ-train-factoid-{}", "BioASQ-train-factoid-{}-full-annotated", "BioASQ-train-factoid-{}-snippet")
_EDITION = re.compile(r"(?<=factoid-)\d+b")
_CORRECTED = {
    MOVED: "train answers moved to where their text occurs",
    CASE: "train answers written as their context has it (case, trailing full stop)",
}
_BLANK = "test questions whose golden answer is blank: always wrong"
_LOST = "train pairs left out: the answer is nowhere in the context"


def read_bioasq(task: Task, folder: Path, fold: int | None = None) -> Splits:
    """Read one edition (4b to 7b): its training file, and all its test batches with their golden answers.

    Dev is a tenth of the training questions, by hash of the question's id. In the training files about 1 % of
    the answers differ from `context[start : start + len]` in case or a trailing full stop. They are
    corrected, or left out if they occur nowhere in the context, and counted.

    Raises:
        UserError: a missing file, a test question without golden answer, or another file structure.
    """
    edition = task.edition
    path = need_file(folder, [name.format(edition) for name in _TRAIN], [".json"])
    repairs: dict[str, int] = {}
    examples = [example for pair in _pairs(path) if (example := _training_pair(pair, repairs)) is not None]
    train, dev = hold_out_dev(examples)
    golden = _golden(folder, edition)
    test = [_test_pair(pair, golden) for batch in _batches(folder, edition) for pair in _pairs(batch)]
    # Edition 4b has one. The evaluator counts it although no answer can be correct.
    if blank := {e.question_id for e in test if not any(text.strip() for text, _ in e.answers)}:
        repairs[_BLANK] = len(blank)
    return Splits(train, dev, test, repairs, dev_of_train=True)


def read_other_editions(task: Task, folder: Path, splits: Splits) -> list[QuestionExample]:
    """Read the questions of all other editions, to train on before the edition's own: test batches, then train.

    The contexts of the test batches are abstracts, like those that the edition is tested on; its own training file may
    have snippets. Their golden answers have no position: a pair is kept if an answer occurs in the context as whole
    words, case ignored. Editions overlap. Left out are all questions of the edition's dev and test set, by id and by
    text, and all pairs that its train has.

    Args:
        splits: of the edition itself.

    Raises:
        UserError: an edition's test batches without golden answers, or another file structure.
    """
    kept_out = [*splits.dev, *splits.test]
    ids, texts = {e.question_id for e in kept_out}, {_letters(e.question) for e in kept_out}
    known = {(e.question_id, e.context) for e in splits.train}
    names = (_EDITION.search(path.name) for path in folder.glob("BioASQ-*"))
    editions = {name[0] for name in names if name} - {task.edition}
    others = (_pairs_of(folder, edition) for edition in sorted(editions))
    result = []
    for example in chain.from_iterable(others):
        pair = (example.question_id, example.context)
        if example.question_id not in ids and _letters(example.question) not in texts and pair not in known:
            known.add(pair)
            result.append(example)
    return result


def _pairs_of(folder: Path, edition: str) -> Iterator[QuestionExample]:
    """Yield the pairs of an edition's test batches and training file, as far as they are here, with their answers."""
    if batches := _batches_here(folder, edition):
        golden = _golden(folder, edition)
        tested = (_located(_test_pair(pair, golden)) for batch in batches for pair in _pairs(batch))
        yield from filter(None, tested)
    if path := find_file(folder, [name.format(edition) for name in _TRAIN], [".json"]):
        yield from filter(None, (_training_pair(pair, {}) for pair in _pairs(path)))


def _located(example: QuestionExample) -> QuestionExample | None:
    """Return a test pair with the first of its golden answers that occurs in the context; None if none does."""
    for text, _ in example.answers:
        if text and (match := re.search(rf"(?<!\w){re.escape(text)}(?!\w)", example.context, re.IGNORECASE)):
            return replace(example, answers=((match[0], match.start()),))
    return None


def _letters(text: str) -> str:
    """Return the words of a text in lower case, without punctuation."""
    return " ".join(re.findall(r"\w+", text.lower()))


def _batches(folder: Path, edition: str) -> list[Path]:
    return _batches_here(folder, edition) or [need_file(folder, [f"BioASQ-test-factoid-{edition}"], [".json"])]


def _batches_here(folder: Path, edition: str) -> list[Path]:
    name = f"BioASQ-test-factoid-{edition}"
    whole = find_file(folder, [name], [".json"])
    return sorted(folder.glob(f"{name}-*.json*")) or ([whole] if whole else [])


def _golden(folder: Path, edition: str) -> dict[str, tuple[str, ...]]:
    """Return {question id: accepted answers}. The evaluator accepts any synonym of any inner list."""
    number = edition.upper()
    files = sorted(folder.glob(f"{number}[0-9]_golden.json*")) or [need_file(folder, [f"{number}_golden"], [".json"])]
    golden: dict[str, tuple[str, ...]] = {}
    for path in files:
        content = read_json(path)
        questions = content.get("questions") if isinstance(content, dict) else None
        if not isinstance(questions, list) or not all(isinstance(question, dict) for question in questions):
            raise UserError("no list of questions", where=path, remedy="use a golden file of BioASQ")
        for question in questions:
            if question.get("type") == "factoid" and question.get("exact_answer"):
                key, texts = question.get("id"), _synonyms(question["exact_answer"])
                if not isinstance(key, str) or not all(isinstance(text, str) for text in texts):
                    where = f"{path}, {key}"
                    raise UserError("id or exact_answer is not text", where=where, remedy="correct the question")
                golden[key] = tuple(texts)
    return golden


def _synonyms(answer: Any) -> list[Any]:
    """Return every synonym of every inner list; a single text counts as one."""
    lists = answer if isinstance(answer, list) else [answer]
    return [text for inner in lists for text in (inner if isinstance(inner, list) else [inner])]


def _pairs(path: Path) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield (file, question, context) of a SQuAD v1.1 file."""
    return ((str(path), question, context) for question, context in squad_pairs(path))


def _training_pair(pair: tuple[str, dict[str, Any], str], repairs: dict[str, int]) -> QuestionExample | None:
    path, question, context = pair
    if not question.get("answers"):
        raise UserError(
            "a training question without answers",
            where=f"{path}, {question['id']}",
            remedy="use the training file, not a test file",
        )
    answers = [_align(answer["text"], answer["answer_start"], context, repairs) for answer in question["answers"]]
    aligned = tuple(answer for answer in answers if answer is not None)
    if not aligned:
        repairs[_LOST] = repairs.get(_LOST, 0) + 1
        return None
    return _example(question, context, aligned)


def _align(text: str, start: int, context: str, repairs: dict[str, int]) -> tuple[str, int] | None:
    """Return the answer as written in the context, and its position; None if it does not occur there."""
    answer, corrected = align(text, start, context)
    if corrected:
        what = _CORRECTED[corrected]
        repairs[what] = repairs.get(what, 0) + 1
    return answer


def _test_pair(pair: tuple[str, dict[str, Any], str], golden: dict[str, tuple[str, ...]]) -> QuestionExample:
    path, question, context = pair
    answers = golden.get(_question_id(question["id"]))
    if not answers:
        raise UserError(
            "no golden answer for this question",
            where=f"{path}, {question['id']}",
            remedy="add the edition's golden files",
        )
    return _example(question, context, tuple((text, -1) for text in answers))


def _question_id(key: str) -> str:
    return key.split("_", 1)[0]


def _example(question: dict[str, Any], context: str, answers: tuple[tuple[str, int], ...]) -> QuestionExample:
    key = question["id"]
    return QuestionExample(key, _question_id(key), question["question"].strip(), context, answers)
