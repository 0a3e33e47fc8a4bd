"""What is printed of the part `analysis` of records: tables of scores per type or class, and lines below them."""

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from compact_biomed.console import aligned, markdown_table, shortened
from compact_biomed.evaluation.analysis.analyze import PARTS
from compact_biomed.evaluation.analysis.thresholds import Thresholds

ROWS = 12  # of a printed table
LARGEST = 5  # confusions printed
HEADS = ("precision", "recall", "F1", "support")


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
        means = (statistics.fmean(row[part] for row in rows) for part in PARTS)
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
        rows.append((label, lowest, *(f"{pair[0][part]:.2f} -> {pair[1][part]:.2f}" for part in PARTS)))
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
