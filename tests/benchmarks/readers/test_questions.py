"""BioASQ files: pairs, golden answers, and answers at a wrong position."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from compact_biomed.benchmarks.readers import read, read_intermediate
from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.errors import UserError

Write = Callable[..., Path]
CONTEXT = "Old frogs have mild fever. Fever of Frogs."
A, B, C = "a" * 24, "b" * 24, "c" * 24


def squad(*pairs: dict) -> str:
    return json.dumps({"version": "BioASQ6b", "data": [{"title": "t", "paragraphs": list(pairs)}]})


def pair(key: str, *answers: tuple[str, int], context: str = CONTEXT, asked: str = "What?") -> dict:
    question = {"id": key, "question": f" {asked} "}
    if answers:
        question["answers"] = [{"text": text, "answer_start": start} for text, start in answers]
    return {"context": context, "qas": [question]}


def golden(**answers) -> str:
    questions = [{"id": key, "type": "factoid", "exact_answer": answer} for key, answer in answers.items()]
    return json.dumps({"questions": [*questions, {"id": "x", "type": "yesno", "exact_answer": "yes"}]})


@pytest.fixture
def folder(write: Write, tmp_path: Path) -> Path:
    many = [pair(f"{number:024x}_{part:03d}", ("frogs", 4)) for number in range(40) for part in (1, 2)]
    write("BioASQ-train-factoid-7b.json", squad(*many))
    write("BioASQ-test-factoid-7b.json", squad(pair(f"{A}_001"), pair(f"{A}_002"), pair(f"{B}_001")))
    write("7B_golden.json.gz", golden(**{A: [["frogs", "toads"], ["newts"]], B: ["fever"]}))
    return tmp_path


def test_contexts_of_a_question_share_its_id_and_its_golden_answers(folder: Path) -> None:
    splits = read(TASKS["BioASQ-7b"], folder)
    assert [example.question_id for example in splits.test] == [A, A, B]
    assert splits.test[0].answers == (("frogs", -1), ("toads", -1), ("newts", -1))
    assert splits.test[2].answers == (("fever", -1),)
    assert splits.test[0].question == "What?"
    assert not {example.question_id for example in splits.train} & {example.question_id for example in splits.dev}
    assert len(splits.train) + len(splits.dev) == 80


def test_batches_are_read_in_order(write: Write, folder: Path) -> None:
    write("BioASQ-train-factoid-4b-snippet.json", (folder / "BioASQ-train-factoid-7b.json").read_text())
    for number, key in ((1, A), (2, B)):
        write(f"BioASQ-test-factoid-4b-{number}.json", squad(pair(f"{key}_001")))
        write(f"4B{number}_golden.json", golden(**{key: [["frogs"]]}))
    assert [example.question_id for example in read(TASKS["BioASQ-4b"], folder).test] == [A, B]


@pytest.mark.parametrize(
    ("answer", "expected", "repairs"),
    [
        (("frogs", 4), ("frogs", 4), {}),
        (("Frogs", 4), ("frogs", 4), {"case": 1}),
        (("mild fever", 15), ("mild fever", 15), {}),
        (("have.", 10), ("have", 10), {"case": 1}),
        (("mild", 3), ("mild", 15), {"moved": 1}),
        (("newts", 4), None, {"left out": 1}),
        (("", 4), None, {"left out": 1}),
    ],
)
def test_answers_that_are_not_where_they_say(write: Write, folder: Path, answer, expected, repairs) -> None:
    known = json.loads((folder / "BioASQ-train-factoid-7b.json").read_text())["data"][0]["paragraphs"]
    write("BioASQ-train-factoid-7b.json", squad(*known, pair(f"{C}_001", answer)))
    splits = read(TASKS["BioASQ-7b"], folder)
    answers = [example.answers[0] for example in [*splits.train, *splits.dev] if example.question_id == C]
    assert answers == ([expected] if expected else [])
    for text, start in answers:
        assert CONTEXT[start : start + len(text)] == text
    assert len(splits.repairs) == len(repairs)
    for word, number in repairs.items():
        assert [count for what, count in splits.repairs.items() if word in what] == [number]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("7B_golden.json.gz", golden(**{A: [["frogs"]]}), f"{B}_001: no golden answer"),
        ("BioASQ-train-factoid-7b.json", squad(pair(f"{A}_001")), "without answers"),
        ("BioASQ-train-factoid-7b.json", "{\n}", "7b.json: no data"),
        ("BioASQ-test-factoid-7b.json", '{\n"data": [', ":2:10: not JSON"),
        (
            "BioASQ-test-factoid-7b.json",
            squad({"context": "x", "qas": [{"id": 7, "question": "?"}]}),
            "id is not a text: 7",
        ),
    ],
)
def test_a_broken_file_is_named(write: Write, folder: Path, name: str, content: str, message: str) -> None:
    write(name, content)
    with pytest.raises(UserError, match=message) as caught:
        read(TASKS["BioASQ-7b"], folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize(
    "answers",
    [
        [{"text": "frogs"}],
        [{"answer_start": 4}],
        [{"text": "frogs", "answer_start": "4"}],
        {"text": "frogs"},
        ["frogs"],
    ],
)
def test_answers_of_another_form_are_refused(write: Write, folder: Path, answers) -> None:
    wrong = {"context": CONTEXT, "qas": [{"id": "f" * 24 + "_001", "question": "?", "answers": answers}]}
    write("BioASQ-train-factoid-7b.json", squad(wrong))
    with pytest.raises(UserError, match=r"7b.json: data\[0\].paragraphs\[0\].qas\[0\]: answers without a text"):
        read(TASKS["BioASQ-7b"], folder)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"questions": ["x"]}',
        '{"questions": [{"type": "factoid", "exact_answer": ["x"]}]}',
        '{"questions": [{"id": "a", "type": "factoid", "exact_answer": [["x", 7]]}]}',
    ],
)
def test_golden_files_of_another_form_are_refused(write: Write, folder: Path, content: str) -> None:
    write("7B_golden.json.gz", content)
    with pytest.raises(UserError, match=r"7B_golden\.json\.gz"):
        read(TASKS["BioASQ-7b"], folder)


def test_a_blank_golden_answer_is_counted(write: Write, folder: Path) -> None:
    write("7B_golden.json.gz", golden(**{A: [[" "]], B: ["fever"]}))
    splits = read(TASKS["BioASQ-7b"], folder)
    assert splits.repairs == {"test questions whose golden answer is blank: always wrong": 1}
    assert [example.answers for example in splits.test] == [((" ", -1),)] * 2 + [(("fever", -1),)]


def test_a_negative_place_is_searched_for(write: Write, folder: Path) -> None:
    context = "Mild fever of old frogs"
    many = [pair(f"{number:024x}_001", ("frogs", -5), context=context) for number in range(40)]
    write("BioASQ-train-factoid-7b.json", squad(*many))
    splits = read(TASKS["BioASQ-7b"], folder)
    assert {example.answers for example in splits.train} == {(("frogs", 18),)}
    assert sum(splits.repairs.values()) == 40


# ---- what is trained on before: the other editions


def test_other_editions_without_any_question_of_dev_and_test(write: Write, folder: Path) -> None:
    splits = read(TASKS["BioASQ-7b"], folder)
    in_train, in_dev = splits.train[0], splits.dev[0]
    new = [f"{letter * 24}_001" for letter in "def"]
    write(
        "BioASQ-train-factoid-5b-snippet.json",
        squad(
            pair(in_train.key, ("frogs", 4), asked="Which?"),  # in train, with another context below
            pair(f"{in_train.question_id}_003", ("Old", 0), context="Old newts.", asked="Which?"),
            pair(f"{in_dev.question_id}_003", ("Old", 0), context="Old newts.", asked="Which?"),
            pair(f"{A}_009", ("Old", 0), context="Old newts.", asked="Which?"),  # by id a test question
            pair(new[0], ("Old", 0), context="Old newts.", asked="WHAT ?"),  # by its text a test question
            pair(new[1], ("Old", 0), context="Old newts.", asked="Who?"),
        ),
    )
    write("BioASQ-test-factoid-6b-1.json", squad(*(pair(key, asked="Where?") for key in (*new[1:], f"{A}_001"))))
    write("6B1_golden.json", golden(**{new[1][:24]: [["eve", "Frogs"]], new[2][:24]: [["toads"]], A: [["frogs"]]}))
    found = read_intermediate(TASKS["BioASQ-7b"], folder, splits)
    assert [(e.key, e.answers) for e in found] == [
        (f"{in_train.question_id}_003", (("Old", 0),)),
        (new[1], (("Old", 0),)),
        (new[1], (("frogs", 4),)),  # "eve" is a part of "fever"; no answer to the other question is in the context
    ]
    kept_out = {e.question_id for e in (*splits.dev, *splits.test)}
    assert not {e.question_id for e in found} & kept_out
    assert all(e.context[at : at + len(text)] == text for e in found for text, at in e.answers)


def test_nothing_to_train_on_before(folder: Path) -> None:
    splits = read(TASKS["BioASQ-7b"], folder)
    for task in (TASKS["BioASQ-7b"], TASKS["GAD"]):
        with pytest.raises(UserError, match=f"nothing to train on before {task.name}"):
            read_intermediate(task, folder, splits)
