"""Scores per type and class: seqeval's and scikit-learn's, and their sums are the reported F1."""

import random
from dataclasses import replace

import numpy as np
import pytest
from analysis_inputs import SEVERAL, random_choices, random_tags
from seqeval.metrics.v1 import precision_recall_fscore_support as seqeval_scores
from seqeval.scheme import IOB2
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from compact_biomed.benchmarks.metrics import f1_of_sums
from compact_biomed.benchmarks.tags import entities_of
from compact_biomed.evaluation.analysis.summary import MOST_CLASSES, ROWS, label_table, lines_of, markdown
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.scoring import strict_entities
from compact_biomed.record_shapes import check_record


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


def record_of(kind: str, analysis: dict, **more) -> dict:
    return {"record": "scores", "task": {"kind": kind}, "analysis": analysis, **more}


def test_a_table_of_many_classes_is_short_and_says_so() -> None:
    classes = [f"class {number:02d}" for number in range(MOST_CLASSES + 1)]
    examples, predictions = random_choices(5, classes, 400)
    analysis = KINDS["classification"].analyze(examples, predictions, classes)
    assert "counts" not in analysis["confusion"]
    record = record_of("classification", analysis)
    check_record(record, where="r", remedy="")
    table = label_table([record])
    assert [row[4] for row in table.rows] == sorted((row[4] for row in table.rows), reverse=True)
    lines = lines_of([record])
    assert lines[0].split() == ["class", "precision", "recall", "F1", "support"]
    assert len([line for line in lines if line.startswith("class ")]) == ROWS  # the heading and one less
    assert f"and {len(table.rows) - ROWS + 1} classes that are rarer" in lines
    assert any(line.startswith("largest confusions: class") for line in lines)
    assert all(f"| {name} |" in markdown(record) for name in classes)


def test_runs_of_one_model_are_averaged() -> None:
    runs = []
    for seed in (1, 2):
        examples, predictions = random_tags(seed, 40)
        runs.append(record_of("ner", KINDS["ner"].analyze(examples, predictions, []), seed=seed))
    table = label_table(runs)
    mean = np.mean([run["analysis"]["by_label"]["X"]["f1"] for run in runs])
    support = np.mean([run["analysis"]["by_label"]["X"]["support"] for run in runs])
    assert next(row[3:] for row in table.rows if row[0] == "X") == pytest.approx((mean, support))
    assert table.runs == 2 and [row[0] for row in table.averages] == ["micro average", "macro average"]
    assert lines_of([{"task": {"kind": "ner"}}]) == [] and markdown({"task": {"kind": "ner"}}) == ""


def test_a_model_that_finds_nothing_is_told_what_helps() -> None:
    examples, predictions = random_tags(1, 40)
    silent = [replace(each, tags=["O"] * len(each.tags)) for each in predictions]
    runs = [record_of("ner", KINDS["ner"].analyze(examples, each, [])) for each in (silent, predictions)]
    helps = "it found nothing in any example: train for more --epochs, or at a higher --learning-rate"
    assert helps in lines_of(runs[:1])
    assert any(line.startswith("it found nothing in any example in 1 of 2 runs: ") for line in lines_of(runs))
    assert not any("found nothing" in line for line in lines_of(runs[1:]))
