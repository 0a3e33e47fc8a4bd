"""A run is one process's at a time, and nobody's when that has ended."""

from pathlib import Path

import pytest
from other_process import claimed_elsewhere

from compact_biomed import records as sharing
from compact_biomed.records import Claims, shared

RUN, ANOTHER = "0123456789abcdef", "ffffffffffffffff"


def free(records: Path, run: str) -> bool:
    with Claims(records).claim(run) as ours:
        return ours


def test_a_run_is_one_process_at_a_time(tmp_path: Path) -> None:
    with claimed_elsewhere(tmp_path / "r.jsonl", RUN) as other:
        assert not free(tmp_path / "r.jsonl", RUN)
        assert free(tmp_path / "r.jsonl", ANOTHER) and free(tmp_path / "other.jsonl", RUN)
        other.kill()
        other.wait()
        assert free(tmp_path / "r.jsonl", RUN)


def test_the_file_is_the_same_by_every_way_to_it(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path)
    with claimed_elsewhere(tmp_path / "link" / "r.jsonl", RUN):
        assert not free(tmp_path / "r.jsonl", RUN)


def test_where_nothing_can_be_claimed_the_work_is_done_and_it_is_said(tmp_path: Path, capsys) -> None:
    (tmp_path / "file").write_text("")
    of_nothing = Claims(tmp_path / "file" / "r.jsonl")
    for _ in range(2):
        with of_nothing.claim(RUN) as ours:
            assert ours
    assert capsys.readouterr().err.count("cannot be locked") == 1


def test_what_is_done_elsewhere_is_asked_for_again(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sharing, "PAUSE", 0)
    asked = []

    def do(item: str) -> str | None:
        asked.append(item)
        return item.upper() if item != "b" or asked.count("b") > 3 else None

    assert shared(["a", "b", "c"], do) == {"a": "A", "b": "B", "c": "C"}
    assert asked == ["a", "b", "c", "b", "b", "b"]
    assert capsys.readouterr().err.count("another process is at b: waiting") == 1
