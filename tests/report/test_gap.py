"""The gap to a teacher: its share by hand, intervals that are honest about small gaps, clear words for wrong names."""

import math
from pathlib import Path

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.cli import main
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.gap import Gap, gap_table, gaps
from compact_biomed.report.render import markdown
from compact_biomed.report.resampling import joint_draws, retention_draws


def run(folder: Path, model: str, seed: int, hit: float, **changes) -> dict:
    rng = np.random.default_rng([seed, *map(ord, model)])
    tp = rng.binomial(2, hit, 400)
    rows = np.stack([tp, rng.binomial(1, 0.1, 400), 2 - tp], 1)
    made = record(model, "NCBI-disease", seed, f1=float(f1_of_sums(rows.sum(0))), **changes)
    return with_counts(folder, made, ["tp", "fp", "fn"], rows)


def written(folder: Path, *, teacher: float = 0.9, longer: dict | None = None) -> Path:
    several = [run(folder, model, seed, hit) for model, hit in (("plain", 0.6), ("soft", 0.75)) for seed in (1, 2, 3)]
    other = [run(folder, "longer", 1, 0.6, **(longer or {}))]
    return write(folder / "r.jsonl", run(folder, "teacher", 1, teacher), *several, *other)


def found_in(path: Path, **options) -> list[Gap]:
    return gaps(score_lines(read_lines([path])), "plain", **{"teacher": "teacher", **options})


def test_gain_and_share_are_those_of_the_means(tmp_path: Path) -> None:
    soft, longer = found_in(written(tmp_path))
    model, baseline, teacher = (each.mean for each in soft.scores)
    assert soft.gain.value == pytest.approx(model - baseline)
    assert soft.closed.value == pytest.approx((model - baseline) / (teacher - baseline))
    assert soft.gain.low > 0 and 0 < soft.closed.low < soft.closed.value < soft.closed.high < 1
    assert soft.p_examples < 0.01 and soft.p_seeds < 0.05
    assert (longer.model, longer.p_seeds) == ("longer", None)  # one pair has no t-test
    assert longer.gain.low < 0 < longer.gain.high


def test_other_settings_may_be_compared(tmp_path: Path) -> None:
    settings = {"protocol": {**record()["protocol"], "overrides": {"epochs": 16}}}
    assert [each.model for each in found_in(written(tmp_path, longer=settings))] == ["soft", "longer"]


def test_a_teacher_that_is_hardly_better_leaves_the_share_open(tmp_path: Path) -> None:
    (soft,) = found_in(written(tmp_path, teacher=0.61), models=["soft"])
    assert math.isinf(soft.closed.high)
    assert "unbounded" in markdown(gap_table([soft]))


def test_a_teacher_below_the_baseline_has_no_gap(tmp_path: Path) -> None:
    (soft,) = found_in(written(tmp_path, teacher=0.3), models=["soft"])
    assert soft.closed is None and soft.gain.low > 0
    assert "the teacher is not above the baseline" in markdown(gap_table([soft]))


def test_retention_is_the_ratio_of_two() -> None:
    rng = np.random.default_rng(0)
    student, teacher = ([rng.integers(0, 3, (2, 50, 3))] for _ in range(2))
    value, drawn = retention_draws(student, teacher, f1_of_sums, resamples=100)
    again = joint_draws([student, teacher], f1_of_sums, lambda a, b: a / b, resamples=100)
    assert value == again[0] and (drawn == again[1]).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(written(tmp_path))
    assert main(["tables", "gap", "--records", path, "--teacher", "teacher", "--baseline", "plain"]) == 0
    assert capsys.readouterr().out == markdown(gap_table(found_in(Path(path))))
    assert main(["tables", "gap", "--records", path, "--models", "soft,teacher", "--baseline", "plain"]) == 0
    alone = capsys.readouterr().out
    assert "gap closed" not in alone.lower() and len(alone.splitlines()[0].split("|")) == 7 + 2
    assert alone == markdown(gap_table(found_in(Path(path), teacher=None, models=["soft", "teacher"])))
    assert main(["tables", "gap", "--records", path, "--teacher", "teacher"]) == 2
    assert "--baseline" in capsys.readouterr().err
    with pytest.raises(UserError, match="no scores of 'nobody'"):
        found_in(Path(path), models=["nobody"])


@pytest.mark.parametrize(
    ("part", "other", "said"),
    [
        ("data_sha256", {"test": "22", "dev": "11"}, "sha256 22"),
        ("version", 2, "version 2"),
    ],
)
def test_other_tests_are_not_compared(tmp_path: Path, part: str, other, said: str) -> None:
    path = write(tmp_path / "r.jsonl", run(tmp_path, "plain", 1, 0.6), run(tmp_path, "soft", 1, 0.7, **{part: other}))
    with pytest.raises(UserError, match=f"r.jsonl:2 and .*r.jsonl:1: .*not measured on the same test.*{said}"):
        found_in(path, teacher=None)


def test_other_folds_are_not_compared(tmp_path: Path) -> None:
    folds = [run(tmp_path, model, 1, 0.6, fold=fold) for model, fold in (("plain", 1), ("soft", 2))]
    with pytest.raises(UserError, match="not measured on the same test"):
        found_in(write(tmp_path / "r.jsonl", *folds), teacher=None)
