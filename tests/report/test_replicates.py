"""Several trainings of a model: means of means, a variance among trainings that is recovered, nothing mixed."""

from pathlib import Path

import numpy as np
import pytest
from score_records import record, with_counts, write

from compact_biomed.benchmarks.metrics import FROM_COUNTS
from compact_biomed.errors import UserError
from compact_biomed.records.lines import read_lines, score_lines
from compact_biomed.report.claims import best_of, claims_tables, judge
from compact_biomed.report.compare import compare
from compact_biomed.report.contrasts import by_model_and_column, contrast
from compact_biomed.report.grid import score_grid
from compact_biomed.report.measured import measure
from compact_biomed.report.render import markdown
from compact_biomed.report.replicates import TrainingVariance, training_variance, variance_of
from compact_biomed.report.resampling import joint_draws
from compact_biomed.report.scores import scores_table
from compact_biomed.report.statistics import summarize_trainings

COLUMNS, F1 = FROM_COUNTS["f1"]


def trained(model: str, seed: int, pretraining: int, f1: float, weights: str = "", how: str = "c", **more) -> dict:
    made = record(model, seed=seed, f1=f1, **more)
    made["run"] += f"-{pretraining}{weights}"
    made["model"]["weights_sha256"] = weights or f"{model}{pretraining}" * 9
    made["model"]["training"] = {"seed": pretraining, "configuration": how}
    return made


def measured(folder: Path, *records: dict):
    return measure(score_lines(read_lines([write(folder / "r.jsonl", *records)])))


def counted(folder: Path, model: str, pretraining: int, seed: int, hit: float) -> dict:
    """Return a record of a model that finds a share of 200 entities, with its counts."""
    rng = np.random.default_rng([pretraining, seed, *map(ord, model)])
    found = rng.random(200) < hit
    counts = np.stack([found, ~found, ~found], axis=1).astype(float)
    made = trained(model, seed, pretraining, float(F1(counts.sum(0))))
    return with_counts(folder, made, COLUMNS, counts)


def test_the_mean_is_that_of_the_trainings_means(tmp_path: Path) -> None:
    runs = [("a", 1, 42, 80.0), ("a", 2, 42, 82.0), ("a", 3, 42, 84.0), ("a", 1, 43, 70.0)]
    grid = score_grid(score_lines(read_lines([write(tmp_path / "r.jsonl", *(trained(*run) for run in runs))])))
    (score,) = grid.cells.values()
    assert score.summary.mean == (82 + 70) / 2 and (score.summary.n, score.summary.trainings) == (4, 2)
    assert score.notes[0] == "2 trainings, pretraining seeds 42, 43"
    assert "76.00 ± 6.22 (4 of 2 trainings)" in markdown(scores_table(grid))


def test_the_best_is_that_of_the_highest_mean_of_trainings(tmp_path: Path) -> None:
    """By the mean over runs, 75, `a` would be the best; by that over trainings it has 70."""
    runs = [*(trained("a", seed, 42, 80.0) for seed in (1, 2, 3)), trained("a", 1, 43, 60.0)]
    both = measured(tmp_path, *runs, trained("b", 1, 42, 72.0))
    assert best_of(("a", "b"), by_model_and_column(both, on_pieces=False)) == "b"


def test_one_training_is_summarized_as_ever(tmp_path: Path) -> None:
    (one,) = measured(tmp_path, *(trained("a", seed, 42, 80.0 + seed) for seed in (1, 2, 3)))
    assert one.summary() == summarize_trainings([[81.0, 82.0, 83.0]]) and one.summary().trainings == 1
    assert one.trainings == 1 and one.groups == [3] and not one.notes


def test_a_seed_that_was_trained_twice_is_two_trainings(tmp_path: Path) -> None:
    """On another machine the same seed gives other bits."""
    runs = [trained("a", 1, 42, 80.0, "ab" * 32), trained("a", 1, 42, 81.0, "cd" * 32)]
    (one,) = measured(tmp_path, *runs)
    assert one.notes == ("2 trainings, pretraining seeds 42 (ababab), 42 (cdcdcd)",)


@pytest.mark.parametrize("other", [{"how": "d"}, {"how": None}])
def test_trainings_of_other_settings_do_not_mix(tmp_path: Path, other: dict) -> None:
    one, two = trained("a", 1, 42, 80.0), trained("a", 1, 43, 80.0, **other)
    if other["how"] is None:
        del two["model"]["training"]
    with pytest.raises(UserError, match="weights would mix"):
        measured(tmp_path, one, two)


@pytest.mark.parametrize(("among", "within"), [(3.0, 1.0), (0.5, 1.0), (0.0, 1.0)])
def test_the_variance_among_trainings_is_recovered(among: float, within: float) -> None:
    rng = np.random.default_rng(5)
    found = []
    for _ in range(300):
        models = [[(80 + rng.normal(0, among) + rng.normal(0, within, n)).tolist() for n in (5, 3)] for _ in range(7)]
        estimate = training_variance(models)
        assert estimate.freedom == 7
        found.append(estimate.variance)
    # Estimates below 0 are 0, so the mean is a little too high where there is no such variance.
    assert np.mean(found) == pytest.approx((among / 80) ** 2, rel=0.15, abs=(0.4 / 80) ** 2)


def test_no_variance_without_a_model_that_was_trained_twice() -> None:
    assert training_variance([[[1.0, 2.0]], [[3.0]]]) is None
    assert TrainingVariance(1.0, 3).factors(0, 4, np.random.default_rng(0)).tolist() == [1.0] * 4
    many = TrainingVariance(0.01**2, 50).factors(4, 20_000, np.random.default_rng(0))
    assert many.std() == pytest.approx(0.005, rel=0.05) and many.mean() == pytest.approx(1, abs=1e-3)


def test_seeds_are_drawn_within_their_training() -> None:
    """All entities found in one training, none in the other: every resample has half of them."""
    one, none = np.tile([1.0, 0, 0], (10, 1)), np.tile([0.0, 1, 1], (10, 1))
    value, drawn = joint_draws([[np.stack([one, one, none])]], F1, lambda a: a, resamples=50, groups=[[2, 1]])
    assert value == 50 and (drawn == 50).all()


def test_intervals_grow_by_what_other_trainings_change(tmp_path: Path) -> None:
    seeds = [(pretraining, seed) for pretraining in (42, 43) for seed in (1, 2, 3)]
    models = {name: 0.5 + 0.02 * number for number, name in enumerate("abcdef")}
    apart = {42: 0.08, 43: -0.08}
    lines = [counted(tmp_path, name, p, s, hit + apart[p]) for name, hit in models.items() for p, s in seeds]
    cells = by_model_and_column(measured(tmp_path, *lines), on_pieces=False)
    several = contrast(cells, "a", "b", 1.0)
    once = contrast({key: each for key, each in cells.items() if key[0] in "ab"}, "a", "b", 1.0)
    assert several.freedom == 6 and once.freedom == 2 and once.ratio.value == several.ratio.value
    among = variance_of(cells, several.columns)
    assert 0.1 < among.variance**0.5 < 0.3  # 16 points apart, of about 55: a deviation of 0.2
    alone = [line for line in lines if line["model"]["training"]["seed"] == 42]
    single = contrast(by_model_and_column(measured(tmp_path, *alone), on_pieces=False), "a", "b", 1.0)
    width, of_single = (each.ratio.high - each.ratio.low for each in (several, single))
    assert single.freedom == 0 and width > 1.5 * of_single
    chosen = score_lines(read_lines([write(tmp_path / "r.jsonl", *lines)]))
    compared = next(each for each in compare(chosen, "b") if each.model == "a")
    assert compared.interval.high - compared.interval.low > 1.5 * of_single
    assert any("take the trainings as they are" in note for note in compared.notes)


def test_the_claims_say_whether_another_pretraining_is_in_them(tmp_path: Path) -> None:
    for seeds, said in (((42,), "pretrained once"), ((42, 43), "2 degrees of freedom")):
        names = ("BioMiniLM", "MiniLM")
        lines = [counted(tmp_path, name, p, s, 0.6) for name in names for p in seeds for s in (1, 2, 3)]
        chosen = score_lines(read_lines([write(tmp_path / "r.jsonl", *lines)]))
        legends = {table.legend for table in claims_tables(judge(chosen, resamples=99), [])}
        assert len(legends) == 1 and said in legends.pop()
        (tmp_path / "r.jsonl.counts").unlink()
