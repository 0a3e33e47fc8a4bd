"""What is printed of the analysis in records: short tables, means of runs, what helps a model that finds nothing."""

from dataclasses import replace

import numpy as np
import pytest
from analysis_inputs import random_choices, random_tags

from compact_biomed.evaluation.analysis.analyze import MOST_CLASSES
from compact_biomed.evaluation.analysis.printed import ROWS, label_table, lines_of, markdown
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.records.shapes import check_record


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
