"""Records: found by what was asked, whole or absent, broken lines named."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from compact_biomed.benchmarks.examples import Splits, TextExample, examples_sha256
from compact_biomed.errors import UserError
from compact_biomed.models.checkpoints import model_sha256
from compact_biomed.records.lines import Line, read_lines
from compact_biomed.records.store import Records, append_new, run_key

RECORD = {"record": "scores", "run": "ab", "model": {"name": "m"}, "task": {"name": "t"}, "how": {"seconds": 1.0}}


def test_what_is_added_is_found_by_another_reader(tmp_path) -> None:
    path = tmp_path / "records.jsonl"
    written = Records(path).add({**RECORD, "score": 1.5}, [{"tp": 1, "fn": 0}, {"tp": 0, "fn": 2}])
    assert written["per_example_counts"] == "records.jsonl.counts"
    again = Records(path)
    assert again.find("scores", "ab") == Line(path, 1, written)
    assert again.find("search", "ab") is None and again.find("scores", "cd") is None
    counts = json.loads((tmp_path / "records.jsonl.counts").read_text())
    assert counts == {"run": "ab", "columns": ["tp", "fn"], "rows": [[1, 0], [0, 2]]}
    assert again.lines[0].per_example_counts(("fn", "tp")).tolist() == [[0.0, 1.0], [2.0, 0.0]]


def test_of_two_that_add_one_run_the_first_stays(tmp_path) -> None:
    """Both looked before either wrote."""
    one, two = Records(tmp_path / "r.jsonl"), Records(tmp_path / "r.jsonl")
    first = one.add({**RECORD, "score": 1.0}, [{"tp": 1}])
    assert two.add({**RECORD, "score": 2.0}, [{"tp": 2}]) == first
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 1
    (counts,) = (tmp_path / first["per_example_counts"]).read_text().splitlines()
    assert json.loads(counts)["rows"] == [[1]]


def test_of_two_that_append_one_run_at_the_same_time_the_first_stays(tmp_path) -> None:
    path = tmp_path / "records.jsonl"
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda seconds: append_new(path, {"run": "a", "seconds": seconds}), range(8)))
    append_new(path, {"run": "b", "seconds": 8})
    assert [line.record["run"] for line in read_lines([path])] == ["a", "b"]


def test_whether_it_can_be_written_is_found_out_without_a_trace(tmp_path) -> None:
    Records(tmp_path / "new" / "r.jsonl").require_writable()
    assert list(tmp_path.rglob("*")) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        Records(tmp_path / "file" / "r.jsonl").require_writable()


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"record": "scores"}',
        '{"record": "scores", "run": "x", "version": 99}',
        json.dumps({**RECORD, "version": 1, "run": ["x"]}),
    ],
)
def test_a_line_that_is_no_record_is_named(tmp_path, line: str) -> None:
    path = tmp_path / "records.jsonl"
    Records(path).add(RECORD)
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UserError, match=r"records\.jsonl:2: .*(not JSON|not a record)"):
        Records(path)


def test_the_key_depends_on_content_not_on_order() -> None:
    assert run_key({"seed": 1, "task": ["a", 1]}) == run_key({"task": ["a", 1], "seed": 1})
    assert run_key({"seed": 1, "task": ["a", 1]}) != run_key({"seed": 2, "task": ["a", 1]})


def test_examples_are_told_apart_by_text_and_label() -> None:
    def splits(text: str, label: str) -> Splits:
        one = [TextExample("a", text, None, label)]
        return Splits(one, one, one)

    assert examples_sha256(splits("x", "y")) == examples_sha256(splits("x", "y"))
    assert len({examples_sha256(splits(*pair))["test"] for pair in (("x", "y"), ("x", "n"), ("z", "y"))}) == 3


def test_a_folder_without_tokenizer_is_told(tmp_path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(UserError, match="no tokenizer"):
        model_sha256(tmp_path)
