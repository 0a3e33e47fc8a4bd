"""The trivial baseline is the best constant answer; where no model is above it, a set is not counted."""

from itertools import chain, combinations
from pathlib import Path

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.examples import TextExample
from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.evaluation.scoring import score_classes, score_multilabel, score_numbers, score_relations
from compact_biomed.records.lines import Line, read_lines, score_lines
from compact_biomed.report.claims import claims_tables, judge
from compact_biomed.report.compare import compare, comparison_table
from compact_biomed.report.contrasts import by_model_and_column
from compact_biomed.report.grid import score_grid
from compact_biomed.report.headline import headline_table
from compact_biomed.report.measured import measure
from compact_biomed.report.render import markdown
from compact_biomed.report.scores import not_counted_notes, scores_table
from compact_biomed.report.trivial import trivial_score


def texts(labels) -> list[TextExample]:
    return [TextExample(str(i), "t", None, label) for i, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("kind", "metric", "scorer", "labels", "answers"),
    [
        ("relation", "f1", score_relations, "0111010", "01"),
        ("relation", "f1", score_relations, ["false", "CPR:3", "CPR:4", "CPR:4"], ["false", "CPR:3", "CPR:4"]),
        ("classification", "accuracy", score_classes, ["yes", "no", "yes", "maybe"], ["yes", "no", "maybe"]),
        (
            *("multilabel", "f1", score_multilabel, [("a",), ("a", "b"), (), ("b", "c"), ("a",)]),
            list(chain.from_iterable(combinations("abc", n) for n in range(4))),
        ),
    ],
)
def test_it_is_the_best_of_all_constant_answers(kind, metric, scorer, labels, answers) -> None:
    examples = texts(labels)
    scores = [scorer(examples, [answer] * len(examples)) for answer in answers]
    made = {"task": {"name": "any", "kind": kind}, "counts": scores[0].counts}
    assert trivial_score(made) == pytest.approx(max(each.metrics[metric] for each in scores))


@pytest.mark.parametrize(
    ("name", "kind", "counts", "expected"),
    [
        ("GAD", "relation", {"examples": 534, "positives": 281}, pytest.approx(68.957, abs=1e-3)),
        ("CHEMPROT", "relation", {"examples": 534, "positives": 281}, None),
        ("HoC", "multilabel", {"examples": 9, "labels": 9}, None),
        ("NCBI-disease", "ner", {"sentences": 9}, None),
    ],
)
def test_what_records_do_not_tell_is_not_guessed(name: str, kind: str, counts: dict, expected) -> None:
    assert trivial_score({"task": {"name": name, "kind": kind}, "counts": counts}) == expected


def relation(folder: Path, model: str, seed: int, hit: float, n: int = 200) -> dict:
    """Return a record on GAD of a model that is right with this probability; half of the pairs are related."""
    rng = np.random.default_rng([seed, *map(ord, model)])
    gold, right = np.arange(n) % 2, rng.random(n) < hit
    rows = np.stack([gold & right, (1 - gold) & ~right, gold & ~right], 1).astype(int)
    scores = record(model, "GAD", seed, metrics={"f1": float(f1_of_sums(rows.sum(0))), "macro_f1": 50.0 + seed})
    scores["task"] |= {"kind": "relation", "fold": 1, "folds": 10}
    scores["counts"] = {"examples": n, "positives": n // 2}
    return with_counts(folder, scores, ["tp", "fp", "fn"], rows)


def entities(folder: Path, model: str, seed: int, hit: float, n: int = 100) -> dict:
    rng = np.random.default_rng([seed, *map(ord, model)])
    tp = rng.binomial(2, hit, n)
    rows = np.stack([tp, 0 * tp, 2 - tp], 1)
    scores = record(model, seed=seed, f1=float(f1_of_sums(rows.sum(0))))
    scores["task"]["kind"] = "ner"
    return with_counts(folder, scores, ["tp", "fp", "fn"], rows)


def lines_of(folder: Path, teacher: float, student: float) -> list[Line]:
    made = []
    for model, hit, found in (("BioMiniLM", teacher, 0.8), ("TinyBioBERT", student, 0.6)):
        for seed in (1, 2, 3):
            made += [relation(folder, model, seed, hit), entities(folder, model, seed, found)]
    return score_lines(read_lines([write(folder / "r.jsonl", *made)]))


def test_a_set_on_which_no_model_has_learned_is_not_counted(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, 0.55, 0.5)
    grid = score_grid(lines)
    (column,) = grid.not_counted
    assert column.task == "GAD" and grid.trivial == {column: pytest.approx(100 * 2 / 3)}
    assert {each.task for _, each in by_model_and_column(measure(lines), on_pieces=False)} == {"NCBI-disease"}
    table = markdown(scores_table(grid))
    assert "| always the same answer | 66.67 |  |" in table
    assert "macro-F1 52.00 ± 1.00; always the same answer: 66.67" in table
    why = "no model is above 66.67, the score of always giving the same answer"
    assert f"- GAD: in no mean over tasks, retained share or claim, because {why}." in table
    first = markdown(headline_table(grid, lines))
    assert why in first and "Mean: over the task" in first
    mean, retained = (cell.strip() for cell in first.splitlines()[3].split("|")[3:5])
    scores = [grid.cells["TinyBioBERT", each].summary.mean for each in grid.columns if each.task == "NCBI-disease"]
    assert mean.startswith(f"{scores[0]:.2f} ±") and "of 2 tasks" not in retained
    by_task = {each.column.task: each for each in compare(lines, "BioMiniLM")}
    assert by_task["GAD"].retained is None and set(by_task["GAD"].p.values()) == {None}
    alone = {each.column.task: each for each in compare([x for x in lines if x.task != "GAD"], "BioMiniLM")}
    assert by_task["NCBI-disease"].holm == alone["NCBI-disease"].holm  # corrected for one comparison
    assert why in markdown(comparison_table(list(by_task.values()), "BioMiniLM"))
    judged = judge(lines, resamples=99)
    assert {each.task for one in judged for contrast in one.contrasts for each in contrast.columns} == {"NCBI-disease"}
    assert why in claims_tables(judged, [], not_counted_notes(grid, grid.columns))[-1].notes[-1]


def test_one_model_that_has_learned_is_enough(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, 0.85, 0.5)
    grid = score_grid(lines)
    assert not grid.not_counted and len(grid.trivial) == 1
    assert {each.column.task: each.retained is None for each in compare(lines, "BioMiniLM")} == {
        "GAD": False,
        "NCBI-disease": False,
    }


def test_scores_without_training_have_no_seeds_and_spearman_beside_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = rng.random(50)
    scores = score_numbers(texts(labels), (labels + rng.normal(0, 0.1, 50)).tolist())
    made = record("M", "BIOSSES (zero-shot)", 0, metric="pearson", metrics=scores.metrics)
    made["task"]["kind"] = "similarity"
    rows = np.array([list(row.values()) for row in scores.per_example])
    made = with_counts(tmp_path, made, list(scores.per_example[0]), rows)
    grid = score_grid(score_lines(read_lines([write(tmp_path / "r.jsonl", made)])))
    (cell,) = grid.cells.values()
    assert not cell.marked and list(grid.not_counted.values()) == ["nothing is trained, so there are no seeds"]
    (note,) = cell.notes
    low, high = (float(word.strip(")")) for word in note.split("interval ")[1].split(" to "))
    assert (
        note.startswith(f"Spearman {scores.metrics['spearman']:.2f} (95 % ") and low < scores.metrics["spearman"] < high
    )
