"""Scores: hand-counted cases, independent implementations, and per-example counts that give the metric again."""

import random
from fractions import Fraction

import numpy as np
import pytest

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.benchmarks.metrics import FROM_COUNTS
from compact_biomed.evaluation.features import Answers, Choice, TaggedWords
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.scoring import compute, merge_answers, published_entities, strict_entities, words_cut_off


def words(tags: str) -> WordsExample:
    listed = tuple(tags.split())
    return WordsExample("x", ("w",) * len(listed), listed)


def tagged(tags: str, pieces: list[int] | None = None, read: int | None = None) -> TaggedWords:
    listed = tags.split()
    pieces = pieces or [1] * len(listed)
    of_pieces = [tag for tag, count in zip(listed, pieces, strict=True) for _ in range(count)]
    read = len(listed) if read is None else read
    return TaggedWords(listed, of_pieces, pieces, read, [0.9] * len(listed))


def spans_by_hand(tags, strict: bool) -> set[tuple[int, int, str]]:
    """Entities of IOB2 tags, written apart from seqeval: one pass, one open entity."""
    spans, start, kind = set(), None, None
    for place, tag in enumerate([*tags, "O"]):
        prefix, here = tag[0], tag[2:]
        continues = prefix == "I" and start is not None and here == kind
        if start is not None and not continues:
            spans.add((start, place, kind))
            start = None
        if prefix == "B" or (prefix == "I" and not continues and not strict):
            start, kind = place, here
    return spans


def test_entities_of_random_tags_as_seqeval_finds_them() -> None:
    chance = random.Random(1)
    tags = ["O", "B-X", "I-X", "B-Y", "I-Y"]
    sentences = [chance.choices(tags, k=chance.randint(1, 12)) for _ in range(400)]
    for sentence, strict, published in zip(
        sentences, strict_entities(sentences), published_entities(sentences), strict=True
    ):
        assert {(start, end, kind) for kind, start, end in strict} == spans_by_hand(sentence, True)
        assert {(start, end + 1, kind) for kind, start, end in published} == spans_by_hand(sentence, False)


def test_metrics_are_those_of_spans_counted_by_hand() -> None:
    chance = random.Random(2)
    tags = ["O", "O", "B-X", "I-X", "B-Y", "I-Y"]
    gold, given = ([chance.choices(tags, k=9) for _ in range(60)] for _ in range(2))
    for mode, strict in (("strict", True), ("published", False)):
        right = predicted = wanted = 0
        for a, b in zip(gold, given, strict=True):
            of_gold, of_given = spans_by_hand(a, strict), spans_by_hand(b, strict)
            right, predicted = right + len(of_gold & of_given), predicted + len(of_given)
            wanted += len(of_gold)
        expected = {"precision": right / predicted, "recall": right / wanted, "f1": 2 * right / (predicted + wanted)}
        assert compute("entities", given, gold, mode=mode) == pytest.approx({k: 100 * v for k, v in expected.items()})


def test_entities_counted_by_hand_on_both_scales() -> None:
    examples = [words("B I O B"), words("O B O"), words("O O")]
    predictions = [
        tagged("B I O O", [3, 1, 1, 2]),  # first entity right, second missed
        tagged("O B I", [1, 2, 1]),  # one word too long
        tagged("I O", [1, 1]),  # I without B: nothing by strict IOB2, an entity as published
    ]
    scores = KINDS["ner"].score(examples, predictions)
    assert scores.counts["entities"] == 3
    assert (scores.counts["predicted"], scores.counts["correct"]) == (2, 1)
    assert scores.metrics["precision"] == pytest.approx(50)
    assert scores.metrics["recall"] == pytest.approx(100 / 3)
    assert scores.metrics["f1"] == pytest.approx(40)
    # Gold pieces: B B B I | O | B B, O | B B | O, O O: 3 + 2 + 2 entities. Given: B B B I, O, O O = 3, all
    # right; B B I: the first right, the second too long; I: one too many.
    assert scores.counts["piece_entities"] == 7
    assert (scores.counts["piece_predicted"], scores.counts["piece_correct"]) == (6, 4)
    assert scores.metrics["piece_f1"] == pytest.approx(100 * 8 / 13)
    assert [tuple(row.values()) for row in scores.per_example] == [
        (1, 0, 1, 3, 0, 2),
        (0, 1, 1, 1, 1, 1),
        (0, 0, 0, 0, 1, 0),
    ]


def test_an_entity_beyond_the_limit_is_missed_not_absent() -> None:
    scores = KINDS["ner"].score([words("B O B I")], [tagged("B O O O", read=2)])
    assert scores.metrics["recall"] == pytest.approx(50)
    assert (scores.counts["words_beyond_limit"], scores.counts["entities_beyond_limit"]) == (2, 1)


def test_words_beyond_the_limit_are_told() -> None:
    counts = {"words": 2000, "words_beyond_limit": 1234, "entities_beyond_limit": 5}
    told = words_cut_off(counts)
    assert told == "1,234 of 2,000 test words are beyond the length limit; their 5 entities count as missed"
    assert words_cut_off({**counts, "words_beyond_limit": 0}) is words_cut_off({"examples": 3}) is None


def chosen(labels) -> list[Choice]:
    return [Choice(label, ()) for label in labels]


def texts(labels) -> list[TextExample]:
    return [TextExample(str(number), "w", None, label) for number, label in enumerate(labels)]


def test_relations_leave_the_negative_class_out() -> None:
    gold = ["CPR:3", "CPR:3", "false", "false", "CPR:4", "false"]
    given = ["CPR:3", "CPR:4", "CPR:3", "false", "false", "false"]
    scores = KINDS["relation"].score(texts(gold), chosen(given))
    # tp 1; fp 2 (a wrong class counts on both sides); fn 2
    assert scores.metrics["precision"] == pytest.approx(100 / 3)
    assert scores.metrics["recall"] == pytest.approx(100 / 3)
    assert scores.metrics["f1"] == pytest.approx(100 / 3)
    assert scores.metrics["accuracy"] == pytest.approx(50)
    assert scores.counts == {"examples": 6, "positives": 3, "gold CPR:3": 2, "gold CPR:4": 1, "gold false": 3}


def test_a_binary_set_is_scored_on_class_1() -> None:
    scores = KINDS["relation"].score(texts(["1", "1", "0", "0"]), chosen("1010"))
    assert scores.metrics["f1"] == pytest.approx(50)
    nothing = KINDS["relation"].score(texts("00"), chosen("00"))
    assert nothing.metrics["f1"] == 0
    assert nothing.metrics["accuracy"] == 100


def test_classes_multilabels_numbers_by_hand() -> None:
    scores = KINDS["classification"].score(texts("aabc"), chosen("abbb"))
    assert scores.metrics == pytest.approx({"accuracy": 50, "macro_f1": 100 * (2 / 3 + 1 / 2 + 0) / 3})
    several = KINDS["multilabel"].score(texts([("a", "b"), ("c",)]), chosen([("a",), ("b", "c")]))
    assert several.metrics["f1"] == pytest.approx(100 * 4 / 6)
    assert several.metrics["macro_f1"] == pytest.approx(100 * (1 + 0 + 1) / 3)
    assert KINDS["multilabel"].score(texts([()]), chosen([()])).metrics["f1"] == 0
    numbers = KINDS["regression"].score(texts([0.0, 1.0, 2.0]), [1.0, 3.0, 2.0])
    assert numbers.metrics["pearson"] == pytest.approx(50)
    assert KINDS["regression"].score(texts([0.0, 1.0]), [2.0, 2.0]).metrics["pearson"] == 0


def asked(question_id: str, context: str, *golden: str) -> QuestionExample:
    return QuestionExample(f"{question_id}_{context}", question_id, "?", context, tuple((text, -1) for text in golden))


def test_bioasq_counted_by_hand() -> None:
    examples = [
        asked("a", "one", "Frogs", "toads"),
        asked("a", "two", "Frogs", "toads"),
        asked("b", "fever", "fever"),
        asked("c", "newts", "salamander"),
        asked("d", "none", "none"),
    ]
    predictions = [
        Answers([("old", 0.6), ("FROGS", 0.4)]),
        Answers([("mild", 0.5), ("frogs", 0.3), ("toads", 0.2)]),
        Answers([("fever", 1.0)]),
        Answers([("newts", 0.9), ("salamanders", 0.1)]),
        Answers([]),
    ]
    scores = KINDS["qa"].score(examples, predictions)
    # a: frogs 0.4 + 0.3 = 0.7 before old 0.6: right at once. b right. c wrong. d has no answer.
    assert scores.metrics["strict"] == pytest.approx(50)
    assert scores.metrics["lenient"] == pytest.approx(50)
    assert scores.metrics["mrr"] == pytest.approx(50)
    # As published: the best of each context, a: old, mild; so only b.
    assert scores.metrics["published_strict"] == scores.metrics["published_mrr"] == pytest.approx(25)
    assert scores.counts == {"questions": 4, "pairs": 5, "answerable": 2}
    assert [row["reciprocal_rank"] for row in scores.per_example] == [1, 1, 0, 0]


def test_squads_scores_by_hand() -> None:
    answers = ["The Old Frogs!", "old frogs", "a fever", "", "frogs frogs", "the"]
    golden = [["old frogs"], ["toads", "frogs"], ["newts"], ["fever"], ["frogs old frogs", "x"], ["an"]]
    # Exact: the first and the last. Words shared: 2 of 2 and 2; 1 of 2 and 1; none; none; 2 of 2 and 3; no word at all
    shared = [1, 2 / 3, 0, 0, 4 / 5, 1]
    assert compute("answers", answers, golden) == pytest.approx({"exact_match": 100 / 3, "f1": 100 * sum(shared) / 6})
    # Of several contexts, the most probable answer counts.
    examples = [asked("a", "one", "frogs"), asked("a", "two", "frogs"), asked("b", "newts", "toads")]
    found = [Answers([("old", 0.6)]), Answers([("the frogs", 0.7), ("old", 0.3)]), Answers([])]
    assert KINDS["qa"].score(examples, found).metrics.items() >= {("exact_match", 50.0), ("f1", 50.0)}


def test_relations_of_ones_own_may_call_no_relation_otherwise() -> None:
    gold, predicted = ["treats", "No_Relation", "NONE", "treats"], ["treats", "No_Relation", "treats", "none"]
    metrics = KINDS["relation"].score(texts(gold), chosen(predicted)).metrics
    assert metrics["precision"] == metrics["recall"] == metrics["f1"] == 50


def test_on_dev_an_answer_of_any_context_is_right_whatever_comes_first() -> None:
    pairs = [
        (asked("a", "one", "MC1R"), Answers([("melanocortin", 0.9)])),
        (asked("a", "two", "melanocortin"), Answers([("melanocortin", 0.8)])),
    ]
    for order in (pairs, pairs[::-1]):
        assert KINDS["qa"].score(*map(list, zip(*order, strict=True))).metrics["mrr"] == 100


def test_merging_adds_up_what_differs_in_case_alone() -> None:
    contexts = [Answers([("Old", 0.5), ("frogs", 0.3), ("x" * 101, 0.2)]), Answers([("Frogs", 0.4), ("OLD", 0.1)])]
    assert merge_answers(contexts) == ["Frogs", "Old"]  # 0.7 and 0.6; the spelling of the most probable
    many = [Answers([(str(number), 0.1) for number in range(10)])]
    assert merge_answers(many) == ["0", "1", "2", "3", "4"]


def evaluator(answers: list[str], golden: list[str]) -> tuple[int, int, Fraction]:
    """One factoid question as QuestionAnswerEvaluator.java walks it (…ForLists, version 5 and 8)."""

    def contains(response: str) -> bool:
        return any(synonym.lower() == response.lower() for synonym in golden)

    strict = int(bool(answers) and contains(answers[0]))
    lenient, reciprocal = 0, Fraction(0)
    for place, answer in enumerate(answers):
        if contains(answer):
            lenient, reciprocal = 1, Fraction(1, place + 1)
            break
    return strict, lenient, reciprocal


def test_factoid_against_the_evaluators_walk() -> None:
    chance = random.Random(5)
    pool = ["Frogs", "frogs", "toads", "Newts", "newts.", "fever"]
    answers = [chance.choices(pool, k=chance.randint(0, 5)) for _ in range(200)]
    golden = [chance.choices(pool, k=chance.randint(1, 3)) for _ in range(200)]
    rows = [evaluator(*pair) for pair in zip(answers, golden, strict=True)]
    expected = [100 * float(sum(row[column] for row in rows)) / 200 for column in range(3)]
    scores = compute("factoid", answers, golden)
    assert [scores["strict"], scores["lenient"], scores["mrr"]] == pytest.approx(expected)


def random_run(kind: str, chance: random.Random, n: int = 40):
    """Examples and predictions of some quality."""
    if kind == "ner":
        tags = ["O", "O", "B", "I"]
        gold = [" ".join(["B", *chance.choices(tags, k=6)]) for _ in range(n)]
        given = [row if chance.random() < 0.5 else " ".join(chance.choices(tags, k=7)) for row in gold]
        return [words(row) for row in gold], [tagged(row) for row in given]
    if kind == "qa":
        examples = [asked(f"q{number // 2}", "frogs", "frogs") for number in range(n)]
        return examples, [Answers([(chance.choice(["frogs", "toads"]), 0.6), ("frogs", 0.4)]) for _ in examples]
    if kind in ("regression", "similarity"):
        gold = [chance.uniform(0, 4) for _ in range(n)]
        return texts(gold), [value + chance.gauss(0, 1) for value in gold]
    if kind == "multilabel":
        pick = [tuple(sorted(chance.sample("abcd", k=chance.randint(1, 3)))) for _ in range(2 * n)]
        return texts(pick[:n]), chosen(pick[n:])
    classes = ["0", "1"] if kind == "relation" else ["a", "b", "c"]
    gold = chance.choices(classes, k=n)
    return texts(gold), chosen(label if chance.random() < 0.7 else chance.choice(classes) for label in gold)


PRIMARY = {"ner": "f1", "relation": "f1", "classification": "accuracy", "multilabel": "f1", "regression": "pearson"}
PRIMARY["similarity"] = "pearson"


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_counts_give_the_metric_of_any_resample(kind: str) -> None:
    chance = random.Random(11)
    examples, predictions = random_run(kind, chance)
    face, primary = KINDS[kind], PRIMARY.get(kind, "mrr")
    columns, metric_of_sums = FROM_COUNTS[primary]
    scores = face.score(examples, predictions)
    rows = np.array([[row[column] for column in columns] for row in scores.per_example])
    assert metric_of_sums(rows.sum(0)) == pytest.approx(scores.metrics[primary])
    stacked = np.stack([rows, rows[::-1]])
    assert metric_of_sums(stacked.sum(1)) == pytest.approx([scores.metrics[primary]] * 2)
    if kind != "qa":  # questions are resampled whole, and a drawn one would merge with its copy
        drawn = [chance.randrange(len(examples)) for _ in examples]
        again = face.score([examples[i] for i in drawn], [predictions[i] for i in drawn])
        assert metric_of_sums(rows[drawn].sum(0)) == pytest.approx(again.metrics[primary])
    assert len(scores.per_example) == (len(examples) // 2 if kind == "qa" else len(examples))
