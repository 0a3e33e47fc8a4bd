"""JSON lines and plain text: documents, and errors that name the line."""

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from compact_biomed.corpus.document import Document, read_jsonl, read_text
from compact_biomed.corpus.streams import BLOCK, read_lines
from compact_biomed.errors import UserError

Write = Callable[..., Path]


def test_jsonl_fields(write: Write) -> None:
    path = write(
        "a.jsonl.gz",
        '\ufeff{"pmid": 5, "version": 2, "year": 1999, "title": " T. ", "abstract": "A\\n b"}\n\n'
        '{"pmid": "6", "title": "T", "abstract": null, "journal": "J", "id": 3}\r\n'
        '{"text": "Only text."}',
    )
    assert list(read_jsonl(path)) == [
        Document("T.", "A b", 5, 2, 1999),
        Document("T", "", 6, 1),
        Document("", "Only text."),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{'title': 1}", "a.jsonl:2:2: not JSON"),
        ('["a"]', "a.jsonl:2: not a JSON object"),
        ('{"body": "x"}', "a.jsonl:2: no field title, abstract or text"),
        ('{"title": 3}', "a.jsonl:2: title is int"),
        ('{"text": "a", "abstract": "b"}', "a.jsonl:2: both"),
        ('{"text": "a", "pmid": "PMC1"}', "a.jsonl:2: pmid is 'PMC1'"),
        ('{"text": "a", "pmid": true}', "a.jsonl:2: pmid"),
        ('{"text": "a", "pmid": -4}', "a.jsonl:2: pmid"),
        ('{"text": "a", "pmid": 99999999999999999999}', "a.jsonl:2: pmid"),
        ('{"text": "a", "year": 70000}', "a.jsonl:2: year"),
        ("[" * 100_000, "a.jsonl:2.*not JSON"),
    ],
)
def test_a_bad_line_is_named(write: Write, line: str, message: str) -> None:
    path = write("a.jsonl", '{"text": "good"}\n' + line + "\n")
    with pytest.raises(UserError, match=message) as caught:
        list(read_jsonl(path))
    assert str(caught.value).startswith(f"{path}:2:")


def test_a_lone_surrogate_becomes_a_question_mark(write: Write) -> None:
    [document] = read_jsonl(write("a.jsonl", '{"text": "a \\ud83d b"}'))
    assert document.text == "a ? b"


def test_text_is_one_document_a_line(write: Write) -> None:
    path = write("a.txt", "One  document.\n\n \nTwo\tparts.\r\nlast")
    assert [document.text for document in read_text(path)] == ["One document.", "Two parts.", "last"]


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_not_utf8_names_line_and_byte(write: Write, name: str) -> None:
    path = write(name, "first\nsecond ü\nthird ".encode() + b"\xe4\n")
    with pytest.raises(UserError, match=r"a\.txt(\.gz)?:3: not UTF-8 \(0xe4 at byte 22\)"):
        list(read_text(path))


def test_lines_end_in_cr_where_a_file_has_no_lf(write: Write) -> None:
    assert list(read_lines(write("a.txt", "old\r\rfrogs\r"))) == [(1, "old"), (2, ""), (3, "frogs")]
    assert list(read_lines(write("a.txt", "old\rfrogs\n"))) == [(1, "old\rfrogs")]
    assert list(read_lines(write("a.txt", "old\rfrogs"), cr_ends=False)) == [(1, "old\rfrogs")]
    with pytest.raises(UserError, match=r"a\.txt:2: not UTF-8 \(0xe4 at byte 4\)"):
        list(read_lines(write("a.txt", b"old\r\xe4\r")))


def test_lines_across_blocks_and_members(write: Write) -> None:
    lines = [f"{number} " + "x" * (number * 997 % (2 * BLOCK)) for number in range(40)]
    content = "\n".join(lines).encode()
    cut = len(content) // 3
    packed = gzip.compress(content[:cut]) + gzip.compress(content[cut:])
    assert list(read_lines(write("a", packed))) == list(enumerate(lines, start=1))
