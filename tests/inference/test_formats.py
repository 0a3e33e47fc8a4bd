"""Reading: texts, lines and JSON Lines, and what is wrong with them in one line."""

import io
import sys

import pytest

from compact_biomed.errors import UserError
from compact_biomed.inference.formats import input_kind, requests


def test_a_text_keeps_its_characters(tmp_path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("β\r\nb\rc\n".encode())
    (request,) = [(r.name, r.read()) for r in requests(str(file), "text")]
    assert request == ("a.txt", "β\r\nb\rc\n")


def test_lines_and_objects(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": "x", "text": "one"}\n\n{"context": "two", "question": "what?"}\n')
    first, second = requests(str(file), input_kind(str(file)))
    assert (first.name, first.read(), first.question) == ("x", "one", None)
    assert (second.name, second.read(), second.question) == ("3", "two", "what?")
    file.write_text("one\n\ntwo")
    assert [(r.name, r.read()) for r in requests(str(file), "lines")] == [("1", "one"), ("3", "two")]


def test_standard_input_stays_open(monkeypatch) -> None:
    raw = io.BytesIO(b"a b")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(raw))
    assert [r.read() for r in requests("-", "text")] == ["a b"]
    assert not raw.closed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\nnot json\n', ":2: no JSON object"),
        (b'{"id": 4}\n', ':1: no "text"'),
        (b'{"text": "a", "question": 3}\n', ':1: no "text"'),
        (b'["text"]\n', ":1: no JSON object"),
        (b'{"text": ' + b"[" * 100_000, ":1: no JSON object"),
        (b'{"text": "half \\ud800 a pair"}', ':1: no "text"'),
        (b'{"text": "\xff"}\n', "not UTF-8"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path, content: bytes, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(content)
    with pytest.raises(UserError) as error:
        [r.read() for r in requests(str(file), "jsonl")]
    assert f"{file}" in str(error.value) and message in str(error.value)


@pytest.mark.parametrize("kind", ["text", "lines"])
def test_a_file_that_is_no_text_is_one_line(tmp_path, kind: str) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"frogs \xff\n")
    with pytest.raises(UserError, match=r"a\.bin: not UTF-8"):
        for request in requests(str(file), kind):
            request.read(100)  # by its consumer, as `predict` does it


def test_an_id_that_is_null_is_the_number_of_the_line(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": null, "text": "a"}\n{"id": 0, "text": "b"}\n')
    assert [request.name for request in requests(str(file), "jsonl")] == ["1", "0"]


def test_no_such_file() -> None:
    with pytest.raises(UserError, match="no such file"):
        list(requests("/no/such/file", "text"))
