"""Tables from records: right numbers, nothing mixed, every cell with its records."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.measured import Column
from compact_biomed.report.render import FORMATS
from compact_biomed.report.scores import scores_by_row, scores_table
from compact_biomed.report.table import MISSING

NCBI = Column("NCBI-disease", "f1")
TABLES = {"md": scores_table, "csv": scores_by_row, "tex": scores_table}


def written(form: str, grid: ScoreGrid) -> str:
    return FORMATS[form](TABLES[form](grid))


def table_of(tmp_path: Path, *records: dict, **options: Any) -> ScoreGrid:
    return score_grid(score_lines(read_lines([write(tmp_path / "r.jsonl", *records)])), **options)


def test_mean_deviation_and_number_of_seeds(tmp_path: Path) -> None:
    cell = table_of(tmp_path, *(record(seed=n, f1=f1) for n, f1 in ((1, 80.0), (2, 81.0), (3, 82.0)))).cells[
        "small", NCBI
    ]
    assert (cell.summary.mean, cell.summary.deviation, cell.summary.n) == (81.0, 1.0, 3)
    assert [line.number for line in cell.lines] == [1, 2, 3]
    assert (cell.interval, cell.notes) == (None, ())


def test_few_seeds_are_marked_and_missing_cells_say_so(tmp_path: Path) -> None:
    table = table_of(tmp_path, record("a"), record("b"), record("b", "BC2GM", f1=70.0))
    assert table.models == ("a", "b")
    assert [column.task for column in table.columns] == ["BC2GM", "NCBI-disease"]
    assert ("a", Column("BC2GM", "f1")) not in table.cells
    rows = [line.split(" | ") for line in written("md", table).splitlines() if line.startswith("| a")]
    assert rows == [["| a", MISSING, "80.00 (1)\\* |"]]
    assert table.cells["a", NCBI].notes == ("fewer than 3 seeds",)
    assert MISSING in written("tex", table) and "80.00 (1)$^*$" in written("tex", table)


def test_words_and_word_pieces_are_two_columns(tmp_path: Path) -> None:
    table = table_of(tmp_path, record(metrics={"f1": 80.0, "piece_f1": 87.0}), record("b"))
    assert [column.title for column in table.columns] == ["NCBI-disease, f1", "NCBI-disease, f1 on word-pieces"]
    assert table.cells["small", Column("NCBI-disease", "piece_f1")].summary.mean == 87.0
    assert ("b", Column("NCBI-disease", "piece_f1")) not in table.cells


def test_folds_are_averaged_within_a_seed_before_seeds(tmp_path: Path) -> None:
    scores = {(1, 1): 70.0, (1, 2): 80.0, (2, 1): 74.0, (2, 2): 80.0, (3, 1): 99.0}
    table = table_of(tmp_path, *(record(task="GAD", seed=s, fold=f, f1=f1) for (s, f), f1 in scores.items()))
    cell = table.cells["small", Column("GAD", "f1")]
    assert (cell.summary.mean, cell.summary.n) == (76.0, 2)
    assert cell.summary.deviation == pytest.approx(np.std([75, 77], ddof=1))
    # Seed 3 has not run through all folds: its one lucky fold is no score of the task.
    assert cell.notes == ("seed 3 left out: 1 of 2 folds", "fewer than 3 seeds")


def test_a_cell_without_a_whole_seed_is_missing(tmp_path: Path) -> None:
    table = table_of(tmp_path, record(fold=1), record(fold=2), record("b", fold=1))
    assert ("b", NCBI) not in table.cells


def test_the_order_of_records_does_not_matter(tmp_path: Path) -> None:
    records = [record(m, t, s, f1=70 + s) for m in "cab" for t in ("JNLPBA", "BC2GM") for s in (3, 1, 2)]
    for form in FORMATS:
        assert written(form, table_of(tmp_path, *records)) == written(form, table_of(tmp_path, *reversed(records)))


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"version": 2}, "version 1.*version 2"),
        ({"data_sha256": {"test": "22"}}, "sha256 00.*sha256 22"),
    ],
)
def test_another_test_in_a_column_is_refused_by_line(tmp_path: Path, other: dict, said: str) -> None:
    second = record("b")
    second["task"] |= other
    with pytest.raises(UserError, match=f"r.jsonl:1 and .*r.jsonl:2.*would mix .*{said}"):
        table_of(tmp_path, record(), second)


def test_what_a_protocol_chooses_is_no_other_protocol(tmp_path: Path) -> None:
    chosen = {"learning_rate": 1e-4, "epochs": 5, "stop_after": 3, "max_length": 128}
    other = {"learning_rate": 3e-4, "epochs": 8, "stop_after": 8, "max_length": 512}
    records = [record(model, settings={**some, "batch_size": 32}) for model, some in (("a", chosen), ("b", other))]
    table = table_of(tmp_path, *records)
    assert table.models == ("a", "b") and len(set(table.how.values())) == 1
    assert [head.key for head in scores_table(table).heads] == ["model", "parameters", NCBI.title]


@pytest.mark.parametrize(
    ("part", "what"), [("weights", "weights"), ("tokenizer", "tokenizers"), ("config", "settings")]
)
def test_another_model_under_one_name_is_refused(tmp_path: Path, part: str, what: str) -> None:
    first, second = record(seed=1), record(seed=2)
    first["model"][f"{part}_sha256"], second["model"][f"{part}_sha256"] = "one", "other"
    with pytest.raises(UserError, match=f"{what} would mix one and other"):
        table_of(tmp_path, first, second)


def test_a_seed_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"r.jsonl:1 and .*r.jsonl:2.*one seed and fold"):
        table_of(tmp_path, record(run="x"), record(run="y"))


def test_a_run_twice_is_refused_by_both_lines(tmp_path: Path) -> None:
    first, second = write(tmp_path / "one.jsonl", record()), write(tmp_path / "two.jsonl", record("b"), record())
    with pytest.raises(UserError, match=r"one\.jsonl:1 and .*two\.jsonl:2: two records of one run"):
        score_lines(read_lines([first, second]))


def test_a_file_that_is_named_twice_is_said_to_be(tmp_path: Path) -> None:
    path = write(tmp_path / "one.jsonl", record())
    with pytest.raises(UserError, match=r"one\.jsonl: a file that is named twice \(name it once\)"):
        score_lines(read_lines([path, path]))


@pytest.mark.parametrize(("line", "said"), [("{", "not JSON"), ("[]", "not a record")])
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps(record()) + "\n" + line + "\n")
    with pytest.raises(UserError, match=rf"r\.jsonl:2: {said}"):
        read_lines([path])


def test_a_record_without_what_tables_need_is_named(tmp_path: Path) -> None:
    whole = record()
    del whole["seed"], whole["task"]["version"]
    with pytest.raises(UserError, match=r"r\.jsonl:1: a record without task.version, seed"):
        table_of(tmp_path, whole)
    with pytest.raises(UserError, match=r"without metrics\.f1"):
        table_of(tmp_path, record(metrics={}))
    with pytest.raises(UserError, match="no such file"):
        read_lines([tmp_path / "none.jsonl"])


def test_splits_and_other_records_stay_apart(tmp_path: Path) -> None:
    records = [record(f1=80.0), record(f1=60.0, split="dev"), {"record": "search", "run": "s"}, {"kind": "other"}]
    assert table_of(tmp_path, *records).cells["small", NCBI].summary.mean == 80.0
    assert table_of(tmp_path, *records, split="dev").cells["small", NCBI].summary.mean == 60.0
    with pytest.raises(UserError, match="no scores on test in these records"):
        table_of(tmp_path, records[1])


def counted(folder: Path, seed: int, **changes: Any) -> dict:
    rng = np.random.default_rng(seed)
    tp, fp, fn = rng.binomial(2, 0.8, 80), rng.binomial(1, 0.1, 80), rng.binomial(1, 0.2, 80)
    f1 = 200 * tp.sum() / (2 * tp + fp + fn).sum()
    made = record(seed=seed, f1=float(f1), **changes)
    return with_counts(folder, made, ["fn", "tp", "fp"], np.stack([fn, tp, fp], axis=1))


def test_the_interval_is_made_from_the_counts(tmp_path: Path) -> None:
    records = [counted(tmp_path, seed) for seed in (1, 2, 3)]
    table = table_of(tmp_path, *records)
    cell = table.cells["small", NCBI]
    assert cell.interval.value == pytest.approx(cell.summary.mean)
    assert cell.interval.low < cell.summary.mean < cell.interval.high
    shown = f"95 % interval {cell.interval.low:.2f} to {cell.interval.high:.2f}"
    assert shown in written("md", table) and shown in written("tex", table)
    row = next(csv.DictReader(written("csv", table).splitlines()))
    assert row["low"] == str(round(cell.interval.low, 10)) and row["seeds"] == "3"


def test_counts_that_do_not_give_the_score_are_refused(tmp_path: Path) -> None:
    changed = counted(tmp_path, 1)
    changed["metrics"]["f1"] += 1
    with pytest.raises(UserError, match=r"r\.jsonl:1: the counts give"):
        table_of(tmp_path, changed)
    counts, run = tmp_path / "r.jsonl.counts", f'{{"run": "{changed["run"]}", '
    for broken in ("", '"columns": [', '"columns": ["tp"], "rows": []}', '"columns": ["tp", "fp", "fn"], "rows": []}'):
        counts.write_text(run + broken + "\n")
        with pytest.raises(UserError, match=r"r\.jsonl\.counts:1: no counts of tp, fp, fn for run small-"):
            table_of(tmp_path, changed)
    counts.write_text("[]\n")
    with pytest.raises(UserError, match=r"r\.jsonl\.counts: no counts of tp, fp, fn for run small-"):
        table_of(tmp_path, changed)
    counts.unlink()
    with pytest.raises(UserError, match=r"r\.jsonl\.counts: no file of counts per example \(copy it from where"):
        table_of(tmp_path, changed)


def test_the_command_writes_and_traces(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "r.jsonl", record(seed=1), record(seed=2, f1=82.0), record("b", seed=1))
    for form in FORMATS:
        assert main(["tables", "--records", str(path), "--format", form, "--output", str(tmp_path / "out")]) == 0
        assert "81" in (tmp_path / "out" / f"scores.{form}").read_text()
    capsys.readouterr()
    assert main(["tables", "--records", str(path), "--trace", "small,NCBI-disease"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    for number, traced in enumerate((first, second), 1):
        assert traced.startswith(f"{path}:{number}: small on NCBI-disease, test, seed {number}\n")
        parts = [line.split(maxsplit=1) for line in traced.splitlines()[1:]]
        assert [name for name, _ in parts] == ["scores", "settings", "weights", "code", "command"]
    assert "f1 82.00" in second and "f1 82.00" not in first and "protocol standard" in second
    assert main(["tables", "--records", str(path), "--trace", "small,BC2GM"]) == 2
    assert "one of b,NCBI-disease; small,NCBI-disease" in capsys.readouterr().err
