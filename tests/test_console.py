"""Names of a user's data in the terminal: whatever their length, a line stays readable."""

import pytest

from compact_biomed.benchmarks.readers.columns import layout_of
from compact_biomed.benchmarks.readers.rows import Rows
from compact_biomed.console import aligned, listed, shortened
from compact_biomed.evaluation.analysis.printed import change_lines, line_of, lines_of
from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.evaluation.monitor import Monitor

LONG = "the class of " + "letters " * 700


@pytest.mark.parametrize("name", ["", "Disease", "x" * 60])
def test_short_names_stay(name: str) -> None:
    assert shortened(name) == name == listed([name])


@pytest.mark.parametrize("most", [10, 60, 200])
def test_a_long_name_keeps_its_begin_and_its_end(most: int) -> None:
    short = shortened(LONG, most)
    assert len(short) == most and short.startswith("the cl") and short.endswith("ers") and short.count("…") == 1
    assert shortened(f"a\n{LONG}\t\rb").isprintable()


def test_no_line_is_thousands_of_columns_wide() -> None:
    scores = {"tp": 6, "fp": 2, "fn": 4, "precision": 75.0, "recall": 60.0, "f1": 66.67, "support": 10}
    label_scores = {"by_label": {LONG: scores, "b": scores}, "micro": scores, "macro": scores}
    confusion = {"largest": [{"gold": LONG, "predicted": LONG[::-1], "number": 4}]}
    calibration = {"predictions": 16, "ece": 4.0, "mean_score": 79.0, "right": 75.0, "bins": []}
    record = {"analysis": label_scores | {"confusion": confusion, "calibration": calibration}}
    rows = Rows((LONG, "text"), [{LONG: "a", "text": "frogs"}, {LONG: "b", "text": "mice"}], ["1", "2"])
    printed = {
        "table": lines_of([record]),
        "thresholds": change_lines(label_scores, label_scores, Thresholds({LONG: 0.5})),
        "aligned": [*aligned([("class", "F1"), (LONG, "3")])],
        "columns": [layout_of(rows, None, {"label": LONG}, "a").described],
        "bar": [Monitor(LONG).label],
    }
    assert {name for name, lines in printed.items() for line in lines if len(line) > 250 or "\n" in line} == set()
    assert all(any("…" in line for line in lines) for lines in printed.values())
    assert LONG in line_of(record)  # of the page, where lines are broken
