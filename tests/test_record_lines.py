"""Files of records and of per-example counts: a torn line harms neither the lines before it nor those after."""

import json
import os
from pathlib import Path

import pytest

from compact_biomed.errors import UserError
from compact_biomed.records import Line, Records, append_counts, append_record, read_lines, require_parts

RECORDS = [{"record": "scores", "run": f"r{n}", "version": 1, "name": "Sjögren µ {é}\u2028"} for n in range(3)]


def whole(path: Path, records: list[dict] = RECORDS) -> bytes:
    path.unlink(missing_ok=True)
    for each in records:
        append_record(path, each)
    return path.read_bytes()


def both(path: Path) -> list[dict]:
    """The same for evaluation and for tables."""
    lines = read_lines([path])
    assert Records(path).lines == lines
    return [line.record for line in lines]


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
    output = capsys.readouterr().err.splitlines()
    assert output[0].startswith(f"warning: {path}:3: the last record is torn") and "all others are read" in output[0]
    assert output.count(output[0]) == 1  # for one place
    assert f"{path}: a torn record at the end is cut off" in output


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
        for read in (lambda: Records(path), lambda: read_lines([path])):
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
    require_parts(record, ["run", "model.name", "how"], "r.jsonl:1")
    for names, missing in (
        (["model.size", "task.name", "task.fold", "how.s"], "model.size, task, how"),
        (["score", "counts.test.examples"], "score, counts"),
    ):
        with pytest.raises(UserError, match=rf"^r\.jsonl:1: a record without {missing} \("):
            require_parts(record, names, "r.jsonl:1")


def counts(path: Path, run: str) -> list[list[float]]:
    record = {"run": run, "per_example_counts": f"{path.name}.counts"}
    return Line(path, 1, record).per_example_counts(("fn", "tp")).tolist()


def test_counts_torn_at_every_byte(tmp_path: Path) -> None:
    path, file = tmp_path / "r.jsonl", tmp_path / "r.jsonl.counts"
    for run, value in (("a", 1), ("b", 2)):
        assert append_counts(path, run, ["tp", "fn"], [[value, 0], [0, value]]) == file.name
    content = file.read_bytes()
    last = content.index(b"\n") + 1
    for size in range(last, len(content)):
        file.write_bytes(content[:size])
        assert counts(path, "a") == [[0, 1], [1, 0]], size
        if size < len(content) - 1:
            with pytest.raises(UserError, match=r"r\.jsonl\.counts: no counts of fn, tp for run b"):
                counts(path, "b")
        append_counts(path, "c", ["tp", "fn"], [[3, 0]])
        assert counts(path, "c") == [[0, 3]] and counts(path, "a") == [[0, 1], [1, 0]], size


def test_of_several_counts_of_a_run_the_last_are_those_of_its_record(tmp_path: Path) -> None:
    """A process may be killed after the counts and before the record: the run is then done again."""
    path = tmp_path / "r.jsonl"
    for value in (1, 2):
        append_counts(path, "a", ["tp", "fn"], [[value, 0]])
    assert counts(path, "a") == [[0, 2]]
