"""Means over tasks of one kind: within a seed first, whole or absent, never over protocols or scales."""

from pathlib import Path

import pytest
from score_records import record, write

from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.family import families, family_grid
from compact_biomed.report.grid import ScoreGrid, score_grid


def of_kind(kind: str, *arguments, **changes) -> dict:
    made = record(*arguments, **changes)
    made["task"]["kind"] = kind
    return made


def table_of(folder: Path, *records: dict) -> ScoreGrid:
    return score_grid(score_lines(read_lines([write(folder / "r.jsonl", *records)])))


def test_kinds_and_scales_stand_apart(tmp_path: Path) -> None:
    pieces = {"metrics": {"f1": 80.0, "piece_f1": 85.0}}
    table = table_of(
        tmp_path,
        of_kind("ner", task="NCBI-disease", **pieces),
        of_kind("ner", task="BC2GM", **pieces),
        of_kind("relation", task="CHEMPROT"),
        of_kind("something new", task="X"),
    )
    found = [(family.heading, [column.title for column in family.columns]) for family in families(table)]
    assert found == [
        ("Entities, on words", ["BC2GM, f1", "NCBI-disease, f1"]),
        ("Entities, on word-pieces", ["BC2GM, f1 on word-pieces", "NCBI-disease, f1 on word-pieces"]),
        ("Relations", ["CHEMPROT, f1"]),
        ("something new", ["X, f1"]),
    ]


def test_the_mean_is_taken_within_a_seed_first(tmp_path: Path) -> None:
    scores = {"NCBI-disease": (80.0, 82.0, 84.0), "BC2GM": (60.0, 62.0, 64.0)}
    made = [of_kind("ner", "a", task, n, f1) for task, each in scores.items() for n, f1 in enumerate(each, 1)]
    table = family_grid(table_of(tmp_path, *made))
    (cell,) = table.cells.values()
    assert {key.seed: score for key, score in cell.by_seed.items()} == {1: 70.0, 2: 72.0, 3: 74.0} and not cell.marked
    assert (cell.summary.mean, cell.summary.deviation, cell.summary.n) == (72.0, 2.0, 3)
    assert len(cell.lines) == 6 and [column.title for column in table.columns] == ["Entities, mean of 2 tasks, f1"]


def test_seeds_that_some_task_lacks_are_left_out(tmp_path: Path) -> None:
    made = [of_kind("ner", "a", "BC2GM", seed, 70.0 + seed) for seed in (1, 2, 3)]
    made += [of_kind("ner", "a", "JNLPBA", seed, 80.0 + seed) for seed in (2, 3, 4)]
    (cell,) = family_grid(table_of(tmp_path, *made)).cells.values()
    assert [key.seed for key in cell.by_seed] == [2, 3] and cell.marked
    assert cell.notes == ("over the seeds that all tasks have: 2, 3", "fewer than 3 seeds")
    assert {line.record["seed"] for line in cell.lines} == {2, 3}
    with pytest.raises(UserError, match=r"no model has all tasks of a kind.* \(Entities: BC2GM, JNLPBA\)"):
        family_grid(table_of(tmp_path, made[0], made[-1]))


def test_a_model_that_lacks_a_task_has_no_mean(tmp_path: Path) -> None:
    table = table_of(tmp_path, *(of_kind("ner", m, t) for m, t in (("a", "BC2GM"), ("a", "JNLPBA"), ("b", "BC2GM"))))
    assert {model for model, _ in family_grid(table).cells} == {"a"}


def test_protocols_are_not_averaged(tmp_path: Path) -> None:
    other = of_kind("ner", task="BC2GM")
    other["protocol"]["overrides"] = {"epochs": 1}
    with pytest.raises(UserError, match=r"Entities: a mean would mix BC2GM, f1 \(.*epochs 1\) and NCBI-disease, f1"):
        family_grid(table_of(tmp_path, other, of_kind("ner")))
    with pytest.raises(UserError, match="no two tasks of one kind"):
        family_grid(table_of(tmp_path, of_kind("ner")))


def test_the_command_shows_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = [of_kind("qa", "a", task, f1=f1) for task, f1 in (("BioASQ-6b", 20.0), ("BioASQ-7b", 30.0))]
    assert main(["tables", "families", "--records", str(write(tmp_path / "r.jsonl", *made))]) == 0
    shown = capsys.readouterr().out
    assert "| a | 25.00 (1)\\* |" in shown and "BioASQ-6b, BioASQ-7b; protocol standard" in shown
