"""Comparisons with a teacher: the right ratio, the right pairs, Holm by scale, and plain words where n is small."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, read_lines, score_lines
from compact_biomed.report.compare import Comparison, compare, comparison_table
from compact_biomed.report.resampling import Interval, randomization_test, retention_draws
from compact_biomed.report.statistics import holm, seed_tests


def run(folder: Path, model: str, seed: int, *, hit: float = 0.8, task: str = "NCBI-disease", **changes: Any) -> dict:
    """A record with counts drawn at random; F1 rises with `hit`."""
    rng = np.random.default_rng([seed, *map(ord, model + task)])
    tp = rng.binomial(2, hit, 150)
    rows = np.stack([tp, rng.binomial(1, 0.1, 150), 2 - tp], 1)
    made = record(model, task, seed, f1=float(f1_of_sums(rows.sum(0))), **changes)
    return with_counts(folder, made, ["tp", "fp", "fn"], rows)


def compared(folder: Path, *records: dict, **options: Any) -> list[Comparison]:
    lines = score_lines(read_lines([write(folder / "r.jsonl", *records)]))
    return compare(lines, "teacher", **options)


def rows_of(folder: Path, *records: dict) -> np.ndarray:
    counts = [Line(folder / "r.jsonl", 1, each).per_example_counts(("tp", "fp", "fn")) for each in records]
    return np.stack(counts)


def test_retention_and_tests_are_those_of_the_counts(tmp_path: Path) -> None:
    of_teacher = [run(tmp_path, "teacher", seed, hit=0.9) for seed in (1, 2, 3)]
    of_student = [run(tmp_path, "student", seed, hit=0.8) for seed in (1, 2, 3)]
    (found,) = compared(tmp_path, *of_teacher, *of_student)
    student, teacher = ([rows_of(tmp_path, *each)] for each in (of_student, of_teacher))
    scores = [[r["metrics"]["f1"] for r in each] for each in (of_student, of_teacher)]
    assert found.retained == pytest.approx(np.mean(scores[0]) / np.mean(scores[1]))
    value, drawn = retention_draws(student, teacher, f1_of_sums)
    assert found.interval == Interval(value, *np.quantile(drawn, [0.025, 0.975]).tolist())
    assert found.interval.low < found.retained < found.interval.high < 1
    assert found.p["examples"] == randomization_test(student, teacher, f1_of_sums) < 0.01
    over_seeds = seed_tests(*scores)
    assert (found.p["t"], found.p["wilcoxon"]) == (over_seeds.t, over_seeds.wilcoxon)
    assert found.holm == found.p  # one comparison: nothing to correct
    assert "can't go below p = 0.25" in found.notes[-1] and not found.marked


def test_holm_counts_the_comparisons_of_a_scale(tmp_path: Path) -> None:
    records = [run(tmp_path, m, s, hit=h) for m, h in (("teacher", 0.8), ("a", 0.81), ("b", 0.7)) for s in (1, 2)]
    for each in records:  # the second scale, with the same counts
        rows = rows_of(tmp_path, each)[0]
        columns = ["tp", "fp", "fn", "piece_tp", "piece_fp", "piece_fn"]
        with_counts(tmp_path, each, columns, np.concatenate([rows, rows], 1))
        each["metrics"]["piece_f1"] = each["metrics"]["f1"]
    found = compared(tmp_path, *records)
    words, pieces = ([each for each in found if each.column.on_pieces == on_pieces] for on_pieces in (False, True))
    assert [each.model for each in words] == ["a", "b"] == [each.model for each in pieces]
    for test in ("examples", "t", "wilcoxon"):
        assert [each.holm[test] for each in words] == holm([each.p[test] for each in words])
        assert [each.holm[test] for each in pieces] == [each.holm[test] for each in words]


def test_one_seed_is_said_to_be_one(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, run(tmp_path, "teacher", 1), run(tmp_path, "student", 1))
    assert (found.p["t"], found.p["wilcoxon"]) == (None, None)
    assert found.p["examples"] is not None and found.interval is not None and found.marked
    assert found.notes == (
        "one seed: the interval is over examples alone",
        "one seed says nothing about the spread over seeds",
    )


def test_tests_take_the_seeds_that_both_have(tmp_path: Path) -> None:
    teacher = [run(tmp_path, "teacher", seed) for seed in (1, 2, 3, 4)]
    student = [run(tmp_path, "student", seed) for seed in (3, 2, 9)]
    (found,) = compared(tmp_path, *teacher, *student)
    assert (found.scores.n, found.of_teacher.n) == (3, 4)
    assert "tests over the 2 seeds that both have" in found.notes
    pairs = [rows_of(tmp_path, student[1], student[0])], [rows_of(tmp_path, teacher[1], teacher[2])]
    assert found.p["examples"] == randomization_test(*pairs, f1_of_sums)
    (apart,) = compared(tmp_path, teacher[0], student[0])
    assert set(apart.p.values()) == {None} and "no seed in common: no tests" in apart.notes
    assert apart.interval is not None


def test_folds_are_compared_as_a_whole(tmp_path: Path) -> None:
    changes = {"task": "GAD", "folds": 10}
    records = [run(tmp_path, m, s, fold=f, **changes) for m in ("teacher", "student") for s in (1, 2) for f in (1, 2)]
    (found,) = compared(tmp_path, *records)
    scores = [np.mean([r["metrics"]["f1"] for r in records if r["model"]["name"] == m]) for m in ("student", "teacher")]
    assert found.retained == pytest.approx(scores[0] / scores[1])
    assert "folds 1, 2 of 10 alone" in found.notes and found.marked


def test_without_counts_of_examples_the_ratio_alone_is_given(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, record("teacher", f1=80.0), record("student", f1=60.0))
    assert (found.retained, found.interval, found.p["examples"]) == (0.75, None, None)
    assert "no counts of single examples: no interval, no test over examples" in found.notes


def test_a_teacher_that_scores_nothing_leaves_nothing_to_retain(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, run(tmp_path, "teacher", 1, hit=0.0), run(tmp_path, "student", 1))
    assert (found.retained, found.interval) == (None, None)
    assert "the teacher's score is not above 0: nothing to retain" in found.notes


def test_models_are_chosen_and_unknown_ones_named(tmp_path: Path) -> None:
    records = [record(name, task) for name in ("teacher", "a", "b") for task in ("BC2GM", "JNLPBA")]
    assert [each.model for each in compared(tmp_path, *records, models=["b"])] == ["b", "b"]
    assert len(compared(tmp_path, *records, record("a", "GAD"))) == 4  # the teacher was not measured on GAD
    with pytest.raises(UserError, match=r"--models: no scores of 'c' on test \(one of a, b, teacher\)"):
        compared(tmp_path, *records, models=["a", "c"])
    with pytest.raises(UserError, match="--teacher: no scores of 'teacher'"):
        compared(tmp_path, record("a"))
    with pytest.raises(UserError, match="no model was measured whole on what teacher was measured on"):
        compared(tmp_path, record("teacher"), record("a", "GAD"))


def test_a_note_is_written_once(tmp_path: Path) -> None:
    runs = [run(tmp_path, m, s, hit=h) for m, h in (("teacher", 0.8), ("a", 0.7), ("b", 0.6)) for s in (1, 2)]
    found = compared(tmp_path, *runs)
    last = comparison_table(found, "teacher").notes[-1]
    assert last.startswith("All: 2 seeds: the t-test") and "; Wilcoxon's test of 2 pairs" in last
    a, b = found
    differing = comparison_table([a, replace(b, notes=("why", *b.notes))], "teacher").notes
    assert differing[-2:] == (last, "b, NCBI-disease, f1: why")


def test_the_command_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run(tmp_path, m, s, hit=h) for m, h in (("teacher", 0.8), ("stu_dent", 0.6)) for s in (1, 2)]
    path = str(write(tmp_path / "r.jsonl", *runs))
    assert main(["tables", "compare", "--records", path, "--teacher", "teacher"]) == 0
    head, _, row, *rest = capsys.readouterr().out.splitlines()
    assert head.startswith("| model | task, metric | score | teacher | retained | p, examples |")
    assert row.startswith("| stu_dent | NCBI-disease, f1 | ") and " % (" in row and row.count("|") == head.count("|")
    assert any("after Holm's correction for 1 comparison." in line for line in rest)
    assert any("2 seeds: the t-test assumes normal differences" in line for line in rest)
    for form in ("csv", "tex"):
        flags = ["--teacher", "teacher", "--format", form, "--output", str(tmp_path / "out")]
        assert main(["tables", "compare", "--records", path, *flags]) == 0
    assert "stu\\_dent & NCBI-disease, f1 & " in (tmp_path / "out" / "compare.tex").read_text()
    assert main(["tables", "compare", "--records", path]) == 2
    assert "--teacher" in capsys.readouterr().err


@pytest.mark.parametrize(
    "flags", [["--teacher", "a"], ["compare", "--trace", "a,b"], ["compare", "--into", "README.md"]]
)
def test_flags_of_other_tables_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str]
) -> None:
    assert main(["tables", *flags, "--records", str(write(tmp_path / "r.jsonl", record()))]) == 2
    assert "only applies to `tables " in capsys.readouterr().err
