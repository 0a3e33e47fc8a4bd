"""Published scores: well-formed, under their own scale, only beside test scores, and never mixed with ours."""

from pathlib import Path

import pytest
from score_records import record, write

from compact_biomed.benchmarks.tasks import TASKS
from compact_biomed.cli import main
from compact_biomed.report.measured import Column
from compact_biomed.report.published import claims, columns_apart, figures, rows_beside

NCBI, PIECES = Column("NCBI-disease", "f1"), Column("NCBI-disease", "piece_f1")


def test_every_figure_has_a_known_task_and_scale_once() -> None:
    found = figures()
    assert {figure.task for figure in found} <= TASKS.keys()
    assert {figure.scale for figure in found} == {"words", "word-pieces", "not stated"}
    assert len({(figure.model, figure.task, figure.scale) for figure in found}) == len(found)
    assert all(0 < value < 100 for figure in found for value in figure.metrics.values())
    assert all(figure.source.reference and figure.source.about for figure in found)
    assert all(TASKS[figure.task].kind == "ner" for figure in found if figure.scale != "not stated")


def test_precision_and_recall_give_the_f1_beside_them() -> None:
    """Guards against a digit lost while copying; means over folds (GAD, EU-ADR) need not obey."""
    both = [figure.metrics for figure in figures() if "precision" in figure.metrics and figure.scale == "words"]
    assert len(both) == 8
    for scores in both:
        p, r = scores["precision"], scores["recall"]
        assert 2 * p * r / (p + r) == pytest.approx(scores["f1"], abs=0.02)


def test_scales_never_share_a_column() -> None:
    words, pieces = rows_beside([NCBI]), rows_beside([PIECES])
    assert {row.model for row in words} == {"BioBERT-v1.1", "BERT-base cased"}
    assert {row.model for row in pieces} == {"DistilBioBERT", "CompactBioBERT", "BioDistilBERT"}
    assert {figure.scale for row in words for _, figure in row.scores.values()} == {"words"}
    assert {figure.scale for row in pieces for _, figure in row.scores.values()} == {"word-pieces"}
    (unstated,) = rows_beside([Column("GAD", "f1")])
    assert columns_apart([Column("GAD", "f1")], [unstated]) == [Column("GAD", "f1 (published, scale not stated)")]


def test_only_what_stands_beside_a_column_is_given() -> None:
    assert rows_beside([Column("HoC", "f1"), Column("NCBI-disease", "recall_of_something")]) == []
    assert rows_beside([NCBI, PIECES], split="dev") == []
    (row,) = [row for row in rows_beside([NCBI, Column("JNLPBA", "f1")]) if row.model == "BioBERT-v1.1"]
    assert {column.task: value for column, (value, _) in row.scores.items()} == {"NCBI-disease": 88.3, "JNLPBA": 75.98}


def test_claims_name_their_source() -> None:
    assert claims() and all("%" in claim.text and claim.source.reference for claim in claims())


@pytest.mark.parametrize("form", ["md", "tex"])
def test_tables_show_them_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: str) -> None:
    records = [record(metrics={"f1": 80.0, "piece_f1": 85.0}), record(task="GAD", fold=1, folds=10, f1=70.0)]
    flags = ["tables", "--records", str(write(tmp_path / "r.jsonl", *records)), "--format", form]
    assert main(flags) == 0
    assert "published" not in capsys.readouterr().out
    assert main([*flags, "--published"]) == 0
    shown = capsys.readouterr().out
    lines = [line[2:-2].split(" | ") if form == "md" else line[:-3].split(" & ") for line in shown.splitlines()]
    rows = [[cell.strip() for cell in line] for line in lines]
    by_name = {row[0].split(",")[0]: row for row in rows if len(row) > 3}
    titles = by_name["model"]
    (apart,) = [n for n, title in enumerate(titles) if "scale not stated" in title]
    assert by_name["small"][apart] == "" and by_name["small"][titles.index("GAD, f1")].startswith("70.00")
    for model, title, value in (
        ("CompactBioBERT", "NCBI-disease, f1 on word-pieces", "88.67"),
        ("BioBERT-v1.1", "NCBI-disease, f1", "88.30"),
        ("BioBERT-v1.1", "GAD, f1 (published, scale not stated)", "82.37"),
    ):
        assert by_name[model][titles.index(title)] == value
    assert sum(cell != "" for cell in by_name["CompactBioBERT"][1:]) == 1
    assert "published (" in shown and "arXiv 2209.03182; F1 on word-pieces is likely" in shown


def test_not_in_csv_nor_in_other_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(write(tmp_path / "r.jsonl", record()))
    assert main(["tables", "--records", path, "--published", "--format", "csv"]) == 2
    assert "published scores are only in md and tex tables" in capsys.readouterr().err
    assert main(["tables", "families", "--records", path, "--published"]) == 2
    assert "--published: only applies to `tables scores`" in capsys.readouterr().err
