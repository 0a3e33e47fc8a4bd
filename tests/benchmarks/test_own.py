"""Data of one's own: what is guessed, what is refused, how splits are held out. All texts are invented."""

import json
import re
from pathlib import Path

import datasets
import pandas
import pytest
from small_runs import make_ner_set

from compact_biomed.benchmarks import OWN_KINDS, examples
from compact_biomed.benchmarks.own import OwnData, own_task
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.readers.own_formats import FORMATS
from compact_biomed.benchmarks.readers.rows import hub_splits
from compact_biomed.benchmarks.recorded import files_fields, task_of_record
from compact_biomed.benchmarks.standoff.formats import read_documents, write_documents
from compact_biomed.benchmarks.tasks import TASKS, find, ner_task_from_folder
from compact_biomed.cli.data import OWN_FLAGS
from compact_biomed.errors import UsageError, UserError

TEXTS = ('a "mild" fever', "old frogs, and toads", "newts;\tand 3 more", "the fever of ünlü frogs", '"toads"')


def rows(n: int = 40, *, classes: int = 4, **more) -> list[dict]:
    """Distinct texts with quotes, commas, tabs and letters beyond ASCII."""
    return [
        {"id": f"e{i}", "text": f"{TEXTS[i % len(TEXTS)]} {i}", "label": f"class {i % classes}", **more}
        for i in range(n)
    ]


def write(path: Path, content: str | list[dict] | dict) -> Path:
    if isinstance(content, dict):
        path.write_text(json.dumps(content))
    elif isinstance(content, str):
        path.write_text(content)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return path


def labels_of(splits: examples.Splits) -> set:
    return {example.label for example in [*splits.train, *splits.dev, *splits.test]}


def test_every_way_to_write_a_table_gives_the_same_examples(tmp_path: Path) -> None:
    table = rows()
    frame = pandas.DataFrame(table)
    no_tabs = frame.assign(text=frame.text.str.replace("\t", " "))
    frame.to_csv(tmp_path / "a.csv", index=False)
    frame.to_csv(tmp_path / "b.csv.gz", index=False, sep=";")
    frame.to_parquet(tmp_path / "c.parquet")
    frame.to_json(tmp_path / "d.jsonl", orient="records", lines=True)
    frame.to_json(tmp_path / "e.json", orient="records")
    write(tmp_path / "f.json", {"data": table})
    no_tabs.to_csv(tmp_path / "g.tsv", index=False, sep="\t")
    classes = datasets.ClassLabel(names=sorted(set(frame.label)))
    coded = datasets.Dataset.from_pandas(frame).cast_column("label", classes)
    coded.to_parquet(tmp_path / "h.parquet")
    files = [path for path in sorted(tmp_path.iterdir()) if path.name != "g.tsv"]
    ways = [*files, table, {name: list(frame[name]) for name in frame}, frame, datasets.Dataset.from_list(table), coded]
    sums = {str(examples.examples_sha256(read(own_task(way), None))) for way in ways}
    assert len(ways) == 12 and len(sums) == 1
    tabs = examples.examples_sha256(read(own_task(tmp_path / "g.tsv"), None))
    assert tabs == examples.examples_sha256(read(own_task(no_tabs), None)) and str(tabs) not in sums
    pairs = list(zip(frame.text, frame.label, strict=True))
    plain = [pairs, (list(frame.text), list(frame.label)), (frame.text, frame.label), frame[["text", "label"]]]
    assert len({str(examples.examples_sha256(read(own_task(way), None))) for way in plain}) == 1


REVIEWS = [{"review": f"old frogs {i}", "stars": i % 5} for i in range(20)]
PAIRS = [{"premise": f"frogs {i}", "hypothesis": "toads", "label": "yes" if i % 2 else "no"} for i in range(20)]
NUMBERS = [{"sentence1": f"frogs {i}", "sentence2": "toads", "score": i / 7} for i in range(20)]
SEVERAL = [{"text": f"frogs {i}", "labels": [["a"], [], ["b", "a"]][i % 3]} for i in range(20)]
JOINED = [{"text": f"frogs {i}", "label": ["a", "", "b|a"][i % 3]} for i in range(20)]
FLAGS = [{"text": f"frogs {i}", "old": i % 2, "mild": int(i % 3 == 0)} for i in range(20)]
RELATIONS = [{"text": f"@GENE$ {i} or @CHEM$", "label": ["treats", "causes", "none"][i % 3]} for i in range(20)]
ASKED = [
    {"question": "who?", "context": f"the frogs {i}", "answers": {"text": ["frogs"], "answer_start": [4]}}
    for i in range(20)
]
NAMELESS = "".join(f"frogs number {i} @GENE$\t{i % 2}\n" for i in range(20))
SQUAD = {
    "data": [
        {
            "paragraphs": [
                {
                    "context": f"the frogs {i}",
                    "qas": [{"id": f"q{i}", "question": "who?", "answers": [{"text": "frogs", "answer_start": 4}]}],
                }
            ]
        }
        for i in range(20)
    ]
}
WORDS = "".join(f"frogs\tO\nold\tB-T{i % 16}\n{i}\tI-T{i % 16}\n\n" for i in range(64))
GUESSED = {
    "topics.jsonl": (rows(classes=20), "classification: 20 classes in column label, text in column text"),
    "stars.jsonl": (REVIEWS, "classification: 5 classes in column stars, text in column review"),
    "nli.jsonl": (PAIRS, "classification: 2 classes in column label, texts in columns premise and hypothesis"),
    "sts.jsonl": (NUMBERS, "regression: the number in column score, texts in columns sentence1 and sentence2"),
    "lists.jsonl": (SEVERAL, "multilabel: 2 labels in column labels, text in column text"),
    "flags.jsonl": (FLAGS, "multilabel: 2 labels, a column each, text in column text"),
    "ddi.jsonl": (RELATIONS, "relation: 3 classes (none: no relation) in column label, text in column text"),
    "hf.jsonl": (ASKED, "qa: questions and their answers in a context"),
    "squad.json": (SQUAD, "qa: questions in SQuAD's format"),
    "gad.tsv": (NAMELESS, "relation: 2 classes (0: no relation) in column 2, text in column 1"),
    "types.txt": (WORDS, "ner: 16 types (T0, T1, T10, T11, T12, ...) in 64 sentences (conll)"),
}


@pytest.mark.parametrize("name", GUESSED)
def test_what_the_data_are_is_guessed_and_said(name: str, tmp_path: Path, capsys) -> None:
    content, described = GUESSED[name]
    task = own_task(write(tmp_path / name, content))
    assert task.name == name.split(".")[0] and task.kind == described.split(":")[0] and task.reader == "own"
    assert capsys.readouterr().err == f"{task.name}: {described} (dev and test held out of train)\n"
    splits = read(task, None)
    assert all(splits.counts().values()) and splits.dev_of_train
    assert sum(splits.counts().values()) == (64 if task.kind == "ner" else 20 + 20 * (name == "topics.jsonl"))
    again = task_of_record({"name": task.name, "kind": task.kind, **files_fields(task)}, {}, where="m")
    assert again == task and read(again, None) == splits


def test_a_task_has_the_name_of_its_file_or_folder(tmp_path: Path) -> None:
    (tmp_path / "frogs").mkdir()
    names = {"topics-train.jsonl": "topics", "train_topics.jsonl": "topics", "a-train-b.jsonl": "a-b", "c.jsonl": "c"}
    for file, name in {**names, "frogs/train.jsonl": "frogs", "retrain.jsonl": "retrain"}.items():
        assert own_task(write(tmp_path / file, rows())).name == name


def test_a_table_without_a_header_loses_no_row(tmp_path: Path) -> None:
    """A first cell that occurs again in its column is no name, wherever the labels are."""
    text = "".join(f"{'ab'[i % 2]},frogs {i}\n" for i in range(40))
    assert sum(read(own_task(write(tmp_path / "first.csv", text)), None).counts().values()) == 40


def test_columns_of_other_names(tmp_path: Path) -> None:
    table = [{"note": f"frogs {i}", "other": f"toads {i}", "kind": "ab"[i % 2], "who": f"d{i // 2}"} for i in range(40)]
    path = write(tmp_path / "notes.jsonl", table)
    task = own_task(path, text_column="note", label_column="kind", document_column="who", task_name="My notes")
    splits = read(task, None)
    documents = [{int(e.text.split()[1]) // 2 for e in getattr(splits, part)} for part in ("train", "dev", "test")]
    assert (
        task.name == "My notes" and not set.intersection(*map(set, documents[:2])) and not documents[1] & documents[2]
    )
    assert "dev examples held out of train, by document, split seed 0" in splits.repairs
    pair = own_task(path, kind="pairs", text_column="note", pair_column="other", label_column="kind")
    assert {e.pair[:5] for e in read(pair, None).train} == {"toads"} and pair.kind == "classification"
    joined = own_task(write(tmp_path / "j.jsonl", JOINED), kind="multilabel")
    assert labels_of(read(joined, None)) == {("a",), (), ("a", "b")}
    spelled = [{"text": row["text"], "labels": str(row["labels"])} for row in SEVERAL]  # as pandas writes lists
    splits = read(own_task(write(tmp_path / "s.jsonl", spelled)), None)
    assert labels_of(splits) == {("a",), (), ("a", "b")}
    flags = own_task(write(tmp_path / "f.jsonl", FLAGS), label_column="old,mild")
    lacking = write(tmp_path / "lacking.jsonl", [{"text": "frogs", "old": 1}, {"text": "toads", "old": 0}])
    with pytest.raises(UserError, match=r"lacking\.jsonl: no column 'mild', which is a label in train"):
        read(own_task(flags.place, test=lacking), None)
    assert labels_of(read(flags, None)) == {("old",), ("mild",), ("mild", "old"), ()}


SPANS = [{"text": f"frogs {i}", "label": [[0, 5, "Animal"]]} for i in range(30)]
DOUBTS = [
    (JOINED, {}, "several labels with '|' between them, or one .*--kind multilabel or --kind classification"),
    (
        [{"text": f"frogs {i}", "label": i * 10} for i in range(30)],
        {},
        "30 numbers .*--kind regression or --kind class",
    ),
    ([{"text": f"frogs {i}", "label": f"toads {i}"} for i in range(30)], {}, "30 values in 30 rows: are these classes"),
    (
        [{"a": "frogs", "b": "toads", "c": "newts"}] * 9,
        {},
        "unclear which column has the text and the label, of a, b, c",
    ),
    (
        [{"text": f"frogs {i}", "score": "nan" if i == 3 else i / 7} for i in range(30)],
        {},
        ":4: column score has 29 numbers, and 'nan' .if these are classes, add",
    ),
    (SPANS, {"format": "jsonl"}, "column label holds spans of characters, not labels .name a file of JSON Lines"),
    (rows(), {"label_column": "none"}, "no column 'none' .there are id, text, label: --label-column"),
    (rows(), {"kind": "pairs"}, "a pair needs two columns of text.*--pair-column NAME"),
    (rows(), {"kind": "qa"}, "no column question among id, text, label"),
    (rows(), {"kind": "ner"}, "docs/own-data.md"),
    (rows(2), {}, "2 train examples are too few to hold out test and dev .add --test FILE and --dev FILE"),
    (SQUAD, {"kind": "ner"}, "is for --kind qa, not ner"),
    (
        "only words\nwithout tags\n",
        {},
        "in none of the formats csv, .*, hub .see docs/own-data.md, or name the format by --format",
    ),
    (WORDS, {"text_column": "a"}, "no names of columns"),
    ([{"text": "frogs", "label": "a"}] * 9, {}, "too few to hold out"),
    ([{"text": f"frogs {i}", "label": "a"} for i in range(9)], {}, "every label of train is a"),
    ([{"text": f"frogs {i}", "label": 2.5} for i in range(9)], {"kind": "regression"}, "every score of train is 2.5"),
    (NAMELESS, {"split_seed": 3}, "every label of test is 0 .--split-seed 4 draws others, or name a --test"),
]


@pytest.mark.parametrize("case", range(len(DOUBTS)))
def test_what_could_be_several_things_is_refused(case: int, tmp_path: Path) -> None:
    content, given, message = DOUBTS[case]
    ending = {str: "txt", dict: "json", list: "jsonl"}[type(content)]
    with pytest.raises(UserError, match=message):
        read(own_task(write(tmp_path / f"mine.{ending}", content), **given), None)


SCORES = {
    "word": ([0.5, 1.5, 2, "high", 0.5], ":4: column score has 16 numbers, and 'high' .if these are classes"),
    "nan": (["1", "2", "3", "1", "nan"], ":5: column score has 16 numbers, and 'nan'"),
    "huge": (["0.5", "1.5", "1e400"], ":3: column score has 8 numbers, and '1e400'"),
    "infinite": (["1.0", "-inf", "2.0"], ":2: column score has 8 numbers, and '-inf'"),
    "commas": (["0,5", "1,5", "2", "0,5"], ":1: column score has '0,5': a number with a decimal comma, or two labels"),
    "one comma": (["0.5", "1.5", "2,5"], ":3: column score has '2,5': a number with a decimal comma"),
    "stars": (["1", "2", "3", "none"], None),
    "ranges": (["0.5", "low", "high", "low"], None),
    "names": (["None", "1", "2"], None),
}


@pytest.mark.parametrize("name", SCORES)
def test_a_score_that_is_no_number_makes_no_classes(name: str, tmp_path: Path) -> None:
    scores, message = SCORES[name]
    table = [{"text": f"frogs {i}", "score": score} for i, score in enumerate(scores * 4)]
    path = write(tmp_path / "scores.jsonl", table)
    if message is None:
        assert own_task(path).kind == "classification"
        return
    with pytest.raises(UserError, match=rf"scores\.jsonl{message}"):
        own_task(path)
    assert own_task(path, kind="classification").kind == "classification"
    wrong = "write a decimal point" if "comma" in name else "write a number"
    with pytest.raises(UserError, match=f"not a number in column score: .*{wrong}"):
        read(own_task(path, kind="regression"), None)


def test_classes_that_look_like_tags_stay_classes(tmp_path: Path) -> None:
    classes = ("S", "I", "R"), ("O", "A", "B"), ("0", "1", "O"), ("e_coli", "s_aureus", "O")
    for number, names in enumerate(classes):
        lines = [f"frogs number {i}\t{names[i % 3]}" for i in range(40)]
        text = "\n".join(["text\tlabel", *lines[:20], "", *lines[20:]]) + "\n"
        assert own_task(write(tmp_path / f"{number}.tsv", text)).kind == "classification"


def test_a_column_set_of_other_contents_is_no_split(tmp_path: Path) -> None:
    areas = ["growth", "anatomy", "surgery"] * 20 + ["development", "testing"]
    table = [{"text": f"frogs {i}", "label": "ab"[i % 2], "subset": area} for i, area in enumerate(areas)]
    assert "split" not in dict(own_task(write(tmp_path / "areas.jsonl", table)).files.columns)


def test_empty_lines_between_the_rows_of_a_table_make_no_sentences(tmp_path: Path) -> None:
    text = "".join(f"frogs number {i}\t{['O', 'A', 'AB', 'B'][i % 4]}\n\n" for i in range(40))
    assert own_task(write(tmp_path / "types.tsv", text)).kind == "classification"
    numbers = "".join(f"frogs number {i}\t{i % 2}\n\n" for i in range(40))
    assert own_task(write(tmp_path / "numbers.tsv", numbers)).kind == "classification"


def test_a_test_set_alone_may_have_one_class_but_not_one_score() -> None:
    def alone(value: object, kind: str) -> examples.Splits:
        rows = [{"text": f"frogs {i}", "label": value} for i in range(9)]
        return read(own_task(test=rows, kind=kind, first="test"), None)

    assert len(alone("a", "classification").test) == 9
    with pytest.raises(UserError, match=r"every score of test is 2\.5"):
        alone(2.5, "regression")


BROKEN = {
    "columns.csv": ("text,label\nfrogs,a\nold, frogs,b\n", ":3: 3 columns, expected 2: text, label"),
    "quote.csv": ('text,label\n"frogs,a\nb', ":2: not CSV"),
    "again.csv": ("text,label\n" + "old frogs,a\n" * 9 + "text,label\nfrogs,b\n", ":11: the header again .remove"),
    "twin.csv": ("text,text\na,b\n", ":1: two columns are called 'text'"),
    "text.jsonl": ('{"text": "a", "label": "x"}\n{"text": 7, "label": "y"}\n', ":2: text is not text: '7'"),
    "label.jsonl": (
        '{"text": "a", "label": "x"}\n{"text": "b"}\n' + '{"text": "c", "label": "x"}\n' * 9,
        ":2: no class",
    ),
    "json.jsonl": ('{"text": "a", "label": "x"}\n{"text": \n', ":2: not JSON"),
    "list.jsonl": ('{"text": "a", "label": "x"}\n[1]\n', ":2: not an object with columns"),
    "number.csv": ("text,score\n" + "".join(f"frogs {i},{i}.5\n" for i in range(30)) + "toads,\n", ":32: not a number"),
    "flag.csv": ("text,a,b\n" + "".join(f"frogs {i},0,1\n" for i in range(30)) + "toads,2,1\n", "--label-column"),
    "answers.jsonl": (
        '{"question": "q", "context": "c", "answers": {"text": ["a"], "answer_start": []}}',
        "1 answers, 0",
    ),
    "yes.jsonl": (
        '{"question": "q", "context": "c", "answer": "yes"}\n' * 3,
        "none of 3 questions has an .*--kind pairs",
    ),
    "squad.json": ('{"data": [{"paragraphs": [{"qas": [{}]}]}]}', r"squad.json: data\[0\].paragraphs\[0\]: no context"),
    "null.json": ('{"data": [{"paragraphs": null}]}', r"null.json: data\[0\]: paragraphs is not a list: null"),
    "five.json": ('{"version": "1.1", "data": 5}', "five.json: data is not a list: 5"),
    "asked.json": (
        '{"data": [{"paragraphs": []}, {"paragraphs": [{"context": "x", "qas": [{"id": "a", "question": 3}]}]}]}',
        r"asked.json: data\[1\].paragraphs\[0\].qas\[0\]: question is not a text: 3",
    ),
    "article.json": ('{"data": [{"title": "a"}, {"paragraphs": []}]}', r"article.json: data\[0\]: no paragraphs"),
    "list.json": ('{"data": [{"paragraphs": [[]]}]}', r"list.json: data\[0\].paragraphs\[0\]: not an object: \[\]"),
    "typed.tsv": (WORDS + "old\tB_T1\nfrogs\tO\n", ":257: unknown tag 'B_T1' in column 2"),
    "bare.tsv": ("old\tO\nfrogs\tFrog\n\n" + WORDS, ":2: unknown tag 'Frog' in column 2"),
    "small.txt": ("old O\nfrogs b-frog\n\n" * 9 + "newts B-frog\n", ":2: unknown tag 'b-frog' in column 2"),
    "zero.tsv": ("old\t0\nand\t0\nfrogs\tB-Frog\n\n" * 9, ":1: unknown tag '0' in column 2"),
    "named.tsv": ("text\tlabel\n" + WORDS, ":1: unknown tag 'label' in column 2"),
    "untagged.tsv": ("frogs\tB\nand\n\n" * 9, ":2: 1 columns .separated by tabs., expected 2"),
    "no tab.tsv": ("old frogs\t1\n" * 9 + "newts 0\n", ":10: 1 columns, expected 2"),
    "bad.parquet": ("frogs", "bad.parquet: not Parquet"),
    "empty.csv": ("", "empty.csv"),
    "header.csv": ("text,label\n", "header.csv: no example"),
    "sheet.xlsx": ("PK", "sheet.xlsx: a spreadsheet .save it as CSV"),
    "folder": (None, "folder: no file train in this folder .it is empty"),
    "nowhere.csv": (None, "nowhere.csv: no such file .check the path of --train"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_line_is_named(name: str, tmp_path: Path) -> None:
    content, message = BROKEN[name]
    if content is not None:
        write(tmp_path / name, content)
    elif name == "folder":
        (tmp_path / name).mkdir()
    with pytest.raises(UserError, match=message):
        read(own_task(tmp_path / name), None)


def test_splits_depend_on_the_seed_and_keep_equal_texts_together(tmp_path: Path) -> None:
    table = [{"text": f"frogs {i // 2}", "label": "ab"[i % 2]} for i in range(200)]
    parts = [read(own_task(table, split_seed=seed), None) for seed in (0, 0, 1)]
    assert parts[0] == parts[1] and parts[0].test != parts[2].test
    for splits in parts:
        texts = [{example.text for example in getattr(splits, part)} for part in ("train", "dev", "test")]
        assert sum(map(len, texts)) == 100 == len(set.union(*texts))
        assert 10 <= len(texts[2]) <= 30 and sum(splits.counts().values()) == 200
    assert parts[2].repairs["test examples held out of train, by text, split seed 1"] == len(parts[2].test)
    three = [{"text": f"frogs {i}", "score": i + 0.5} for i in range(3)]  # the fewest that can be divided
    with pytest.raises(UserError, match=r"every score of train is 1\.5"):  # one in each part
        read(own_task(three), None)


def test_what_is_odd_is_counted(tmp_path: Path) -> None:
    train = [*rows(12), {"id": "e0", "text": "toads", "label": "class 1"}, {"id": "x", "text": " ", "label": "class 1"}]
    dev = [*rows(3), {"id": "y", "text": "newts", "label": "only here"}]
    test = [*rows(5)[3:], {"id": "z", "text": "newts", "label": "new"}]
    splits = read(own_task(train, dev, test), None)
    assert splits.counts() == {"train": 13, "dev": 4, "test": 3} and splits.train[-1].key == "e0#2"
    assert splits.repairs == {
        "train: examples without text, left out": 1,
        "train: examples with an id that an earlier one has, renamed": 1,
        "dev examples whose text is in train too": 3,
        "test examples whose text is in train or dev too": 3,
        "classes of dev that train lacks (only here)": 1,
        "test examples with a label that train and dev lack": 1,
    }


def test_squad_is_aligned_and_unanswerable_questions_are_counted(tmp_path: Path) -> None:
    def asked(name: str, *answers: tuple[str, int], **more) -> dict:
        given = [{"text": text, "answer_start": start} for text, start in answers]
        return {"id": name, "question": f" {name}? ", "answers": given, **more}

    questions = [
        asked("right", ("Frogs", 4), ("old", 0)),
        asked("case", ("frogs.", 4)),
        asked("moved", ("fever", 0)),
        asked("lost", ("newts", 0)),
        asked("none", is_impossible=True),
    ]
    path = write(
        tmp_path / "q.json", {"data": [{"paragraphs": [{"context": "old Frogs saw fever", "qas": questions}]}]}
    )
    splits = read(own_task(path, path, path, task_name="q"), None)
    assert [(e.key, e.answers) for e in splits.train] == [
        ("right", (("Frogs", 4), ("old", 0))),
        ("case", (("Frogs", 4),)),
        ("moved", (("fever", 14),)),
    ]
    assert splits.test[-1].answers == (("newts", -1),) and splits.train[0].question == "right?"
    assert splits.repairs["train: questions left out: no answer is in the context"] == 1
    assert splits.repairs["test: questions without an answer (SQuAD v2), left out: the model always answers"] == 1


RELATED = """\
{0}|t|Aspirin eases fever. Old frogs {0} rest.
{0}|a|Fever of frogs needs no Aspirin, but Ibuprofen.
{0}\t0\t7\tAspirin\tDrug 1\tD1
{0}\t14\t19\tfever\tSign\tS1
{0}\t{1}\t{2}\tFever\tSign\tS1
{0}\t{3}\t{4}\tAspirin\tDrug 1\tD1
{0}\t{5}\t{6}\tIbuprofen\tDrug 1\tD2
{0}\tEASES\tD2\tS1
{0}\tEASES\tD1\tD1

"""


def related(number: int) -> str:
    """Return a document of PubTator with an abstract that begins behind its title."""
    begin = len(f"Aspirin eases fever. Old frogs {number} rest.") + 1
    places = (begin, begin + 5, begin + 24, begin + 31, begin + 37, begin + 46)
    return RELATED.format(number, *places)


def test_documents_give_entities_and_relations(tmp_path: Path, capsys) -> None:
    path = write(tmp_path / "drugs.txt", "".join(related(number) for number in range(101, 131)))
    with pytest.raises(
        UserError, match=r"relations of 1 types .EASES. .say which to learn by --kind ner or --kind rel"
    ):
        own_task(path)
    splits = read(task := own_task(path, kind="relation"), None)
    assert "drugs: relation: EASES in 30 documents (pubtator) (dev and test" in capsys.readouterr().err
    examples_of_first = [e for e in [*splits.train, *splits.dev, *splits.test] if e.key.startswith("101/")]
    # Two concepts are related, and so all their mentions: of the three pairs in a sentence, one.
    assert [(e.text, e.label) for e in examples_of_first] == [
        ("@DRUG$ eases @SIGN$.", "no_relation"),
        ("@SIGN$ of frogs needs no @DRUG$, but Ibuprofen.", "no_relation"),
        ("@SIGN$ of frogs needs no Aspirin, but @DRUG$.", "EASES"),
    ]
    for split in ("train", "dev", "test"):
        assert {e.key.split("/")[0] for e in getattr(splits, split)}.isdisjoint(
            e.key.split("/")[0] for other in {"train", "dev", "test"} - {split} for e in getattr(splits, other)
        )
    capsys.readouterr()
    assert splits.repairs["train: relations between different sentences, left out"] == 30
    assert splits.repairs["train: relations without two different entities as arguments, and events, left out"] == 30
    words = read(own_task(path, kind="ner"), None)
    assert {tag for e in words.train for tag in e.tags} == {"O", "B-Drug_1", "B-Sign"}
    assert any("held out of train, by document" in repair for repair in words.repairs)
    # BRAT has the same text, and ids of mentions instead of concepts.
    brat = tmp_path / "brat"
    write_documents(read_documents(path), brat, "brat")
    assert [e.words for e in read(own_task(brat, kind="ner"), None).test] == [e.words for e in words.test]
    assert task_of_record({"name": "drugs", "kind": "relation", **files_fields(task)}, {}, where="m") == task


def test_a_column_may_name_the_split(tmp_path: Path, capsys) -> None:
    table = [{**row, "split": ["train", "Validation", "test"][n % 3]} for n, row in enumerate(rows(30))]
    pandas.DataFrame(table).to_csv(tmp_path / "topics.csv")  # with pandas' index, which has no name
    splits = read(task := own_task(tmp_path / "topics.csv"), None)
    assert "text in column text (train, dev and test)" in capsys.readouterr().err
    assert splits.counts() == {"train": 10, "dev": 10, "test": 10} and splits.test[0].key == "e2"
    no_dev = [row for row in table if row["split"] != "Validation"]
    assert read(own_task(no_dev), None).counts()["test"] == 10
    assert read(own_task(table, test=rows(8)), None).counts() == {"train": 10, "dev": 10, "test": 8}
    assert task_of_record({"name": "topics", "kind": task.kind, **files_fields(task)}, {}, where="m") == task
    assert read(own_task([{**row, "set": 1} for row in rows(30)], kind="classification"), None).counts()["train"] > 15


@pytest.mark.parametrize(
    ("cell", "what"),
    [("tst", ":8: split 'tst' .use train, dev or test, or rename"), (" ", ":8: no split .use train, dev or test")],
)
def test_a_row_without_a_split_is_named(tmp_path: Path, cell: str, what: str) -> None:
    """A typo in one row neither discards the splits of the others, nor leaves its row out."""
    table = [{**row, "split": ["train", "dev", "test"][n % 3]} for n, row in enumerate(rows(30))]
    table[6]["split"] = cell
    pandas.DataFrame(table).to_csv(tmp_path / "topics.csv", index=False)
    for given in ({"train": tmp_path / "topics.csv"}, {"test": tmp_path / "topics.csv", "first": "test"}):
        with pytest.raises(UserError, match=what):
            own_task(**given)
    always = [{**row, "split": cell if row["split"] == "test" else row["split"]} for row in table]
    with pytest.raises(UserError, match=r"train, row 2: (no split|split 'tst')"):
        own_task(always)
    one = [{**row, "split": "test"} for row in table]  # a part of a larger table
    assert read(own_task(test=one, first="test"), None).counts()["test"] == 30
    two = [{**row, "split": ["dev", "test"][n % 2]} for n, row in enumerate(rows(30))]
    assert read(own_task(test=two, first="test"), None).counts()["test"] == 15
    other = [{**row, "set": "train" if n == 3 else n} for n, row in enumerate(rows(30))]
    assert "split" not in dict(own_task(other).files.columns)


def test_tokens_and_tags_of_a_python_program(tmp_path: Path) -> None:
    names = ["O", "B-Toad", "I-Toad"]
    table = [{"tokens": ["old", f"frogs{i}"], "ner_tags": [0, 1 + i % 2]} for i in range(30)]
    feature = datasets.Features(
        {
            "tokens": datasets.Sequence(datasets.Value("string")),
            "ner_tags": datasets.Sequence(datasets.ClassLabel(names=names)),
        }
    )
    data = datasets.Dataset.from_list(table, features=feature)
    data.to_parquet(tmp_path / "toads.parquet")
    spelled = [{"tokens": row["tokens"], "ner_tags": [names[tag] for tag in row["ner_tags"]]} for row in table]
    lines = write(tmp_path / "toads.jsonl", spelled)
    ways = [data, tmp_path / "toads.parquet", spelled, lines, pandas.DataFrame(spelled)]
    sums = {str(examples.examples_sha256(read(own_task(way), None))) for way in ways}
    assert len(sums) == 1 and own_task(lines).kind == "ner"


def test_a_folder_and_the_hub(tmp_path: Path, monkeypatch) -> None:
    for name in ("train.csv", "validation.csv", "test.jsonl"):
        if name.endswith("csv"):
            pandas.DataFrame(rows(8)).to_csv(tmp_path / name, index=False)
        else:
            write(tmp_path / name, [{"sentence": row["text"], "label": row["label"]} for row in rows(6)])
    splits = read(task := own_task(tmp_path), None)
    assert splits.counts() == {"train": 8, "dev": 8, "test": 6} and task.name == tmp_path.name
    write(tmp_path / "dev.csv", "a")
    with pytest.raises(UserError, match=r"dev.csv and validation.csv could both be dev .name one by --dev"):
        own_task(tmp_path)
    hub = datasets.DatasetDict(
        {"train": datasets.Dataset.from_list(rows()), "test": datasets.Dataset.from_list(rows(8))}
    )
    monkeypatch.setattr(datasets, "load_dataset", lambda name, config, revision: hub)
    hub_splits.cache_clear()
    task = own_task("hub:frogs/toads")
    assert task.name == "frogs/toads" and read(task, None).counts()["test"] == 8
    assert task.files.recorded()["train"] == task.files.recorded()["test"] == "hub:frogs/toads"
    assert examples.examples_sha256(read(own_task(hub), None)) == examples.examples_sha256(read(task, None))


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (rows(), WORDS, r"test.conll: a file of this format .conll. is for ner, but this task is classification"),
        (rows(), SQUAD, r"test.json: a file of this format .squad. is for qa, but this task is classification"),
        (WORDS, rows(), r"test.jsonl: no columns tokens and ner_tags among id, text, label"),
        (WORDS, SQUAD, r"test.json: a file of this format .squad. is for qa, but this task is ner"),
        (SQUAD, rows(), r"test.jsonl: no column question among id, text, label"),
        (SQUAD, ASKED, None),
    ],
)
def test_a_test_file_of_another_kind_is_refused(tmp_path: Path, train, test, message: str | None) -> None:
    endings = {str: "conll", dict: "json", list: "jsonl"}
    places = [
        write(tmp_path / f"{name}.{endings[type(content)]}", content)
        for name, content in (("train", train), ("test", test))
    ]
    task = own_task(places[0], test=places[1])
    if message is None:
        assert read(task, None).counts()["test"] == 20
    else:
        with pytest.raises(UserError, match=message):
            read(task, None)


def test_benchmarks_and_data_of_ones_own_are_read_alike(tmp_path: Path) -> None:
    rows = "index\tsentence\tlabel\n" + "".join(f'{n}\t"@GENE$ {n}" or @CHEM$\tCPR:{3 + n % 2}\n' for n in (1, 2, 2))
    for name in ("train.tsv", "dev.tsv", "test.tsv"):
        write(tmp_path / name, rows)
    chemprot, own = read(TASKS["CHEMPROT"], tmp_path), read(task := own_task(tmp_path), None)
    assert examples.examples_sha256(chemprot) == examples.examples_sha256(own) and task.kind == "relation"
    assert [example.key for example in own.test] == ["1", "2", "2#2"]
    folder = make_ner_set(tmp_path / "fevers", n=9)
    before, task = ner_task_from_folder(folder), own_task(folder)
    words = [read(before, find(before)), read(task, find(task))]
    assert examples.examples_sha256(words[0]) == examples.examples_sha256(words[1])
    for part in ("name", "kind", "version", "metric", "max_length", "folds"):
        assert getattr(before, part) == getattr(task, part), part  # and so the same runs


def test_a_record_says_where_the_data_are(tmp_path: Path) -> None:
    path = write(tmp_path / "topics.jsonl", rows())
    task = own_task(path, split_seed=3, max_length=99)
    recorded = {"name": "topics", "kind": "classification", **files_fields(task)}
    assert task_of_record(recorded, {}, where="m") == task and task.max_length == 99
    path.unlink()
    with pytest.raises(UserError, match=r"m: its train data are no longer at .*topics.jsonl .*--train PATH"):
        task_of_record(recorded, {}, where="m")
    moved = task_of_record(recorded, {"train": write(tmp_path / "moved.jsonl", rows())}, where="m")
    assert moved.name == "topics" and read(moved, None).counts()["test"] > 1
    in_memory = {"name": "own data", "kind": "classification", **files_fields(own_task(rows()))}
    with pytest.raises(UserError, match="its train data were in memory"):
        task_of_record(in_memory, {}, where="m")
    with pytest.raises(UserError, match="--train"):
        task_of_record({"name": "frogs"}, {}, where="m")
    assert task_of_record({"name": "GAD"}, {}, where="m").name == "GAD"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"kind": "other"}, "no kind 'other'"),
        ({"max_length": 2}, "2 pieces .give at least 8"),
        ({"format": "xls"}, "no format 'xls'"),
        ({"train": None}, "no training data"),
        ({"text_column": "a", "label_column": "a"}, "--label-column: the same column 'a' as --text-column"),
    ],
)
def test_keywords_that_are_wrong_by_themselves(given: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        own_task(**{"train": rows(), **given})
    twins = pandas.DataFrame([["frogs", "a", "b"]], columns=["text", "label", "label"])
    for data, message in (
        (7, "cannot read examples from a int"),
        ({"text": 7}, "cannot read examples from a dict"),
        ((7, 8), "cannot read examples from a tuple"),
        (twins, "DataFrame: two columns are called 'label'"),
    ):
        with pytest.raises(UserError, match=message):
            own_task(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            (["frogs", "toads"], ["a"]),
            "columns of different lengths: 2 texts and 1 labels .hand over one value of each",
        ),
        ({"text": ["frogs"], "label": ["a", "b"]}, "columns of different lengths: 1 text and 2 label"),
        (([], []), "no example"),
        ([], "no example"),
        ({"text": "frogs", "label": "a"}, "cannot read examples from a dict"),
        ((["frogs"], 3), "cannot read examples from a tuple"),
    ],
)
def test_objects_that_are_no_examples(data: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        own_task(data)


def test_the_examples_of_the_page_are_read_as_it_says(tmp_path: Path, capsys) -> None:
    page = (Path(__file__).parents[2] / "docs" / "own-data.md").read_text(encoding="utf-8")
    kinds = {}
    for before, content in re.findall(
        r"([^\n]+(?:\n[^\n]+)*)\n\n```(?:csv|tsv|jsonl?|conll|pubtator)\n(.*?)```", page, re.S
    ):
        name = re.search(r"`(\w+\.\w+)`", before)[1]
        path = write(tmp_path / name, content)
        task = own_task(path, path, path)
        kinds[name] = task.kind
        assert read(task, None).counts()["test"] >= 1, name
    assert kinds == {
        "topics.csv": "classification",
        "nli.tsv": "classification",
        "symptoms.jsonl": "multilabel",
        "similar.csv": "regression",
        "effects.tsv": "relation",
        "questions.jsonl": "qa",
        "squad.json": "qa",
        "entities.conll": "ner",
        "entities.jsonl": "ner",
        "spans.jsonl": "ner",
        "prodigy.jsonl": "ner",
        "tasks.json": "ner",
        "corpus.pubtator": "ner",
        "bioc.json": "ner",
    }
    assert all(f"`{name}`" in page for name in (*FORMATS, *OWN_KINDS))


def test_flags_are_the_keywords() -> None:
    assert tuple(OwnData.__annotations__) == OWN_FLAGS


@pytest.mark.parametrize(
    ("lines", "kind", "form"),
    [
        (['{"text": "No.", "label": []}', '{"text": "A fever.", "label": [[2, 7, "D"]]}'], "ner", "doccano"),
        (['{"text": "No.", "spans": []}'], "ner", "prodigy"),
        (['{"text": "No.", "labels": []}', '{"text": "A fever.", "labels": ["a"]}'], "multilabel", "jsonl"),
    ],
)
def test_a_first_text_without_labels_decides_nothing(tmp_path: Path, lines, kind: str, form: str) -> None:
    task = own_task(write(tmp_path / "a.jsonl", "\n".join(lines)))
    assert (task.kind, task.files.format) == (kind, form)
