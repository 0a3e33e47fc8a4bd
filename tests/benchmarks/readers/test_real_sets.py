"""The real data sets of COMPACT_BIOMED_DATA have the published counts."""

from collections import Counter
from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import TASKS, find, zero_shot
from compact_biomed.evaluation.features import Answers
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.scoring import score_questions

# Sentences, words, entities of train, devel, test.
NER = {
    "NCBI-disease": [(5424, 135701, 5134), (923, 23969, 787), (940, 24497, 960)],
    "BC5CDR-chem": [(4560, 118170, 5203), (4581, 117453, 5347), (4797, 124750, 5385)],
    "BC5CDR-disease": [(4560, 118170, 4182), (4581, 117453, 4246), (4797, 124750, 4424)],
    "BC2GM": [(12574, 355405, 15197), (2519, 71042, 3061), (5038, 143465, 6325)],
    "JNLPBA": [(14690, 443653, 32178), (3856, 117213, 8575), (3856, 114709, 6241)],
    "linnaeus": [(11935, 281273, 2119), (4078, 93877, 711), (7142, 165095, 1433)],
    "s800": [(5733, 147291, 2557), (830, 22217, 384), (1630, 42298, 767)],
}


@pytest.mark.parametrize("name", NER)
def test_entity_sets(data: Path, name: str) -> None:
    splits = read(TASKS[name], find(TASKS[name], data))
    counts = [
        (
            len(part),
            sum(len(example.words) for example in part),
            sum(tag[0] == "B" for example in part for tag in example.tags),
        )
        for part in (splits.train, splits.dev, splits.test)
    ]
    assert counts == NER[name]
    assert splits.repairs == {}
    assert KINDS["ner"].labels(splits) == ["B", "I", "O"]


@pytest.mark.parametrize(("name", "examples", "positives"), [("GAD", 5330, 2801), ("euadr", 355, 262)])
def test_the_test_folds_are_the_set_once(data: Path, name: str, examples: int, positives: int) -> None:
    task = TASKS[name]
    folds = [read(task, find(task, data), fold) for fold in range(1, 11)]
    assert all(sum(fold.counts().values()) == examples for fold in folds)
    assert sum(len(fold.test) for fold in folds) == examples
    assert sum(example.label == "1" for fold in folds for example in fold.test) == positives
    assert all("@GENE$" in example.text and "@DISEASE$" in example.text for example in folds[0].test)


def test_chemprot(data: Path) -> None:
    splits = read(TASKS["CHEMPROT"], find(TASKS["CHEMPROT"], data))
    assert splits.counts() == {"train": 18596, "dev": 11651, "test": 16174}
    positives = [sum(example.label != "false" for example in part) for part in (splits.train, splits.dev, splits.test)]
    assert positives == [4154, 2416, 3458]
    assert sum("#" in example.key for example in splits.test) == 14  # pairs with two labels


# Questions and pairs of train, questions and pairs of test, test questions without an answer in any context.
BIOASQ = {
    "4b": (201, 1775, 161, 652, 43),
    "5b": (320, 2481, 150, 495, 31),
    "6b": (436, 3576, 161, 525, 38),
    "7b": (556, 4303, 162, 407, 33),
}


@pytest.mark.parametrize("edition", BIOASQ)
def test_bioasq(data: Path, edition: str) -> None:
    task = TASKS[f"BioASQ-{edition}"]
    splits = read(task, find(task, data))
    train = [*splits.train, *splits.dev]
    left_out = sum(count for what, count in splits.repairs.items() if "left out" in what)
    assert left_out <= 1
    questions, pairs, test_questions, test_pairs, unanswerable = BIOASQ[edition]
    assert len({example.question_id for example in train}) == questions - left_out  # its only context
    assert len(train) + left_out == pairs
    assert len({example.question_id for example in splits.test}) == test_questions
    assert len(splits.test) == test_pairs
    assert all(e.context[start : start + len(text)] == text for e in train for text, start in e.answers)
    scores = score_questions(splits.test, [Answers([]) for _ in splits.test])
    assert scores.counts["questions"] == test_questions
    assert scores.counts["answerable"] == test_questions - unanswerable


def test_pubmedqa_hoc_biosses(data: Path) -> None:
    tasks = [TASKS["PubMedQA"], TASKS["HoC"], zero_shot(TASKS["BIOSSES"])]
    pubmedqa, hoc, biosses = (read(task, find(task, data)) for task in tasks)
    assert Counter(example.label for example in pubmedqa.test) == {"yes": 276, "no": 169, "maybe": 55}
    assert len(pubmedqa.train) + len(pubmedqa.dev) == 500
    assert sum(hoc.counts().values()) == 1580
    assert len(KINDS["multilabel"].labels(hoc)) == 10
    assert sum(biosses.counts().values()) == 100


@pytest.mark.network
def test_one_mention_counts_several_times_on_the_published_scale(data: Path) -> None:
    """With bert-base-cased's vocabulary the 960 mentions become 2,276; the uncased one cuts words less often."""
    import numpy as np

    from compact_biomed.models.checkpoints import load_tokenizer

    task, kind = TASKS["NCBI-disease"], KINDS["ner"]
    splits = read(task, find(task, data))
    labels = kind.labels(splits)
    tokenizer = load_tokenizer("registry:all-minilm-l6-v2")
    for level in ("standard", "published"):
        features = kind.encode(splits.test, tokenizer, labels=labels, max_length=512, level=level)
        perfect = [np.eye(3)[[max(label, 0) for label in feature["labels"]]] for feature in features]
        predictions = kind.decode(splits.test, features, perfect, labels=labels, level=level)
        scores = kind.score(splits.test, predictions)
        assert scores.metrics["f1"] == scores.metrics["piece_f1"] == 100
        assert (scores.counts["entities"], scores.counts["piece_entities"]) == (960, 2114)


@pytest.mark.network
def test_the_roles_of_the_real_sample() -> None:
    splits = read(TASKS["MEDLINE-sections"], None)
    assert len(splits.test) == 1098
    assert {example.label for example in splits.test} == {
        "background",
        "objective",
        "methods",
        "results",
        "conclusions",
    }
