"""Files of records and of per-example counts: a torn line harms neither the lines before it nor those after."""

import json
import os
import signal
from pathlib import Path

import pytest

from compact_biomed.errors import UserError
from compact_biomed.records.files import append_counts, append_record
from compact_biomed.records.lines import Line, read_lines, require_parts
from compact_biomed.records.store import Records

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
            with pytest.raises(UserError, match=r"r\.jsonl\.counts: no counts of its examples for run b"):
                Line(path, 1, {"run": "b", "per_example_counts": file.name}).all_counts()
        append_counts(path, "c", ["tp", "fn"], [[3, 0]])
        assert counts(path, "c") == [[0, 3]] and counts(path, "a") == [[0, 1], [1, 0]], size


def test_of_several_counts_of_a_run_the_last_are_those_of_its_record(tmp_path: Path) -> None:
    """A process may be killed after the counts and before the record: the run is then done again."""
    path = tmp_path / "r.jsonl"
    for value in (1, 2):
        append_counts(path, "a", ["tp", "fn"], [[value, 0]])
    assert counts(path, "a") == [[0, 2]]


EVALUATED = {"record": "scores", "run": "next", "score": 50.0, "name": "Sjögren"}
PER_EXAMPLE = [{"tp": 1.0, "fp": 0.0}, {"tp": 3.0, "fp": 1.0}]


def killed_child(path: Path, call: int, share: float) -> None:
    """Record a run in a child process that is killed at its nth write, after a share of the bytes."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        assert os.WIFSIGNALED(status)
        return
    write, calls = os.write, 0

    def killed_write(descriptor: int, content: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == call:
            write(descriptor, content[: int(share * len(content))])
            os.kill(os.getpid(), signal.SIGKILL)
        return write(descriptor, content)

    try:
        os.write = killed_write
        Records(path).add(EVALUATED, PER_EXAMPLE)
    finally:
        os._exit(1)


@pytest.mark.parametrize("call", [1, 2], ids=["counts", "record"])
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99, 1.0])
def test_a_kill_amid_a_record_loses_and_doubles_nothing(tmp_path: Path, call: int, share: float) -> None:
    """The same command records the run again, once; the others stay, and its counts are those of one write."""
    path = tmp_path / "records.jsonl"
    for record in RECORDS:
        append_record(path, record)
    for _ in range(2):
        killed_child(path, call, share)
        if call == 2 and share == 1.0:
            break  # the record was whole: the run is done
    store = Records(path)
    if not store.find("scores", "next"):
        store.add(EVALUATED, PER_EXAMPLE)
    lines = read_lines([path])
    assert [line.record["run"] for line in lines] == ["r0", "r1", "r2", "next"]
    assert lines[-1].per_example_counts(["tp", "fp"]).tolist() == [[1.0, 0.0], [3.0, 1.0]]
    counts = (tmp_path / "records.jsonl.counts").read_bytes()
    assert all(json.loads(line)["run"] == "next" for line in counts.splitlines()) and counts.endswith(b"\n")
