"""What a model is scored on: its own test set, wherever it is now, or other data, read as its record says."""

import json
import re
from pathlib import Path

import pandas
import pytest

from compact_biomed.benchmarks import examples
from compact_biomed.benchmarks.own import own_task
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.recorded import files_fields, other_task
from compact_biomed.errors import UserError
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.inference.scored_on import SEEN, ScoredOn, scored_on

TEXTS = [{"note": f"old frogs {i}", "topic": "abc"[i % 3], "year": i} for i in range(30)]
PAIRS = [{"text_a": f"frogs {i}", "text_b": "toads", "label": ["yes", "no"][i % 2]} for i in range(12)]
NUMBERS = [{"sentence1": f"frogs {i}", "sentence2": "toads", "score": i / 7} for i in range(12)]
SEVERAL = [{"text": f"frogs {i}", "labels": ["a", "b;c"][i % 2]} for i in range(12)]
RELATIONS = [{"text": f"@GENE$ {i} or @CHEM$", "label": ["treats", "no_relation"][i % 2]} for i in range(12)]
WORDS = [{"tokens": ["old", f"frogs{i}"], "ner_tags": ["O", ["B-Frog", "B-Toad"][i % 2]]} for i in range(12)]
ASKED = [{"question": "who?", "context": f"the frogs {i}", "answers": "frogs"} for i in range(12)]


def trained_on(train: list[dict], **own) -> tuple[dict, list[str]]:
    """The part "task" of a record, and the labels of a model that was fine-tuned on these data."""
    task = own_task(train, train, train, **own)
    return of_task(task), KINDS[task.kind].labels(read(task, None))


def of_task(task) -> dict:
    splits = read(task, None)
    sums = {"examples": splits.counts(), "data_sha256": examples.examples_sha256(splits)}
    return {"name": task.name, "kind": task.kind, "fold": None, "metric": task.metric, **sums, **files_fields(task)}


def benchmark(name: str, kind: str) -> dict:
    unknown = dict.fromkeys(("train", "dev", "test"), "0")
    return {"name": name, "kind": kind, "fold": None, "metric": "f1", "examples": {}, "data_sha256": unknown}


def other(recorded: dict, labels: list[str], **own) -> ScoredOn:
    return scored_on(recorded, labels, data=Path("/nowhere"), ner_dir=None, own=own, where="kept")


def renamed(table: list[dict], **names: str) -> list[dict]:
    return [{names.get(name, name): value for name, value in row.items()} for row in table]


def changed(table: list[dict], column: str, old: object, new: object) -> list[dict]:
    return [{**row, column: new if row[column] == old else row[column]} for row in table]


TOPICS = trained_on(TEXTS, text_column="note", label_column="topic", kind="classification", task_name="topics")
NEGATIVE = changed(RELATIONS, "label", "no_relation", "none")
NEWTS = changed(WORDS, "ner_tags", ["O", "B-Toad"], ["B-Newt", "O"])
FROGS, BARE = WORDS[::2], changed(WORDS[::2], "ner_tags", ["O", "B-Frog"], ["O", "B"])
CASES = {
    # name: (record and labels, other data, notes)
    "columns of the record": (TOPICS, TEXTS[:9], []),
    "other columns": (TOPICS, renamed(TEXTS[:9], note="text", topic="label", year="id"), []),
    "one other column": (TOPICS, renamed(TEXTS[:9], topic="label"), []),
    "one class": (TOPICS, [row for row in TEXTS if row["topic"] == "a"], ["do not occur here, .*: b, c"]),
    "a new class": (TOPICS, changed(TEXTS, "topic", "b", "d"), [r"always wrong: d \(10 of 30\)", "here.*: b$"]),
    "pairs": (trained_on(PAIRS), renamed(PAIRS[:5], text_a="premise", text_b="hypothesis"), []),
    "numbers": (trained_on(NUMBERS), NUMBERS[:5], []),
    "several": (trained_on(SEVERAL, kind="multilabel"), changed(SEVERAL, "labels", "a", "c;d"), ["d .6 of 24", ": a$"]),
    "relations": (trained_on(RELATIONS), NEGATIVE, ["no relation is no_relation for the model, here none"]),
    "entities": (trained_on(WORDS), NEWTS, ["Newt .6 of 12", "Toad$"]),
    "untyped data": (trained_on(FROGS), BARE, ["only type.*Frog"]),
    "an untyped model": ((benchmark("s800", "ner"), ["B", "I", "O"]), WORDS, ["knows none: Frog, Toad"]),
    "questions": (trained_on(ASKED), ASKED[:3], []),
    "of a benchmark": ((benchmark("GAD", "relation"), ["0", "1"]), changed(NEGATIVE, "label", "treats", "1"), ["is 0"]),
    "pairs of a benchmark": ((benchmark("PubMedQA", "classification"), ["yes", "no"]), PAIRS, []),
}


@pytest.mark.parametrize("name", CASES)
def test_other_data_are_read_as_the_record_says(name: str, tmp_path: Path) -> None:
    (recorded, labels), table, notes = CASES[name]
    path = tmp_path / "clinic.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in table))
    if name == "columns of the record":
        table = pandas.DataFrame(table)
    found = other(recorded, labels, test=path if "questions" not in name else table)
    assert found.other and len(found.examples) == len(table) and found.task["kind"] == recorded["kind"]
    assert found.task["name"] == ("other data" if "questions" in name else "clinic") and found.task["metric"]
    said = [note for note in found.notes if SEEN not in note]
    assert len(said) == len(notes) and all(map(re.search, notes, said)), found.notes
    # Only what it is on on is another; and so it is another record.
    before = recorded["data_sha256"]
    assert {part for part, sha in found.task["data_sha256"].items() if sha != before[part]} == {"test"}
    assert found.key == {"task": found.task["name"], "test": found.task["data_sha256"]["test"]}


@pytest.mark.parametrize(
    ("record", "table", "message"),
    [
        (TOPICS, renamed(PAIRS), "pairs of texts, but the model was fine-tuned on topics, a task of single texts"),
        (
            trained_on(PAIRS),
            renamed(TEXTS, note="text", topic="label"),
            "one text per example, but .* of pairs of texts",
        ),
        (TOPICS, [{**row, "topic": "x"} for row in TEXTS], r"none of the classes here \(x\) .* model's \(a, b, c\)"),
        (trained_on(WORDS), BARE, r"without types, but the model has several \(Frog, Toad\)"),
        (TOPICS, [{"a": "frogs", "b": "toads", "c": "newts"}], "unclear which column has the text and the label"),
        (TOPICS, [], "no example"),
        (trained_on(WORDS), TEXTS, "no columns tokens and ner_tags"),
        (TOPICS, {"data": [{"paragraphs": []}]}, r"data for qa \(squad\), but .* a task of classification"),
    ],
)
def test_data_that_the_model_cannot_be_scored_on(record, table, message: str, tmp_path: Path) -> None:
    if isinstance(table, dict):
        (tmp_path / "a.json").write_text(json.dumps(table))
    with pytest.raises(UserError, match=message):
        other(*record, test=tmp_path / "a.json" if isinstance(table, dict) else table)


def test_its_own_test_set_keeps_its_name_wherever_it_is(tmp_path: Path) -> None:
    for split, table in (("train", TEXTS[:20]), ("dev", TEXTS[20:24]), ("test", TEXTS[24:])):
        pandas.DataFrame(table).to_csv(tmp_path / f"{split}.csv", index=False)
    columns = {"text_column": "note", "label_column": "topic", "kind": "classification"}
    recorded = of_task(own_task(tmp_path, **columns, task_name="topics"))
    moved = (tmp_path / "test.csv").rename(tmp_path / "moved.csv")
    found = other(recorded, ["a", "b", "c"], test=moved)
    assert not found.other and found.task == recorded and found.key == {} and found.notes == ()
    named = other(recorded, ["a", "b", "c"], test=moved, task_name="frogs")
    assert named.task == {**recorded, "name": "frogs"} and named.key == {"task": "frogs"}
    # Another file of the same name gets its folder's name too; what it has of train is told.
    clinic = tmp_path / "b" / "topics.csv"
    clinic.parent.mkdir()
    pandas.DataFrame(TEXTS[18:]).to_csv(clinic, index=False)
    moved.rename(tmp_path / "test.csv")
    found = other(recorded, ["a", "b", "c"], test=clinic)
    assert found.other and found.task["name"] == "b/topics" and found.task["repairs"][SEEN] == 6
    assert other(recorded, ["a", "b", "c"], test=clinic, task_name="topics").task["name"] == "topics"
    with pytest.raises(UserError, match=r"not those of its record .*to score it on other data.*--test alone"):
        other(recorded, ["a", "b", "c"], train=clinic)
    pandas.DataFrame(TEXTS).rename(columns={"note": "text"}).to_csv(tmp_path / "renamed.csv")
    with pytest.raises(UserError, match=r"no column 'note' .*to score it on other data.*--test alone"):
        other(recorded, ["a", "b", "c"], train=tmp_path / "renamed.csv")
    # A folder and a column that names the split: their test examples alone.
    assert len(other(recorded, ["a", "b", "c"], test=tmp_path).examples) == 6
    split = [{**row, "split": "test" if number < 5 else "train"} for number, row in enumerate(TEXTS)]
    assert len(other(recorded, ["a", "b", "c"], test=split).examples) == 5
    with pytest.raises(UserError, match="no file test in this folder"):
        other(recorded, ["a", "b", "c"], test=clinic.parent)


def test_new_training_data_are_read_by_the_columns_of_the_teacher(tmp_path: Path, capsys) -> None:
    table = [{"text": "what the nurse wrote", "label": f"{i}", **row} for i, row in enumerate(TEXTS)]
    pandas.DataFrame(table).to_csv(tmp_path / "new.csv", index=False)
    task = other_task(TOPICS[0], {"train": tmp_path / "new.csv"}, split="train")
    assert "classification: 3 classes in column topic, text in column note" in capsys.readouterr().err
    assert task.name == "new" and not task.test_alone and len(read(task, None).train) > 15
    again = other_task(TOPICS[0], {"train": tmp_path / "new.csv", "label_column": "text"}, split="train")
    assert dict(again.files.columns)["label"] == "text"
