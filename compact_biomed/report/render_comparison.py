"""Comparisons with a teacher as Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Callable, Sequence

from compact_biomed.report.comparison import TESTS, Comparison
from compact_biomed.report.render import (
    footnotes,
    latex_escape,
    latex_tabular,
    legend_of_scores,
    markdown_rows,
    score,
    ten_decimals,
)

_NONE = "n/a"
_HEAD = ("model", "task, metric", "score", "teacher", "retained", "p, examples", "p, t-test", "p, Wilcoxon")


def markdown(comparisons: Sequence[Comparison], teacher: str) -> str:
    """One row a model and column, with what it rests on below."""
    text = markdown_rows(_HEAD, [_row(each, "±", "%", "\\*") for each in comparisons])
    below = [*footnotes({each.column: each.how for each in comparisons}), *_notes(comparisons)]
    notes = "".join(f"- {note}\n" for note in below)
    return text + "\n" + _legend(comparisons, teacher, "±", "\\*") + "\n\n" + notes


def latex(comparisons: Sequence[Comparison], teacher: str) -> str:
    """A booktabs tabular, with the notes as comments."""
    rows = [
        [*map(latex_escape, (each.model, each.column.title)), *_row(each, "$\\pm$", "\\%", "$^*$")[2:]]
        for each in comparisons
    ]
    below = [_legend(comparisons, teacher, "+-", "*"), *footnotes({each.column: each.how for each in comparisons})]
    return latex_tabular("ll" + "r" * (len(_HEAD) - 2), _HEAD, rows, [*below, *_notes(comparisons)])


def comma_separated(comparisons: Sequence[Comparison], teacher: str) -> str:
    """One line a model and column, numbers to ten decimals; what could not be made is empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    scores = [f"{whose}{part}" for whose in ("", "teacher_") for part in ("mean", "deviation", "seeds")]
    tests = [f"p_{test}{kind}" for test in TESTS for kind in ("", "_holm")]
    writer.writerow(["model", "teacher", "task", "metric", *scores, "retained", "low", "high", *tests, "how", "notes"])
    for each in comparisons:
        summaries = [v for s in (each.scores, each.of_teacher) for v in (s.mean, s.deviation, s.n)]
        bounds = (each.interval.low, each.interval.high) if each.interval else (None, None)
        values = [value for test in TESTS for value in (each.p[test], each.holm[test])]
        names = [each.model, teacher, each.column.task, each.column.metric]
        numbers = map(ten_decimals, [*summaries, each.retained, *bounds, *values])
        writer.writerow([*names, *numbers, each.how, "; ".join(each.notes)])
    return out.getvalue()


FORMATS: dict[str, Callable[[Sequence[Comparison], str], str]] = {
    "md": markdown,
    "csv": comma_separated,
    "tex": latex,
}


def _row(each: Comparison, plus_minus: str, percent: str, mark: str) -> list[str]:
    retained = _NONE
    if each.retained is not None:
        retained = f"{100 * each.retained:.1f} {percent}"
        if each.interval:
            retained += f" ({100 * each.interval.low:.1f} to {100 * each.interval.high:.1f})"
    tests = [_NONE if each.p[t] is None else f"{each.p[t]:.2g} ({each.holm[t]:.2g})" for t in TESTS]
    scores = [score(each.scores, plus_minus, mark if each.marked else ""), score(each.of_teacher, plus_minus)]
    return [each.model, each.column.title, *scores, retained, *tests]


def _notes(comparisons: Sequence[Comparison]) -> list[str]:
    return [f"{each.model}, {each.column.title}: {'; '.join(each.notes)}" for each in comparisons if each.notes]


def _legend(comparisons: Sequence[Comparison], teacher: str, plus_minus: str, mark: str) -> str:
    sizes = [sum(each.column.on_pieces == on_pieces for each in comparisons) for on_pieces in (False, True)]
    apart = f" (on word-pieces {sizes[1]}, apart)" if sizes[1] else ""
    return (
        f"{legend_of_scores(plus_minus, mark)} The teacher is {teacher}. Retained: the model's mean over the teacher's "
        "on the same test examples (95 % bootstrap interval over examples and seeds). p: two-sided, that the two score "
        "alike: over examples by approximate randomization; over seeds by the paired t-test and by Wilcoxon's signed "
        f"ranks. In brackets after Holm's correction for {sizes[0]} comparison{'s' * (sizes[0] != 1)}{apart}."
    )
