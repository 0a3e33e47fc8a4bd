"""Unlabeled text: what is read, what is left out, what is refused."""

from pathlib import Path

import pytest

from compact_biomed.benchmarks.examples import QuestionExample, TextExample, WordsExample
from compact_biomed.compression.distillation.text import Text, UnlabeledText, as_examples, clear_of, read_texts
from compact_biomed.errors import UserError


def written(folder: Path, name: str, content: str) -> Path:
    (folder / name).write_text(content, encoding="utf-8")
    return folder / name


def read(path: Path, *, pairs: bool = False, questions: bool = False) -> list[Text]:
    return read_texts(path, pairs=pairs, questions=questions)


def test_lines_and_json_lines(tmp_path: Path) -> None:
    assert read(written(tmp_path, "a.txt", "  old frogs \n\n{no json}\r\n")) == [Text("old frogs"), Text("{no json}")]
    lines = '{"text": "old frogs", "id": 3}\n\n{"text": "x", "pair": "y", "question": "z ?"}\n'
    assert read(written(tmp_path, "a.jsonl", lines)) == [Text("old frogs"), Text("x", "y", "z ?")]


@pytest.mark.parametrize(
    ("name", "content", "options", "said"),
    [
        ("a.jsonl", '{"text": "x"}\n{', {}, "a.jsonl:2: not JSON"),
        ("a.jsonl", '{"title": "x"}', {}, 'a.jsonl:1: no "text"'),
        ("a.jsonl", '["x"]', {}, 'a.jsonl:1: no "text"'),
        ("a.jsonl", '{"text": "x", "pair": 3}', {}, '"pair" is not a string'),
        ("a.txt", "\n \n", {}, "no text in this file"),
        ("a.txt", "old frogs\n", {"pairs": True}, 'text 1 has no "pair"'),
        ("a.jsonl", '{"text": "x"}', {"questions": True}, 'has no "question"'),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, content: str, options: dict, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(written(tmp_path, name, content), **options)


def test_texts_of_the_test_set_are_left_out() -> None:
    known = [
        WordsExample("t/0", ("Old", "frogs", ",", "mild"), ("O",) * 4),
        QuestionExample("q", "q", "which frogs ?", "the old frogs", ()),
    ]
    texts = [Text("old frogs, mild."), Text("old frogs"), Text("the old frogs", question="which frogs?")]
    assert clear_of(texts, known) == [Text("old frogs")]


def test_words_are_those_of_the_tokenizer() -> None:
    (example,) = as_examples([Text("old frogs, (IL-2) naïve"), Text(" ")], "ner")
    assert example.words == ("old", "frogs", ",", "(", "IL", "-", "2", ")", "naïve")
    assert example.tags == ("O",) * 9


def test_other_kinds() -> None:
    texts = [Text("x", "y", "z ?")]
    assert as_examples(texts, "qa") == [QuestionExample("unlabelled/0", "unlabelled/0", "z ?", "x", ())]
    assert as_examples(texts, "regression") == [TextExample("unlabelled/0", "x", "y", 0.0)]
    assert as_examples(texts, "multilabel")[0].label == ()


def test_the_checksum_is_of_all_that_is_read() -> None:
    example = WordsExample("t/0", ("frogs",), ("O",))
    sums = {UnlabeledText(texts, 0, rest).sha256() for texts in ([], [Text("x")]) for rest in ([], [example])}
    assert len(sums) == 4 and len(UnlabeledText([Text("x")], 2, [example])) == 2
