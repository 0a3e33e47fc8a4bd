"""Entity files: accepted layouts and rejected lines."""

from collections.abc import Callable
from pathlib import Path

import pytest

from compact_biomed.benchmarks.examples import DEV_SHARE
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.standoff.columns import read_columns
from compact_biomed.benchmarks.tasks import find, ner_task_from_folder
from compact_biomed.errors import UserError

Write = Callable[..., Path]
PLAIN = "Mild\tB\nfever\tI\nof\tO\n\nold\tO\nfrogs\tB\n"
EXPECTED = [(("Mild", "fever", "of"), ("B", "I", "O")), (("old", "frogs"), ("O", "B"))]


def sentences(path: Path) -> list:
    return [(example.words, example.tags) for example in read_columns(path, "test", {}).examples]


@pytest.mark.parametrize(
    "content",
    [
        PLAIN,
        PLAIN.rstrip("\n"),
        PLAIN + "\n\n\n",
        PLAIN.replace("\n", "\r\n"),
        PLAIN.replace("\n", "\r"),
        "\ufeff" + PLAIN,
        "-DOCSTART-\tO\n\n" + PLAIN,
        "-DOCSTART- -X- -X- O\n\n" + PLAIN.replace("\t", " "),
        PLAIN.replace("\t", "   "),
        PLAIN.replace("\t", "\tNN\t-\t"),
        PLAIN.replace("\t", " NN NP "),
        PLAIN.replace("of\tO\n\n", "of\tO\n \t\n"),
        "\n" + PLAIN,
    ],
)
def test_every_layout_gives_the_same_sentences(write: Write, content: str) -> None:
    assert sentences(write("test.tsv", content)) == EXPECTED
    assert sentences(write("test.tsv.gz", content)) == EXPECTED


def test_words_that_trip_csv_readers_are_words(write: Write) -> None:
    words = ['"', "null", "None", "NA", "'", "#", ",", "1,5", "NaN"]
    path = write("test.tsv", "".join(f"{word}\tO\n" for word in words))
    assert sentences(path) == [(tuple(words), ("O",) * len(words))]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("frogs\tO\nold\n", ":2: 1 columns"),
        ("frogs\n", ":1: 1 columns"),
        ("frogs\tO\nold\tNN\tO\n", ":2: 3 columns .*expected 2"),
        ("frogs\tO\n\tO\n", ":2: no word"),
        ("frogs\tO\n\u00a0\tO\n", ":2: no word"),
        ("frogs\tO\nold\t\n", ":2: unknown tag ''"),
        ("frogs\tO\nold frogs O\n", ":2: 1 columns"),
        ("frogs\tO\nold\tX\n", ":2: unknown tag 'X'"),
        ("frogs\tO\nold\tb\n", ":2: unknown tag 'b'"),
        ("frogs\tB\nold\tB-Age\n", ":2: bare and typed"),
        ("frogs\tS\nold\tB\nmild\tO\n", ":2: mixed schemes"),
        ("\n\n", "no sentence"),
        ("", "empty"),
        (b"frogs\tO\n\xff\tO\n", ":2: not UTF-8"),
    ],
)
def test_a_broken_line_is_named(write: Write, content: str | bytes, message: str) -> None:
    path = write("test.tsv", content)
    with pytest.raises(UserError, match=message) as caught:
        sentences(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_a_folder_is_a_task_and_repairs_are_counted(write: Write, tmp_path: Path) -> None:
    write("frogs/train.conll", PLAIN * 2 + "\nfrogs\tB\nold\tO\n\nold\tO\nmild\tI\n")
    write("frogs/dev.txt.gz", PLAIN)
    write("frogs/test.bio", PLAIN)
    task = ner_task_from_folder(tmp_path / "frogs")
    splits = read(task, find(task))
    assert (task.name, task.kind) == ("frogs", "ner")
    assert splits.counts() == {"train": 5, "dev": 2, "test": 2}
    assert splits.train[-1].tags == ("O", "B")
    assert splits.repairs == {"train: entities that began with I": 1}
    assert [example.key for example in splits.test] == ["test/0", "test/1"]


def test_without_dev_a_tenth_of_train_is_held_out_the_same_everywhere(write: Write, tmp_path: Path) -> None:
    write("set/train.tsv", "".join(f"w{number}\tB\n\n" for number in range(2000)))
    write("set/test.tsv", PLAIN)
    task = ner_task_from_folder(tmp_path / "set")
    splits = read(task, find(task))
    assert len(splits.train) + len(splits.dev) == 2000
    assert abs(len(splits.dev) / 2000 - DEV_SHARE) < 0.03
    assert not {example.key for example in splits.train} & {example.key for example in splits.dev}
    assert [example.key for example in splits.dev[:2]] == ["train/4", "train/15"]


def set_of(write: Write, train: str, test: str, **more: str):
    for name, content in {"train.tsv": train, "test.tsv": test, "devel.tsv": train, **more}.items():
        write(f"set/{name}", content)


def test_a_type_that_train_lacks_is_counted(write: Write, tmp_path: Path) -> None:
    typed = PLAIN.replace("B", "B-Toad").replace("I", "I-Toad")
    set_of(write, typed, typed.replace("Toad", "Newt"))
    task = ner_task_from_folder(tmp_path / "set")
    assert read(task, find(task)).repairs == {"test examples with a label that train and dev lack": 2}


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            PLAIN.replace("B", "B-Toad").replace("I", "I-Toad"),
            PLAIN,
            "train names types of entities",
        ),
        (PLAIN, PLAIN.replace("B", "O").replace("I", "O"), "no entity in test: every tag is O"),
    ],
)
def test_a_test_set_that_nothing_can_answer_is_refused(write: Write, tmp_path: Path, train, test, message) -> None:
    set_of(write, train, test)
    task = ner_task_from_folder(tmp_path / "set")
    with pytest.raises(UserError, match=message):
        read(task, find(task))


def test_two_files_of_one_split_are_not_chosen_between(write: Write, tmp_path: Path) -> None:
    set_of(write, PLAIN, PLAIN, **{"test.txt": PLAIN})
    task = ner_task_from_folder(tmp_path / "set")
    with pytest.raises(UserError, match=r"both test\.tsv and test\.txt exist"):
        read(task, find(task))


def test_too_little_to_hold_dev_out_of(write: Write, tmp_path: Path) -> None:
    write("set/train.tsv", PLAIN)
    write("set/test.tsv", PLAIN)
    task = ner_task_from_folder(tmp_path / "set")
    with pytest.raises(UserError, match="there is no devel file"):
        read(task, find(task))


def test_a_missing_file_is_named_with_what_was_looked_for(write: Write, tmp_path: Path) -> None:
    write("set/train.tsv", PLAIN)
    task = ner_task_from_folder(tmp_path / "set")
    with pytest.raises(UserError, match=r"test\.tsv"):
        read(task, find(task))
