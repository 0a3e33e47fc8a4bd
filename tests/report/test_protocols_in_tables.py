"""Models that were fine-tuned in different ways share a table, which names how; one model gets a row for each way."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.cli import main
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.measured import Column
from compact_biomed.report.protocols import told_apart
from compact_biomed.report.scores import scores_by_row, scores_table, trace

NCBI = Column("NCBI-disease", "f1")
DISTILLED = {
    **{"teacher": "big", "teacher_sha256": "ab" * 32, "temperature": 2.0, "soft_weight": 1.0},
    **{"unlabelled": 5, "terms": {}},
}


def made(model: str = "m", task: str = "NCBI-disease", seed: int = 1, **changes: Any) -> dict:
    """A record; `changes` are those of the protocol, "settings", "train" and "dev" (checksums)."""
    result = record(model, task, seed)
    result["task"]["data_sha256"] |= {part: changes.pop(part) for part in ("train", "dev") if part in changes}
    result["settings"] = changes.pop("settings", {})
    result["protocol"] |= changes
    result["run"] += repr(sorted(changes.items())) + repr(result["settings"]) + repr(result["task"]["data_sha256"])
    return result


def grid_of(folder: Path, *records: dict) -> ScoreGrid:
    return score_grid(score_lines(read_lines([write(folder / "r.jsonl", *records)])))


def three(model: str, **changes: Any) -> list[dict]:
    return [made(model, seed=seed, **changes) for seed in (1, 2, 3)]


@pytest.mark.parametrize(
    ("other", "label", "how"),
    [
        ({"name": "thorough"}, "thorough", "protocol thorough, labels standard"),
        ({"level": "published"}, "standard, labels published", "protocol standard, labels published"),
        ({"overrides": {"epochs": 3}}, "standard, epochs 3", "in place of the protocol's: epochs 3"),
        ({"settings": {"batch_size": 16}}, "standard, batch size 16", "labels standard; batch size 16"),
        ({"choose_epochs": True}, "standard, choose epochs True", "labels standard; choose epochs True"),
        ({"train": "cd" * 9}, f"standard, train examples {'cd' * 6}", f"train examples {'cd' * 6}"),
        ({"dev": "cd" * 9}, f"standard, dev examples {'cd' * 6}", f"dev examples {'cd' * 6}"),
        (
            {"name": "distilled-standard", "distillation": DISTILLED},
            "distilled-standard",
            "distilled from big (abababababab), temperature 2, soft weight 1, 5 unlabeled texts",
        ),
    ],
)
def test_models_of_different_protocols_share_a_table_that_names_them(
    tmp_path: Path, other: dict, label: str, how: str
) -> None:
    grid = grid_of(tmp_path, *three("a", train="11"), *three("b", **{"train": "11", **other}))
    table = scores_table(grid)
    assert [head.key for head in table.heads] == ["model", "protocol", "parameters", NCBI.title]
    assert [row.cells[1].text for row in table.rows][1] == label
    assert "fine-tuned in different ways" in table.legend
    (note,) = [note for note in table.notes if note.startswith("NCBI-disease (b): version 1, ")]
    assert how in note and any(note.startswith("NCBI-disease (a): version 1, ") for note in table.notes)
    rows = scores_by_row(grid).rows
    assert [row.cells[4].text for row in rows] == [grid.how["a", NCBI], grid.how["b", NCBI]]


@pytest.mark.parametrize(
    ("ways", "names"),
    [
        ([{}, {"name": "thorough"}], ["m", "m (thorough)"]),
        ([{}, {"overrides": {"epochs": 3}}], ["m", "m (epochs 3)"]),
        ([{"name": "thorough"}, {"name": "published"}], ["m (published)", "m (thorough)"]),
        ([{"overrides": {"epochs": 3}}, {"name": "d", "distillation": DISTILLED}], ["m", "m (d)"]),
        ([{"settings": {"batch_size": 8}}, {"settings": {"batch_size": 9}}], ["m (batch size 8)", "m (batch size 9)"]),
        (
            [{}, {"overrides": {"epochs": 3}}, {"name": "thorough"}, {"name": "thorough", "overrides": {"epochs": 3}}],
            ["m", "m (standard, epochs 3)", "m (thorough)", "m (thorough, epochs 3)"],
        ),
        (
            [{}, *({"name": "distilled-standard", "distillation": DISTILLED | {"temperature": t}} for t in (2, 4))],
            ["m", "m (distilled-standard, temperature 2)", "m (distilled-standard, temperature 4)"],
        ),
    ],
)
def test_each_way_of_one_model_has_a_row(tmp_path: Path, ways: list[dict], names: list[str]) -> None:
    """The same name on every task; the order of records does not matter, and what is named so before stays so."""
    records = [
        made(task=task, seed=seed, **way) for task in ("BC2GM", "NCBI-disease") for way in ways for seed in (1, 2)
    ]
    grid = grid_of(tmp_path, *records)
    assert list(grid.models) == names
    assert {score.summary.n for score in grid.cells.values()} == {2} and len(grid.cells) == 2 * len(names)
    assert grid_of(tmp_path, *reversed(records)).models == grid.models
    again = told_apart(told_apart(lines := score_lines(read_lines([tmp_path / "r.jsonl"]))))
    assert sorted({line.model for line in again}) == names and len(again) == len(lines)
    assert trace(grid, f"{names[-1]},BC2GM").count("BC2GM, test") == 2


def test_one_way_per_task_is_one_row(tmp_path: Path) -> None:
    grid = grid_of(tmp_path, made(), made(task="BC2GM", name="thorough"))
    assert grid.models == ("m",)
    assert [head.key for head in scores_table(grid).heads][:2] == ["model", "parameters"]


# ---- The commands, on one file of records as a user makes it


def counted(folder: Path, model: str, seed: int, hit: float, **changes: Any) -> dict:
    rng = np.random.default_rng([seed, *map(ord, model)])
    tp = rng.binomial(2, hit, 40)
    rows = np.stack([tp, rng.binomial(1, 0.1, 40), 2 - tp], 1)
    line = made(model, seed=seed, **changes)
    line["metrics"]["f1"] = float(f1_of_sums(rows.sum(0)))
    return with_counts(folder, line, ["tp", "fp", "fn"], rows)


@pytest.fixture
def mixed(tmp_path: Path) -> str:
    """A teacher, a student with and without it, and the student's export."""
    taught = {"name": "distilled-standard", "distillation": DISTILLED}
    teacher = counted(tmp_path, "big", 1, 0.9, overrides={"epochs": 4}) | {"how": {"precision": "bfloat16"}}
    students = [counted(tmp_path, "tiny", seed, 0.6) for seed in (1, 2)]
    distilled = [
        counted(tmp_path, "tiny", seed, 0.8, **taught) | {"how": {"precision": "bfloat16"}} for seed in (1, 2, 3)
    ]
    export = counted(tmp_path, "tiny ONNX int8", 1, 0.78, **taught)
    export |= {"of": distilled[0]["run"], "how": {"engine": "ONNX int8"}}
    return str(write(tmp_path / "r.jsonl", teacher, *students, *distilled, export))


def test_scores_compare_and_gap_take_a_student_and_its_teacher(mixed: str, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("big", "tiny", "tiny (distilled-standard)", "tiny ONNX int8")
    explained = "tiny ONNX int8: the fine-tuned weights of tiny (distilled-standard), scored again without training"
    for of in ([], ["compare", "--teacher", "big"], ["gap", "--baseline", "tiny", "--teacher", "big"]):
        assert main(["tables", *of, "--records", mixed]) == 0
        shown = capsys.readouterr().out
        assert all(f"| {name} |" in shown for name in names if not of or name not in of)
        assert "NCBI-disease (big): version 1, protocol standard, labels standard; in place of" in shown
        assert explained in shown and "end of its fine-tuning, in bf16" in shown
    only = ["--models", "tiny ONNX int8, tiny (distilled-standard)"]
    assert main(["tables", "compare", "--records", mixed, "--teacher", "big", *only]) == 0
    assert "| tiny |" not in capsys.readouterr().out
    assert main(["tables", "compare", "--records", mixed, "--teacher", "tinny"]) == 2
    assert "one of big, tiny, tiny (distilled-standard), tiny ONNX int8" in capsys.readouterr().err
