"""The section on compression: a sentence and a table for each kind of record."""

import numpy as np

from compact_biomed.report.gap import Gap
from compact_biomed.report.manuscript.inputs import Inputs
from compact_biomed.report.manuscript.latex import code, table, text
from compact_biomed.report.manuscript.numbers import places
from compact_biomed.report.resampling import Interval

_ABOUT = {
    "task_distillation": (
        "Task distillation",
        "The baseline is the student that was fine-tuned on the labels alone; a number of epochs marks the one that "
        "took as many steps on them as the distilled student in all.",
    ),
    "int8": ("Precision", "The baseline is the same weights in PyTorch and float32; nothing is trained in between."),
    "pruning": (
        "Pruning",
        "The baseline is the model fine-tuned a second time with nothing removed; numbers are the percentage removed.",
    ),
}


def compression(found: Inputs) -> str:
    """What there is of task distillation, int8 and pruning, on words."""
    parts = []
    for name, gains in found.gains.items():
        title, about = _ABOUT[name]
        own = [each for each in gains if not each.column.on_pieces]
        label = name.replace("_", "-")
        lines = [line for line in found.compressed if line.file.name.startswith(name)]
        caption = (
            f"{title}: scores on words, gain over the baseline in points, its 95\\,\\% interval over examples "
            "and seeds; closed: the gain over the distance from baseline to teacher; $p$ by approximate randomization "
            f"over examples, not corrected. Records: {code(places(lines))}."
        )
        head = ("task", "model", "score", "baseline", "gain", "closed, \\%", "$p$")
        rows = [_row(each) for each in own]
        said = f"\\paragraph{{{title}.}} {about} Table~\\ref{{tab:{label}}}. {_sentence(own)}\n"
        parts.append(said + table(label, caption, "llrrrrr", head, rows, place="!htb"))
    return "\n".join(parts)


def _row(each: Gap) -> list[str]:
    scores = (f"{summary.mean:.2f} ({summary.n})" for summary in each.scores[:2])
    p = "--" if each.p_examples is None else f"{each.p_examples:.2g}"
    return [text(each.column.task), text(each.model), *scores, _interval(each.gain, "{:+.2f}"), _share(each), p]


def _sentence(gains: list[Gap]) -> str:
    """Which are told from their baseline."""
    told = [each for each in gains if each.gain.low > 0 or each.gain.high < 0]
    if not told:
        return "None can be told from its baseline."
    said = [f"{text(each.model)} on {text(each.column.task)} ({_interval(each.gain, '{:+.2f}')})" for each in told]
    rest = "" if len(told) == len(gains) else " The others can not."
    return f"Told from their baseline by the interval: {'; '.join(said)}.{rest}"


def _interval(value: Interval, form: str) -> str:
    low, high = (form.format(bound) for bound in (value.low, value.high))
    return f"${form.format(value.value)}$ [${low}$, ${high}$]"


def _share(each: Gap) -> str:
    if each.closed is None:
        return "--"
    low, high = (
        f"${100 * bound:.0f}$" if np.isfinite(bound) else "unbounded" for bound in (each.closed.low, each.closed.high)
    )
    return f"${100 * each.closed.value:.0f}$ [{low}, {high}]"
