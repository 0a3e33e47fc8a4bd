"""errors.jsonl: cases by hand, and its lines add up to the false positives and negatives of the score."""

import json

import pytest
from analysis_inputs import SEVERAL, random_choices, random_tags

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.evaluation.analysis.errors import write_errors
from compact_biomed.evaluation.features import Answers, Choice, TaggedWords
from compact_biomed.evaluation.kinds import KINDS


def errors_of(kind: str, examples, predictions, labels=()) -> list[dict]:
    return list(KINDS[kind].errors(examples, predictions, labels))


@pytest.mark.parametrize(
    ("gold", "given", "expected"),
    [
        ("B-X I-X O", "B-X I-X O", []),
        ("B-X I-X O", "O O O", [("missed", "w0 w1", None)]),
        ("O O O", "O B-X O", [("spurious", None, "w1")]),
        ("B-X I-X O", "B-Y I-Y O", [("wrong type", "w0 w1", "w0 w1")]),
        ("B-X I-X O", "B-X O O", [("wrong boundary", "w0 w1", "w0")]),
        ("B-X I-X O", "O B-Y I-Y", [("wrong boundary and type", "w0 w1", "w1 w2")]),
        # One of the two predicted entities is paired, the other is spurious.
        ("B-X I-X I-X", "B-X O B-X", [("wrong boundary", "w0 w1 w2", "w0"), ("spurious", None, "w2")]),
        # The pair of one type comes first.
        ("B-X I-X O", "B-Y B-X I-X", [("spurious", None, "w0"), ("wrong boundary", "w0 w1", "w1 w2")]),
        ("B-X O B-X", "O I-X O", [("missed", "w0", None), ("missed", "w2", None)]),
    ],
)
def test_errors_of_entities_by_hand(gold: str, given: str, expected: list) -> None:
    tags = given.split()
    example = WordsExample("test/3", ("w0", "w1", "w2"), tuple(gold.split()))
    lines = errors_of("ner", [example], [TaggedWords(tags, tags, [1] * 3, 3, [0.5, 0.9, 0.7])])
    assert len(lines) == bool(expected)
    found = [
        (each["error"], *(each[side]["text"] if side in each else None for side in ("gold", "predicted")))
        for line in lines
        for each in line["errors"]
    ]
    assert sorted(map(str, found)) == sorted(map(str, expected))


def test_the_fields_of_a_sentence() -> None:
    example = WordsExample("test/3", ("mild", "fever", "of", "frogs"), ("B-X", "I-X", "O", "B-Y"))
    tags = ["O", "B-X", "O", "O"]
    (line,) = errors_of("ner", [example], [TaggedWords(tags, tags, [1] * 4, 3, [0.6, 0.87654, 0.9, 1.0])])
    assert line == {
        "example": "test/3",
        "text": "mild fever of frogs",
        "errors": [
            {
                "error": "wrong boundary",
                "gold": {"start": 0, "end": 10, "type": "X", "text": "mild fever"},
                "predicted": {"start": 5, "end": 10, "type": "X", "text": "fever", "score": 0.8765},
            },
            {
                "error": "missed",
                "gold": {"start": 14, "end": 19, "type": "Y", "text": "frogs"},
                "beyond_limit": True,
            },
        ],
    }


def test_errors_of_entities_add_up_to_the_score() -> None:
    examples, predictions = random_tags(6, 120)
    scores = KINDS["ner"].score(examples, predictions)
    lines = errors_of("ner", examples, predictions)
    by_key = {line["example"]: line["errors"] for line in lines}
    for example, row in zip(examples, scores.per_example, strict=True):
        errors = by_key.get(example.key, [])
        assert sum("predicted" in each for each in errors) == row["fp"]
        assert sum("gold" in each for each in errors) == row["fn"]
    for line in lines:
        for each in line["errors"]:
            for side in each.keys() & {"gold", "predicted"}:
                assert line["text"][each[side]["start"] : each[side]["end"]] == each[side]["text"]


def test_errors_of_classes_add_up_to_the_score() -> None:
    classes = ["a", "b", "c"]
    examples, predictions = random_choices(1, classes, 60)
    examples[0] = TextExample("t/0", "text 0", "its pair", "unknown to training")
    lines = errors_of("classification", examples, predictions, classes)
    scores = KINDS["classification"].score(examples, predictions)
    assert len(lines) == sum(1 - row["correct"] for row in scores.per_example)
    assert lines[0]["pair"] == "its pair" and lines[0]["probability_of_gold"] is None
    assert all(line["probability"] >= line["probability_of_gold"] for line in lines[1:])
    several, chosen = random_choices(2, SEVERAL, 60, several=True)
    rows = KINDS["multilabel"].score(several, chosen).per_example
    lines = errors_of("multilabel", several, chosen, SEVERAL)
    assert sum(len(line["spurious"]) for line in lines) == sum(row["fp"] for row in rows)
    assert sum(len(line["missed"]) for line in lines) == sum(row["fn"] for row in rows)
    assert all(p > 0.5 for line in lines for p in line["predicted"].values())
    assert all(p <= 0.5 for line in lines for p in line["missed"].values())


def test_numbers_and_questions() -> None:
    pairs = [TextExample(str(n), "one", "two", float(n)) for n in range(3)]
    lines = errors_of("regression", pairs, [0.1, 3.0, 1.5])
    assert [(line["example"], line["difference"]) for line in lines] == [("1", 2.0), ("2", -0.5), ("0", 0.1)]
    asked = [
        QuestionExample("q1_1", "q1", "What?", "A mild fever.", (("Fever", -1),)),
        QuestionExample("q1_2", "q1", "What?", "Old frogs.", (("Fever", -1),)),
        QuestionExample("q2_1", "q2", "Who?", "A frog.", (("toad", -1),)),
        QuestionExample("q3_1", "q3", "Who?", "A newt.", (("newt", -1),)),
    ]
    given = [Answers([("mild", 0.6), ("fever", 0.4)]), Answers([("frogs", 0.7)]), Answers([]), Answers([("newt", 1.0)])]
    first, second = errors_of("qa", asked, given)
    assert first == {
        **{"question_id": "q1", "question": "What?", "gold": ["Fever"], "rank": 3, "in_context": True},
        "answers": [{"text": text, "score": p} for text, p in (("frogs", 0.7), ("mild", 0.6), ("fever", 0.4))],
        "contexts": ["A mild fever.", "Old frogs."],
    }
    assert (second["answers"], second["rank"], second["in_context"]) == ([], 0, False)


def test_the_file_is_one_object_per_line(tmp_path) -> None:
    lines = errors_of("classification", [TextExample("1", "naïve\nfrogs", None, "a")], [Choice("b", (0.2, 0.8))], "ab")
    write_errors(tmp_path / "errors.jsonl", lines)
    (line,) = (tmp_path / "errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == lines[0] and "naïve" in line
