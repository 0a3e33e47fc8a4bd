"""The part `analysis` of a record: scores per type or class, near misses, confusions, calibration; and its tables.

It holds numbers only, no text of the test set.
"""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compact_biomed.benchmarks.examples import TextExample, WordsExample
from compact_biomed.benchmarks.partial_match import match_scores
from compact_biomed.benchmarks.tags import entities_of
from compact_biomed.console import aligned, markdown_table, shortened
from compact_biomed.evaluation.analysis.calibration import calibration
from compact_biomed.evaluation.analysis.candidates import Candidates
from compact_biomed.evaluation.analysis.errors import count_entity_errors
from compact_biomed.evaluation.analysis.thresholds import Thresholds
from compact_biomed.evaluation.features import Choice, TaggedWords

ROWS = 12  # of a printed table
MOST_CLASSES = 30  # with a confusion matrix in the record
LARGEST = 5  # confusions printed
HEADS = ("precision", "recall", "F1", "support")


# ---- into a record


def label_scores(candidates: Candidates) -> dict[str, Any]:
    """Return the scores of each type or class, and their averages, in percent.

    Returns:
        `by_label`: name -> tp, fp, fn, precision, recall, f1, support; labels that neither gold nor the model has are
        left out. `micro` and `macro`: of the labels that are counted (of relations, not "no relation"), as
        scikit-learn's `precision_recall_fscore_support` averages them.
    """
    counts = candidates.counts()
    occurs = counts.sum(1) > 0
    by_label = {
        name: {**dict(zip(("tp", "fp", "fn"), map(int, row), strict=True)), **_scores(row)}
        for name, row, here in zip(candidates.labels, counts, occurs, strict=True)
        if here
    }
    counted = [name for name, here in zip(candidates.labels, occurs & candidates.counted, strict=True) if here]
    of_counted = [by_label[name] for name in counted]
    mean = {part: statistics.fmean(row[part] for row in of_counted) if counted else 0.0 for part in _PARTS}
    summed = counts[candidates.counted].sum(0)
    total = int(candidates.support[candidates.counted].sum())
    return {
        "by_label": by_label,
        "micro": _scores(summed),
        "macro": {part: round(value, 4) for part, value in mean.items()} | {"support": total},
    }


_PARTS = ("precision", "recall", "f1")


def _scores(counts: Sequence[int]) -> dict[str, float]:
    tp, fp, fn = map(int, counts)
    values = (tp / max(tp + fp, 1), tp / max(tp + fn, 1), 2 * tp / max(2 * tp + fp + fn, 1))
    return {part: round(100 * value, 4) for part, value in zip(_PARTS, values, strict=True)} | {"support": tp + fn}


def analyze(candidates: Candidates) -> dict[str, Any]:
    """Return what every kind of types or classes has: `label_scores` and the calibration of what is predicted."""
    chosen = candidates.predicted
    measured = calibration(candidates.score[chosen], candidates.right[chosen])
    rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in measured.items()}
    return label_scores(candidates) | {"calibration": rounded}


def analyze_entities(examples: Sequence[WordsExample], predictions: Sequence[TaggedWords]) -> dict[str, Any]:
    """Return the errors of entities by kind, and scores that give credit for near misses (`partial_match`)."""
    pairs = zip(examples, predictions, strict=True)
    partial = match_scores((entities_of(example.tags), entities_of(each.tags)) for example, each in pairs)
    return {
        "errors": count_entity_errors(examples, predictions),
        "partial_match": {
            scheme: {name: round(value, 4) for name, value in row.items()} for scheme, row in partial.items()
        },
    }


def analyze_confusions(examples: Sequence[TextExample], predictions: Sequence[Choice]) -> dict[str, Any]:
    """Return how often each class was taken for each other one.

    Returns:
        `largest`: wrong pairs (gold, predicted, number), most frequent first. With at most `MOST_CLASSES` classes also
        `labels` and `counts`, one row per gold class, one column per predicted one.
    """
    pairs = Counter((example.label, each.label) for example, each in zip(examples, predictions, strict=True))
    wrong = sorted(((-n, gold, label) for (gold, label), n in pairs.items() if gold != label))
    largest = [{"gold": gold, "predicted": label, "number": -n} for n, gold, label in wrong[:MOST_CLASSES]]
    labels = sorted({label for pair in pairs for label in pair})
    if len(labels) > MOST_CLASSES:
        return {"confusion": {"largest": largest}}
    counts = [[pairs[gold, label] for label in labels] for gold in labels]
    return {"confusion": {"largest": largest, "labels": labels, "counts": counts}}


# ---- out of records


@dataclass(frozen=True)
class LabelTable:
    """Scores per type or class, the averages below them: of several runs, the means.

    Args:
        head: "type" or "class".
        rows: (name, precision, recall, F1, support), the most frequent first.
        averages: likewise, micro and macro; none if there is a single type or class.
        runs: how many.
    """

    head: str
    rows: list[tuple[str, float, float, float, float]]
    averages: list[tuple[str, float, float, float, float]]
    runs: int

    def texts(self, most: int = ROWS) -> list[tuple[str, ...]]:
        """Return rows of texts under `HEADS`: at most so many types or classes, then the averages."""
        shown = self.rows if len(self.rows) <= most else self.rows[: most - 1]
        return [(name, *(f"{x:.2f}" for x in numbers), f"{n:,.0f}") for name, *numbers, n in [*shown, *self.averages]]

    def left_out(self, most: int = ROWS) -> str | None:
        """Return a line on the rows that `texts` leaves out, or None."""
        hidden = len(self.rows) - (most - 1)
        plural = {"type": "types", "class": "classes"}[self.head]
        return f"and {hidden} {plural} that are rarer" if hidden > 1 else None


def label_table(records: Iterable[Mapping[str, Any]]) -> LabelTable | None:
    """Return the scores per type or class of the runs of one model on one task; None if no record has any.

    Precision, recall and F1 are means over the runs that have the label, in gold or in predictions; the support is the
    sum over folds.
    """
    measured = [record for record in records if "by_label" in record.get("analysis", {})]
    if not measured:
        return None
    seeds = len({record.get("seed") for record in measured})
    analyses = [record["analysis"] for record in measured]
    names = dict.fromkeys(name for analysis in analyses for name in analysis["by_label"])

    def mean_row(name: str, rows: list[Mapping[str, float]]) -> tuple[str, float, float, float, float]:
        means = (statistics.fmean(row[part] for row in rows) for part in _PARTS)
        return (name, *means, sum(row["support"] for row in rows) / seeds)

    by_name = {name: [each["by_label"][name] for each in analyses if name in each["by_label"]] for name in names}
    rows = sorted((mean_row(*item) for item in by_name.items()), key=lambda row: (-row[4], row[0]))
    averages = [mean_row(f"{name} average", [each[name] for each in analyses]) for name in ("micro", "macro")]
    head = "type" if measured[0].get("task", {}).get("kind") == "ner" else "class"
    return LabelTable(head, rows, averages if len(rows) > 1 else [], len(measured))


def lines_of(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is printed of the runs of one model on one task: the table, near misses, confusions, calibration."""
    table = label_table(records)
    if table is None:
        return []
    lines = [*aligned([(table.head, *HEADS), *table.texts()])]
    analyses = [record["analysis"] for record in records if "by_label" in record.get("analysis", {})]
    parts = (_nothing_found, _errors, _near_misses, _confusions, _calibration)
    notes = [table.left_out(), *(part(analyses) for part in parts)]
    return lines + [note for note in notes if note]


def line_of(record: Mapping[str, Any], most: int = 4) -> str:
    """Return the F1 of the most frequent types or classes of a run in one line; empty if there are none."""
    table = label_table([record])
    if table is None:
        return ""
    shown = [f"{name} {f1:.2f}" for name, _, _, f1, _ in table.rows[:most]]
    more = [f"{len(table.rows) - most} more"] if len(table.rows) > most else []
    return f"{', '.join([*shown, *more])}; calibration error {record['analysis']['calibration']['ece']:.1f} %"


def change_lines(before: Mapping[str, Any], after: Mapping[str, Any], thresholds: Thresholds) -> list[str]:
    """Return a table of what thresholds change: threshold, and precision, recall and F1 before -> after.

    Args:
        before, after: of `label_scores`.
    """
    names = sorted(before["by_label"], key=lambda name: (-before["by_label"][name]["support"], name))
    rows = [("", "threshold", *HEADS[:3])]
    for name in [*names[:ROWS], *(("micro", "macro") if len(names) > 1 else ())]:
        pair = [each["by_label"].get(name, _NOTHING) if name in names else each[name] for each in (before, after)]
        lowest = "" if name not in names or name == thresholds.otherwise else f"{thresholds.of(name):.3f}"
        label = name if name in names else f"{name} average"
        rows.append((label, lowest, *(f"{pair[0][part]:.2f} -> {pair[1][part]:.2f}" for part in _PARTS)))
    lines = [*aligned(rows)]
    return [*lines, f"and {len(names) - ROWS} that are rarer"] if len(names) > ROWS else lines


_NOTHING = {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 0}


def markdown(record: Mapping[str, Any]) -> str:
    """Return the scores per type or class of a run as Markdown, for the card of a model; empty if there are none."""
    table = label_table([record])
    if table is None:
        return ""
    lines = markdown_table((table.head, *HEADS), table.texts(most=10_000))
    notes = [_near_misses([record["analysis"]]), _calibration([record["analysis"]])]
    return "\n".join([lines, *(f"{note[0].upper()}{note[1:]}." for note in notes if note)]) + "\n"


def _nothing_found(analyses: Sequence[Mapping[str, Any]]) -> str | None:
    """Return what helps a model that gives no entity or label at all, as it does before it has learned the task."""
    silent = sum(each.get("calibration", {}).get("predictions") == 0 for each in analyses)
    if not silent:
        return None
    where = f" in {silent} of {len(analyses)} runs" if len(analyses) > 1 else ""
    return f"it found nothing in any example{where}: train for more --epochs, or at a higher --learning-rate"


def _errors(analyses: Sequence[Mapping[str, Any]]) -> str | None:
    errors: Counter[str] = Counter()
    for each in analyses:
        errors.update(each.get("errors", {}))
    return f"errors: {', '.join(f'{name} {n:,}' for name, n in errors.items() if n)}" if errors.total() else None


_CREDIT = {"exact": "whatever the type", "partial": "half credit for overlaps", "type": "any overlap of the type"}


def _near_misses(analyses: Sequence[Mapping[str, Any]]) -> str | None:
    measured = [each for each in analyses if "partial_match" in each]
    if not measured:
        return None
    means = {
        scheme: statistics.fmean(each["partial_match"][scheme]["f1"] for each in measured)
        for scheme in _CREDIT
        if scheme != "exact" or any(len(each["by_label"]) > 1 for each in measured)
    }
    return f"F1 with credit for near misses: {', '.join(f'{_CREDIT[name]} {f1:.2f}' for name, f1 in means.items())}"


def _confusions(analyses: Sequence[Mapping[str, Any]]) -> str | None:
    pairs: Counter[tuple[str, str]] = Counter()
    for each in analyses:
        for pair in each.get("confusion", {}).get("largest", ()):
            pairs[pair["gold"], pair["predicted"]] += pair["number"]
    if not pairs:
        return None
    largest = pairs.most_common(LARGEST)
    texts = (f"{shortened(gold)} taken for {shortened(label)} {number:,}" for (gold, label), number in largest)
    return f"largest confusions: {', '.join(texts)}"


def _calibration(analyses: Sequence[Mapping[str, Any]]) -> str | None:
    measured = [each["calibration"] for each in analyses if each.get("calibration", {}).get("predictions")]
    if not measured:
        return None
    score, right, ece = (float(np.mean([each[name] for each in measured])) for name in ("mean_score", "right", "ece"))
    return f"calibration: mean score {score:.1f} %, right {right:.1f} %, expected calibration error {ece:.1f} %"
