"""Locks of runs: one process at a time, until it ends."""

from pathlib import Path

import pytest
from other_process import locked_elsewhere

from compact_biomed.records import locks
from compact_biomed.records.locks import RunLocks, in_turns

RUN, ANOTHER = "0123456789abcdef", "ffffffffffffffff"


def free(records: Path, run: str) -> bool:
    with RunLocks(records).hold(run) as ours:
        return ours


def test_a_run_is_one_process_at_a_time(tmp_path: Path) -> None:
    with locked_elsewhere(tmp_path / "r.jsonl", RUN) as other:
        assert not free(tmp_path / "r.jsonl", RUN)
        assert free(tmp_path / "r.jsonl", ANOTHER) and free(tmp_path / "other.jsonl", RUN)
        other.kill()
        other.wait()
        assert free(tmp_path / "r.jsonl", RUN)
    assert list(tmp_path.iterdir()) == []  # locks that ended leave nothing


def test_the_file_is_the_same_by_every_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with locked_elsewhere(tmp_path / "link" / "r.jsonl", RUN):
        assert not free(tmp_path / "r.jsonl", RUN)


def test_where_nothing_can_be_locked_the_work_is_done_and_it_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    locks = RunLocks(tmp_path / "file" / "r.jsonl")
    for _ in range(2):
        with locks.hold(RUN) as ours:
            assert ours
    assert capsys.readouterr().err.count("cannot be locked") == 1


def test_what_is_done_elsewhere_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(locks, "PAUSE", 0)
    items, busy, remaining = [], [], []
    for item, left in in_turns(["a", "b", "c"], busy):
        items.append(item)
        remaining.append(left)
        if item == "b" and items.count("b") <= 3:
            busy.append(item)
    assert items == ["a", "b", "c", "b", "b", "b"]
    assert remaining == [["a", "b", "c"], ["b", "c"], ["b", "c"], ["b"], ["b"], ["b"]]
    assert capsys.readouterr().err.splitlines() == ["waiting for another process to finish b"]
