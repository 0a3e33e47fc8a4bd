"""Reading: texts, lines and JSON Lines, and what is wrong with them in one line."""

import gzip
import io
import json
import sys

import pytest

from compact_biomed.errors import UserError
from compact_biomed.inference.documents import input_kind, requests
from compact_biomed.inference.formats import brat_lines, entity_lines, label_line
from compact_biomed.inference.ranking import Label
from compact_biomed.inference.words import Word


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
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a \xff")))
    with pytest.raises(UserError, match=r"-: not UTF-8 \(0xff\)"):
        [r.read() for r in requests("-", "text")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"text": "a"}\nnot json\n', ":2: no JSON object"),
        (b'{"id": 4}\n', ':1: no "text"'),
        (b'{"text": "a", "question": 3}\n', ':1: no "text"'),
        (b'["text"]\n', ":1: no JSON object"),
        (b'{"text": ' + b"[" * 100_000, ":1: no JSON object"),
        (b'{"text": "half \\ud800 a pair"}', ':1: no "text"'),
        (b'{"text": "a"}\n{"text": "\xff"}\n', ":2: not UTF-8 (0xff at byte 24)"),
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
    file.write_bytes(b"old\nfrogs \xff\n")
    with pytest.raises(UserError, match=r"a\.bin:2: not UTF-8 \(0xff at byte 10\) .convert it: iconv"):
        for request in requests(str(file), kind):
            request.read(100)  # by its consumer, as `predict` does it


def test_an_id_that_is_null_is_the_number_of_the_line(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": null, "text": "a"}\n{"id": 0, "text": "b"}\n')
    assert [request.name for request in requests(str(file), "jsonl")] == ["1", "0"]


def test_documents_with_the_same_id_differ_by_their_line(tmp_path) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text('{"id": "x", "text": "a"}\n\n{"id": "x", "text": "b"}\n')
    first, second = requests(str(file), "jsonl")
    assert [(request.name, request.line) for request in (first, second)] == [("x", 1), ("x", 3)]
    lines = [json.loads(label_line(request, [Label("yes", 1.0)])) for request in (first, second)]
    lines += [json.loads(next(entity_lines("x", [Word(0, 1, "B-A", 1.0, "", "a")], number))) for number in (1, 3)]
    assert [(line["document"], line["line"]) for line in lines] == [("x", 1), ("x", 3)] * 2
    assert "line" not in json.loads(next(entity_lines("a.txt", [Word(0, 1, "B-A", 1.0, "", "a")])))


def test_no_such_file_and_a_folder(tmp_path) -> None:
    with pytest.raises(UserError, match="no such file"):
        list(requests("/no/such/file", "text"))
    with pytest.raises(UserError, match="a folder, not a file"):
        list(requests(str(tmp_path), "text"))
    with pytest.raises(UserError, match="no pubtator from standard input"):
        list(requests("-", "pubtator"))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        *((f"a{ending}", "jsonl") for ending in (".jsonl", ".json", ".ndjson", ".jsonl.gz", ".JSON.gz")),
        *((f"a{ending}", "text") for ending in (".txt", ".txt.gz", ".report", "")),
        ("topics.csv", "csv"),
        ("topics.TSV.gz", "tsv"),
        ("topics.parquet", "parquet"),
        *((f"a{ending}", "pubtator") for ending in (".pubtator", ".PubTator.gz")),
    ],
)
def test_the_name_says_what_a_file_holds(name: str, kind: str) -> None:
    assert input_kind(name) == kind


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path, monkeypatch) -> None:
    contents = {
        "text": "β of\r\nfrogs",
        "lines": "β of\nfrogs",
        "jsonl": '{"text": "β of"}',
        "csv": "text,year\nβ of,7",
    }
    for kind, content in contents.items():
        marked = content.encode("utf-8-sig")
        for data in (marked, gzip.compress(marked)):
            (tmp_path / "a").write_bytes(data)
            assert next(requests(str(tmp_path / "a"), kind)).read(4) == "β of", kind
        if kind != "csv":
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(marked)))
            (read,) = (request.read for request in requests("-", kind) if request.name == "1")
            assert kind == "text" or read() == "β of"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(contents["text"].encode("utf-8-sig"))))
    assert "".join(request.read() for request in requests("-", "text")) == contents["text"]


def test_tables_have_a_document_per_row(tmp_path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("id,text_a,text_b,year\nx,frogs,mice,1\n,fevers,,2\n")
    rows = list(requests(str(table), "csv"))
    assert [(row.name, row.read(), row.pair, row.where) for row in rows] == [
        ("x", "frogs", "mice", f"{table}:2"),
        ("2", "fevers", "", f"{table}:3"),
    ]
    faults = {"title,year\na b,2\n": "no column", '{"text": 3}': "no column", "": "empty"}
    for content, message in faults.items():
        table.write_text(content)
        with pytest.raises(UserError, match=message):
            list(requests(str(table), "csv"))
    table.with_suffix(".parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not Parquet"):
        list(requests(str(table.with_suffix(".parquet")), "parquet"))
    with pytest.raises(UserError, match="no csv from standard input"):
        list(requests("-", "csv"))


def test_xml_is_bioc_or_nothing(tmp_path) -> None:
    path = tmp_path / "pubmed25n0001.xml.gz"
    path.write_bytes(gzip.compress(b"<PubmedArticleSet></PubmedArticleSet>"))
    assert input_kind(str(path)) == "bioc"
    with pytest.raises(UserError, match=r"pubmed25n0001\.xml\.gz: .*BioC"):
        list(requests(str(path), "bioc"))


def test_gzipped_files_are_read_by_their_content(tmp_path) -> None:
    packed = gzip.compress("β of\r\nfrogs".encode())
    (tmp_path / "a.gz").write_bytes(packed)
    (tmp_path / "b.txt").write_bytes(packed)
    assert [r.read() for name in ("a.gz", "b.txt") for r in requests(str(tmp_path / name), "text")] == [
        "β of\r\nfrogs"
    ] * 2
    for broken in (packed[:-3], packed[:12], packed[:12] + b"x" + packed[13:], packed[:-5] + b"x" + packed[-4:]):
        (tmp_path / "a.gz").write_bytes(broken)
        with pytest.raises(UserError, match=r"a\.gz(: damaged gzip data|:1: not UTF-8)"):
            [r.read() for r in requests(str(tmp_path / "a.gz"), "text")]


@pytest.mark.parametrize("gap", ["\t", "\n", "\r\n", " \t ", "\v", "\x1c", "\x85", "\u2028"])
def test_no_field_of_brat_holds_a_tab_or_a_line_break(gap: str) -> None:
    words = [
        Word(0, 3, "B-Big Disease", 1.0, "", "old"),
        Word(3 + len(gap), 7 + len(gap), "I-Big Disease", 1.0, gap, "lung"),
    ]
    text = f"old{gap}lung"
    entity, note = brat_lines("a.txt", words)
    mark, place, found = entity.split("\t")
    kind, _, spans = place.partition(" ")
    assert (mark, kind, found, note.count("\t")) == ("T1", "Big_Disease", "old lung", 2)
    assert [text[slice(*map(int, span.split()))] for span in spans.split(";")] == ["old", "lung"]
    assert len(entity.splitlines()) == 1
