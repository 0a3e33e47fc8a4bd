"""Two data sets of one name: what the error names, and the ways out of it."""

import re
from pathlib import Path

import pytest
from score_records import record, write

from compact_biomed.cli import main


def of_topics(model: str, sha: str, file: str | None, n: int = 36, **changes) -> dict:
    made = record(model, "topics", data_sha256={"test": sha * 8, "train": "11"}, **changes)
    made["task"] |= {"examples": {"test": n}, **({"files": {"train": file}} if file else {})}
    made["model"]["encoder_parameters"] = 10
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    other = [record(model, "NCBI-disease") for model in "ab"]
    for each in other:
        each["model"]["encoder_parameters"] = 10
    sets = [of_topics("a", "00ff", "/x/topics.csv"), of_topics("b", "77ab", "/y/clinic.csv", 1200)]
    return write(tmp_path / "r.jsonl", *other, *sets, of_topics("c", "00ff", "/z/topics.csv", f1=70.0))


FLAGS = {"compare": ["--teacher", "a"], "page": [], "figures": [], "gap": ["--baseline", "a"], "families": []}
NOT_MADE = {"gap": "topics, f1: no counts", "families": "no two tasks of one kind"}  # from the records of topics


@pytest.mark.parametrize("of", [None, *FLAGS])
def test_two_sets_of_one_name_are_named_and_can_be_left_out(of: str | None, path: Path, tmp_path: Path, capsys) -> None:
    asked = ["tables", *([of] if of else []), "--records", str(path), *FLAGS.get(of, [])]
    if of in ("page", "figures"):
        asked += ["--output", str(tmp_path / "out")]
    assert main(asked) == 1
    said = capsys.readouterr().err
    sets = "sha256 00ff00ff00ff (36 examples of topics.csv) and sha256 77ab77ab77ab (1,200 examples of clinic.csv)"
    if of != "gap":  # which is stopped by NCBI-disease before
        assert f"topics, f1, test examples would mix {sets}" in said and "--task-name NAME" in said
        assert "a table of one of them: --tasks topics@00ff00ff00ff;" in said
    for chosen in ("topics@00ff00ff00ff", "topics@00"):
        assert main([*asked, "--tasks", chosen]) == (of in NOT_MADE)
        shown = capsys.readouterr()
        assert NOT_MADE.get(of, "") in shown.err
        if of in (None, "compare"):
            assert "70.00" in shown.out and "NCBI" not in shown.out
    assert main([*asked, "--tasks", "frogs"]) == 2
    assert "no task 'frogs' in the records (one of NCBI-disease, topics)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (("/x/a.csv", 9), ("/y/a.csv", 9), r"\(9 examples of /x/a.csv\) and sha256 1* \(9 examples of /y/a.csv\)"),
        (("/x/a.csv", 9), ("/x/a.csv", 8), r"\(9 examples of a.csv\) and sha256 1* \(8 examples of a.csv\)"),
        (
            (None, 9),
            (None, 9),
            r"\(9 examples\) and .* \(a table of one of them: --tasks topics@000000000000; make one",
        ),
    ],
)
def test_files_are_named_as_far_as_that_tells_them_apart(one, other, said: str, tmp_path: Path, capsys) -> None:
    records = [of_topics("a", "00", *one), of_topics("b", "11", *other)]
    for each, sha in zip(records, "01", strict=True):
        each["task"]["data_sha256"]["test"] = sha * 64
    path = write(tmp_path / "r.jsonl", *records)
    assert main(["tables", "--records", str(path)]) == 1

    assert re.search(said, capsys.readouterr().err)
