"""What a killed process leaves of a record harms neither the records before it nor those after."""

import json
import os
from pathlib import Path

import pytest

from compact_biomed import records
from compact_biomed.errors import UserError
from compact_biomed.records import append_record, missing_parts, read_lines

RECORDS = [{"record": "scores", "run": f"r{n}", "version": 1, "name": "Sjögren µ {é}\u2028"} for n in range(3)]


def whole(path: Path, wanted: list[dict] = RECORDS) -> bytes:
    path.unlink(missing_ok=True)
    for each in wanted:
        append_record(path, each)
    return path.read_bytes()


def both(path: Path) -> list[dict]:
    """What evaluation and tables read: the same."""
    read = list(records.read(path))
    assert read == [line.record for line in read_lines([path])]
    return read


def test_torn_at_every_byte(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut short anywhere, the last record is lost alone, and the next takes its place."""
    path = tmp_path / "records.jsonl"
    content = whole(path)
    last = content.rstrip(b"\n").rfind(b"\n") + 1
    following = {"record": "scores", "run": "next", "version": 1}
    for size in range(last, len(content)):
        lacks_its_end_alone = size == len(content) - 1
        there = RECORDS if lacks_its_end_alone else RECORDS[:2]
        path.write_bytes(content[:size])
        assert both(path) == there, size
        assert path.stat().st_size == size  # to read is not to mend
        append_record(path, following)
        assert path.read_bytes() == whole(tmp_path / "expected", [*there, following]), size
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith(f"warning: {path}:3: the last record is torn") and "all others are read" in said[0]
    assert said.count(said[0]) == 1  # for one place
    assert f"{path}: a torn record at the end is cut off" in said


@pytest.mark.parametrize("size", [1, 20])
def test_the_first_record_may_be_the_torn_one(tmp_path: Path, size: int) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(whole(path)[:size])
    assert both(path) == []
    append_record(path, RECORDS[1])
    assert both(path) == [RECORDS[1]]


def test_a_power_cut_may_leave_zeros(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(whole(path) + b"\0" * 40)
    assert both(path) == RECORDS
    append_record(path, RECORDS[0])
    assert both(path) == [*RECORDS, RECORDS[0]]


@pytest.mark.parametrize("broken", [b'{"record": "sco', b"", b"\xff\xfe{}", b"{}}"])
def test_a_broken_line_in_the_middle_is_an_error(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "records.jsonl"
    first, second, third = whole(path).splitlines(keepends=True)
    for content in (first + broken + b"\n" + second + third, first + second + broken + b"\n"):
        path.write_bytes(content)
        number = 1 + content.split(b"\n").index(broken)
        for read in (lambda: list(records.read(path)), lambda: read_lines([path])):
            with pytest.raises(UserError, match=rf"records\.jsonl:{number}: "):
                read()


def test_nothing_is_cut_off_another_kind_of_file(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("a line\nanother, without its end")
    with pytest.raises(UserError, match=r"notes\.txt: the last line is no record"):
        append_record(path, RECORDS[0])
    assert path.read_text() == "a line\nanother, without its end"


def test_a_full_disk_after_a_torn_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(whole(path)[:-5])
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, line: write(descriptor, line[:7]))
    with pytest.raises(OSError, match="No space left"):
        append_record(path, RECORDS[0])
    monkeypatch.undo()
    assert [json.loads(line) for line in path.read_bytes().splitlines()] == RECORDS[:2]


def test_what_a_record_lacks_is_named_once() -> None:
    record = {"run": "r", "model": {"name": "m"}, "task": "no parts", "how": None}
    assert missing_parts(record, ["run", "model.name", "how"]) == []
    assert missing_parts(record, ["model.size", "task.name", "task.fold", "how.s"]) == ["model.size", "task", "how"]
    assert missing_parts(record, ["score", "counts.test.examples"]) == ["score", "counts"]
