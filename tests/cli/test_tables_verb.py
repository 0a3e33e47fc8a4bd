"""The command line of `compact-biomed tables`."""

import argparse
from pathlib import Path

import pytest
from score_records import record, write

from compact_biomed.cli import main, tables
from compact_biomed.errors import UserError


def test_whatever_can_be_asked_can_be_made():
    assert list(tables._FORMATS) == list(tables.MAKERS)
    assert all(of in tables.MAKERS for owners in tables._BELONGS.values() for of in owners)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--format", "svg"], "`tables scores` has no such format"),
        (["compare", "--trace", "a,b"], "only applies to `tables scores`"),
        (["figures", "--teacher", "a"], "only applies to `tables compare or gap or page`"),
    ],
)
def test_a_flag_that_would_do_nothing_is_refused(asked, said, tmp_path):
    parser = argparse.ArgumentParser()
    tables.add_parser(parser.add_subparsers())
    options = parser.parse_args(["tables", *asked, "--records", str(tmp_path / "none.jsonl")])
    with pytest.raises(UserError, match=said):
        options.run(options, [])


MORE = {"compare": ["--teacher", "a"], "gap": ["--baseline", "a"]}  # flags that are needed


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Files of records from which some of the tables cannot be made."""
    search = {"record": "search", "version": 1, "run": "x", "model": {"name": "m"}, "learning_rate": 1e-4, "dev": [1.0]}
    folds = [record("a", fold=1), record("b", fold=2)]
    for each in folds:
        each["task"]["folds"] = 2
    return {
        "nothing": write(tmp_path / "nothing.jsonl"),
        "searches": write(tmp_path / "searches.jsonl", search),
        "one model": write(tmp_path / "one.jsonl", record("a")),
        "other tasks": write(tmp_path / "tasks.jsonl", record("a"), record("b", "GAD")),
        "other folds": write(tmp_path / "folds.jsonl", *folds),
        "timings": write(tmp_path / "timings.jsonl", {"kind": "something"}),
    }


@pytest.mark.parametrize("of", tables.MAKERS)
def test_what_cannot_be_made_is_an_error_that_names_the_command_and_no_empty_table(
    of: str, files: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, path in files.items():
        if name == "one model" and of in ("scores", "page", "claims"):
            continue
        if name == "other tasks" and of in ("scores", "page", "claims"):
            continue
        out = tmp_path / "out"
        arguments = ["tables", of, "--records", str(path), *MORE.get(of, []), "--output", str(out)]
        assert main(arguments) == 1, (of, name)
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1, error
        assert any(word in error for word in ("compact-biomed ", "reproduce", "repeat the evaluation", "one of")), error
        assert not out.exists()


@pytest.mark.parametrize("of", tables.MAKERS)
def test_where_a_table_cannot_be_written_is_said_before_records_are_read(of: str, tmp_path: Path, capsys) -> None:
    (tmp_path / "file").touch()
    for place in ("file", "file/below"):
        asked = ["--records", str(tmp_path / "none.jsonl"), *MORE.get(of, []), "--output", str(tmp_path / place)]
        assert main(["tables", of, *asked]) == 1
        assert f"{tmp_path / 'file'}: a file, where a folder is needed" in capsys.readouterr().err


def test_names_in_a_list_may_hold_commas_in_brackets() -> None:
    listed = "a, b (standard, epochs 3),c (x (1, 2), y)"
    assert tables._names(listed) == ["a", "b (standard, epochs 3)", "c (x (1, 2), y)"]
    assert tables._names(None) is None
