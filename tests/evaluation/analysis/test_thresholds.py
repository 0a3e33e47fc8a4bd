"""Thresholds: brute force, scikit-learn's curve, cases by hand."""

import numpy as np
import pytest
from analysis_inputs import SEVERAL, random_choices, random_tags
from sklearn.metrics import f1_score, precision_recall_curve

from compact_biomed.errors import UserError
from compact_biomed.evaluation.analysis.analyze import label_scores
from compact_biomed.evaluation.analysis.candidates import FEWEST, best_threshold
from compact_biomed.evaluation.analysis.printed import change_lines
from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.inference.engines import requested


def f1_at(threshold: float, scores: np.ndarray, right: np.ndarray, support: int) -> float:
    kept = scores >= threshold
    return 2 * (kept & right).sum() / max(kept.sum() + support, 1)


@pytest.mark.parametrize("seed", range(6))
def test_no_threshold_is_better_than_the_best(seed: int) -> None:
    chance = np.random.default_rng(seed)
    n, missed = 40, 5 * (seed % 3)
    scores = chance.uniform(size=n).round(1 if seed % 2 else 6)  # with and without equal scores
    right = chance.uniform(size=n) < scores
    support = int(right.sum()) + missed
    found = best_threshold(scores, right, support, default=0.5)
    every = [f1_at(t, scores, right, support) for t in [0, *scores, 1.1]]
    assert f1_at(found, scores, right, support) == pytest.approx(max(every))
    if not missed:
        precision, recall, _ = precision_recall_curve(right, scores)
        curve = 2 * precision * recall / np.maximum(precision + recall, 1e-9)
        assert f1_at(found, scores, right, support) == pytest.approx(curve.max())


@pytest.mark.parametrize(
    ("scores", "right", "support", "default", "expected"),
    [
        ([], [], 3, 0.5, 0.5),  # nothing to choose by
        ([0.9, 0.8, 0.2], [1, 1, 0], 2, 0.0, 0.5),  # in the middle between the two
        ([0.9, 0.8, 0.2], [1, 1, 0], 2, 0.5, 0.5),  # the default is as good
        ([0.9, 0.4, 0.2], [1, 1, 0], 2, 0.5, 0.3),
        ([0.9, 0.4, 0.2], [1, 1, 1], 3, 0.5, 0.0),  # all
        ([0.9, 0.9, 0.9], [1, 0, 0], 1, 0.0, 0.0),  # equal scores stay together
        ([0.6, 0.5], [0, 0], 4, 0.0, 0.0),  # all are wrong whatever the threshold
    ],
)
def test_the_threshold_by_hand(scores, right, support: int, default: float, expected: float) -> None:
    found = best_threshold(np.array(scores, float), np.array(right, bool), support, default=default)
    assert found == pytest.approx(expected)


def test_thresholds_on_the_set_they_were_chosen_on_never_lower_a_type() -> None:
    examples, predictions = random_tags(3, 150)
    candidates = KINDS["ner"].candidates(examples, predictions, [])
    thresholds, rare = candidates.best_thresholds()
    before, after = (label_scores(each) for each in (candidates, candidates.with_thresholds(thresholds)))
    assert not rare and {*thresholds.values} == {"X", "Y", "Z"}
    assert all(after["by_label"][name]["f1"] >= row["f1"] for name, row in before["by_label"].items())
    assert after["micro"]["f1"] > before["micro"]["f1"]
    raised = candidates.with_thresholds(Thresholds(default=0.9))
    assert (raised.predicted == (candidates.score >= 0.9)).all() and raised.counts().sum(1).min() > 0
    lines = change_lines(before, after, thresholds)
    assert lines[0].split() == ["threshold", "precision", "recall", "F1"] and len(lines) == 6
    assert f"{thresholds.of('X'):.3f}" in next(line for line in lines if line.startswith("X"))


def test_each_of_several_classes_has_its_own_threshold() -> None:
    examples, predictions = random_choices(8, SEVERAL, 120, several=True)
    candidates = KINDS["multilabel"].candidates(examples, predictions, SEVERAL)
    thresholds, _ = candidates.best_thresholds()
    p = np.array([each.probabilities for each in predictions])
    gold = np.array([[name in each.label for name in SEVERAL] for each in examples])
    lowest = np.array([thresholds.of(name) for name in SEVERAL])
    kept = candidates.with_thresholds(thresholds)
    assert (kept.predicted.reshape(p.shape) == (p >= lowest)).all()
    scores = label_scores(kept)
    assert scores["macro"]["f1"] == pytest.approx(100 * f1_score(gold, p >= lowest, average="macro"), abs=1e-4)
    assert scores["macro"]["f1"] >= label_scores(candidates)["macro"]["f1"]
    same = candidates.with_thresholds(Thresholds(default=0.5))
    assert (same.predicted == candidates.predicted).all()


def test_one_class_below_its_threshold_is_none_or_the_negative_class() -> None:
    p = [0.5, 0.3, 0.2]
    choose = Thresholds({"a": 0.6, "b": 0.25}).choose
    assert choose(list("abc"), p, several=False) == []  # the likeliest, and it is too low
    assert Thresholds({"a": 0.4}).choose(list("abc"), p, several=False) == [0]
    assert choose(list("abc"), p, several=True) == [1, 2]
    relation = Thresholds({"b": 0.25, "c": 0.1}, 0.5, otherwise="a")
    assert relation.choose(list("abc"), p, several=False) == [1]  # the likeliest of those that reach theirs
    assert Thresholds({"b": 0.4, "c": 0.4}, 0.5, otherwise="a").choose(list("abc"), p, several=False) == [0]


@pytest.mark.parametrize("classes", [["0", "1"], ["CPR:3", "CPR:4", "false"]])
def test_relations_below_their_threshold_are_no_relations(classes: list[str]) -> None:
    negative = "0" if "0" in classes else "false"
    examples, predictions = random_choices(9, classes, 200)
    candidates = KINDS["relation"].candidates(examples, predictions, classes)
    thresholds, _ = candidates.best_thresholds()
    assert thresholds.otherwise == negative and negative not in thresholds.values
    kept = candidates.with_thresholds(thresholds)
    rows = kept.predicted.reshape(-1, len(classes))
    assert (rows.sum(1) == 1).all()
    if len(classes) == 2:
        p = np.array([each.probabilities[1] for each in predictions])
        assert (rows[:, 1] == (p >= thresholds.of("1"))).all()
        assert label_scores(kept)["micro"]["f1"] >= label_scores(candidates)["micro"]["f1"]


def test_a_rare_label_keeps_the_default() -> None:
    examples, predictions = random_choices(10, ["a", "b"], 60)
    few = [each for each in zip(examples, predictions, strict=True) if each[0].label == "a"][: FEWEST - 1]
    many = [each for each in zip(examples, predictions, strict=True) if each[0].label == "b"]
    candidates = KINDS["classification"].candidates(*zip(*few, *many, strict=True), ["a", "b"])
    thresholds, rare = candidates.best_thresholds()
    assert rare == ("a",) and thresholds.of("a") == 0.0 and thresholds.otherwise is None


def test_what_a_user_asks_for() -> None:
    chosen = Thresholds({"1": 0.4}, 0.5, "0")
    assert requested("dev", chosen, where="m") is chosen
    assert requested(0.7, chosen, where="m") == Thresholds({}, 0.7, "0")
    assert requested(0.7, None, where="m") == Thresholds({}, 0.7, None)
    with pytest.raises(UserError, match=r"m: this model has no thresholds chosen on dev \(give a number"):
        requested("dev", None, where="m")
    for wrong in ("test", 1.5, float("nan")):
        with pytest.raises(UserError, match="is no threshold"):
            requested(wrong, chosen, where="m")
