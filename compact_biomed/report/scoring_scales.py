"""Records of entity sets -> what scoring on word-pieces, as the published scripts do, changes in place of words."""

from collections.abc import Sequence

from scipy import stats

from compact_biomed.errors import UserError
from compact_biomed.report.measured import Column, Measured, measure
from compact_biomed.report.records import Line
from compact_biomed.report.render import markdown_rows, score
from compact_biomed.report.statistics import paired_difference, summarize

_HEAD = ("task", "model", "F1 on words", "F1 on word-pieces", "difference (95 %)")
_LEGEND = (
    "The same predictions counted twice. Mean ± standard deviation over seeds (number of seeds); the difference within "
    "runs with its interval (paired t; from two seeds on). Kendall's tau: do both scales put the models in one order?"
)


def markdown(lines: Sequence[Line]) -> str:
    """One row a task and model.

    Raises:
        UserError: no record holds both scales.
    """
    found = {(each.column, each.model): each for each in measure(lines) if each.seeds}
    pairs = [
        (each, on_pieces)
        for (column, model), each in found.items()
        if not column.on_pieces and (on_pieces := found.get((Column(column.task, f"piece_{column.metric}"), model)))
    ]
    if not pairs:
        raise UserError("no record of an entity set", where="--records", remedy="compact-biomed evaluate --task ...")
    notes = []
    for task in sorted({words.column.task for words, _ in pairs}):
        mine = [(words, pieces) for words, pieces in pairs if words.column.task == task]
        if len(mine) > 2:
            means = [[summarize(each.scores()).mean for each in column] for column in zip(*mine, strict=True)]
            notes.append(f"- {task}: Kendall's tau {stats.kendalltau(*means).statistic:.2f} over {len(mine)} models\n")
    return markdown_rows(_HEAD, [_row(*pair) for pair in pairs]) + f"\n{_LEGEND}\n\n" + "".join(notes)


def _row(words: Measured, pieces: Measured) -> list[str]:
    scores = [words.scores(), pieces.scores()]
    difference = "n/a"
    if len(scores[0]) > 1:
        d = paired_difference(scores[1], scores[0])
        difference = f"{d.value:+.2f} ({d.low:+.2f} to {d.high:+.2f})"
    return [words.column.task, words.model, *(score(summarize(each), "±") for each in scores), difference]
