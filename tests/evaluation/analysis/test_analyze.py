"""What enters a record: scores per label as seqeval and scikit-learn have them, and calibration by hand."""

import random

import numpy as np
import pytest
from analysis_inputs import SEVERAL, random_choices, random_tags
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_scores
from seqeval.scheme import IOB2
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.benchmarks.tags import entities_of
from compact_biomed.evaluation.analysis.analyze import calibration
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.scoring import strict_entities


def of_parts(rows, part: str) -> list[float]:
    return [row[part] for row in rows]


def assert_rows(analysis: dict, labels: list[str], expected) -> None:
    """Compare with arrays of precision, recall, F1 and support."""
    rows = [analysis["by_label"][name] for name in labels]
    for part, values in zip(("precision", "recall", "f1", "support"), expected, strict=True):
        np.testing.assert_allclose(of_parts(rows, part), values * (1 if part == "support" else 100), atol=1e-4)


def test_entities_of_tags_are_those_of_seqeval() -> None:
    chance = random.Random(3)
    sentences = [chance.choices(["O", "B-X", "I-X", "B-Y", "I-Y"], k=chance.randint(1, 12)) for _ in range(300)]
    for tags, expected in zip(sentences, strict_entities(sentences), strict=True):
        found = entities_of(tags)
        assert {(entity.type, entity.start, entity.end) for entity in found} == expected and found == sorted(found)
    assert entities_of(["B", "I", "B", "O", "I"]) == [(0, 2, "Entity"), (2, 3, "Entity")]


def test_types_are_scored_as_seqeval_does() -> None:
    examples, predictions = random_tags(1, 80)
    analysis = KINDS["ner"].analyze(examples, predictions, [])
    gold, given = ([list(each.tags) for each in side] for side in (examples, predictions))
    labels = sorted({entity.type for tags in [*gold, *given] for entity in entities_of(tags)})
    options = {"scheme": IOB2, "zero_division": 0}
    assert_rows(analysis, labels, seqeval_scores(gold, given, average=None, **options))
    for average in ("micro", "macro"):
        expected = seqeval_scores(gold, given, average=average, **options)[:3]
        assert list(analysis[average].values())[:3] == pytest.approx([100 * x for x in expected], abs=1e-4)
    reported = KINDS["ner"].score(examples, predictions)
    rows = list(analysis["by_label"].values())
    summed = [sum(of_parts(rows, part)) for part in ("tp", "fp", "fn")]
    assert f1_of_sums(np.array(summed)) == pytest.approx(reported.metrics["f1"])
    assert analysis["micro"]["f1"] == pytest.approx(reported.metrics["f1"], abs=1e-4)
    assert analysis["partial_match"]["strict"]["correct"] == summed[0]
    wrong = analysis["errors"]
    assert sum(wrong.values()) - wrong["missed"] == summed[1] and sum(wrong.values()) - wrong["spurious"] == summed[2]


@pytest.mark.parametrize("kind", ["classification", "relation"])
def test_classes_are_scored_as_scikit_learn_does(kind: str) -> None:
    classes = ["CPR:3", "CPR:4", "false", "never"]
    examples, predictions = random_choices(2, classes, 150)
    examples = [each for each in examples if each.label != "never"]
    predictions = predictions[: len(examples)]
    analysis = KINDS[kind].analyze(examples, predictions, classes)
    gold, given = ([each.label for each in side] for side in (examples, predictions))
    counted = [name for name in sorted({*gold, *given}) if kind != "relation" or name != "false"]
    options = {"zero_division": 0}
    shown = sorted(analysis["by_label"])
    assert_rows(analysis, shown, precision_recall_fscore_support(gold, given, labels=shown, **options))
    for average in ("micro", "macro"):
        expected = precision_recall_fscore_support(gold, given, labels=counted, average=average, **options)[:3]
        assert list(analysis[average].values())[:3] == pytest.approx([100 * x for x in expected], abs=1e-4)
    metrics = KINDS[kind].score(examples, predictions).metrics
    reported = metrics["f1" if kind == "relation" else "accuracy"]
    assert analysis["micro"]["f1"] == pytest.approx(reported, abs=1e-4)
    confusion = analysis["confusion"]
    assert confusion["counts"] == confusion_matrix(gold, given, labels=confusion["labels"]).tolist()
    of_pairs = {(pair["gold"], pair["predicted"]): pair["number"] for pair in confusion["largest"]}
    assert sum(of_pairs.values()) == sum(a != b for a, b in zip(gold, given, strict=True))
    assert confusion["largest"][0]["number"] == max(of_pairs.values())


def test_several_classes_are_scored_as_scikit_learn_does() -> None:
    examples, predictions = random_choices(4, SEVERAL, 90, several=True)
    analysis = KINDS["multilabel"].analyze(examples, predictions, SEVERAL)
    gold, given = (
        np.array([[name in each.label for name in SEVERAL] for each in side]) for side in (examples, predictions)
    )
    assert_rows(analysis, SEVERAL, precision_recall_fscore_support(gold, given, zero_division=0))
    metrics = KINDS["multilabel"].score(examples, predictions).metrics
    assert analysis["micro"]["f1"] == pytest.approx(metrics["f1"], abs=1e-4)
    assert analysis["macro"]["f1"] == pytest.approx(metrics["macro_f1"], abs=1e-4)


def test_calibration_by_hand() -> None:
    # Two bins of 15: (0.6, 0.666...] with a mean of 0.65, half right; (0.933..., 1] with a mean of 0.95, all right.
    scores, right = np.array([0.64, 0.66, 0.94, 0.96]), np.array([True, False, True, True])
    found = calibration(scores, right)
    assert found["ece"] == pytest.approx(100 * (0.5 * 0.15 + 0.5 * 0.05))
    assert (found["mean_score"], found["right"]) == (pytest.approx(80), 75)
    assert [(i, n) for i, (n, _, _) in enumerate(found["bins"]) if n] == [(9, 2), (14, 2)]
    assert calibration(np.array([]), np.array([], bool))["ece"] == 0
    edges = calibration(np.array([0.0, 1.0, 3 / 15]), np.ones(3, bool))
    assert [i for i, (n, _, _) in enumerate(edges["bins"]) if n] == [0, 2, 14]


def test_what_is_right_as_often_as_its_score_says_is_calibrated() -> None:
    chance = np.random.default_rng(0)
    scores = chance.uniform(size=200_000)
    assert calibration(scores, chance.uniform(size=len(scores)) < scores)["ece"] < 0.5
    assert calibration(scores, np.ones(len(scores), bool))["ece"] == pytest.approx(50, abs=0.5)
