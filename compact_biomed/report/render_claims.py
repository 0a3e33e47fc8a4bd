"""Judged claims as Markdown."""

from collections.abc import Sequence

from compact_biomed.report.claims import Judged
from compact_biomed.report.contrast import Contrast
from compact_biomed.report.render import markdown_rows

_HEAD = ("claim", "measured here", "p", "verdict", "why")
_LEGEND = (
    "Measured: the model's score over the reference's, averaged over the tasks that both have (95 % bootstrap interval "
    "over test examples and seeds; seeds a cell). p: two-sided, that the ratio is the claim's threshold, by the "
    "same resamples, after Holm's correction within the claim. A claim holds, or does not, where the interval and p "
    'tell it; where they do not, it cannot be tested with these records. "Best" is chosen on the same scores, '
    "which favors the claim's first side a little. Every model was pretrained once: what another seed of "
    "pretraining would change is in no interval. All models are miniatures of the paper's: half as deep, half as wide."
)


def markdown(words: Sequence[Judged], pieces: Sequence[Judged]) -> str:
    """The claims of the paper and what they rest on, on words; then those of the paper on word-pieces."""
    parts = ["# The claims, judged by the records\n", _LEGEND + "\n"]
    for title, judged in (
        ("The paper's claims", [each for each in words if each.claim.of_paper]),
        ("What they rest on", [each for each in words if not each.claim.of_paper]),
        ("The paper's claims on its own scale of word-pieces (entity sets alone)",
         [each for each in pieces if each.claim.of_paper and each.claim.pairs]),
    ):  # fmt: skip
        parts += [f"## {title}\n", markdown_rows(_HEAD, [_row(each) for each in judged])]
    tasks = sorted({column.title for each in (*words, *pieces) for c in each.contrasts for column in c.columns})
    return "\n".join([*parts, f"Tasks: {'; '.join(tasks) or 'none'}."]) + "\n"


def _row(each: Judged) -> list[str]:
    threshold = f" (threshold {100 * each.claim.threshold:g} %)" if each.claim.pairs else ""
    measured = "<br>".join(_contrast(one) for one in each.contrasts) or "nothing"
    adjusted = "<br>".join(f"{p:.2g}" for p in each.holm) or "n/a"
    return [each.claim.text + threshold, measured, adjusted, f"**{each.verdict}**", each.why]


def _contrast(one: Contrast) -> str:
    ratio = one.ratio
    tasks = f"{len(one.columns)} task{'s' * (len(one.columns) > 1)}, {one.fewest} seed{'s' * (one.fewest > 1)}"
    interval = f"{100 * ratio.value:.1f} % ({100 * ratio.low:.1f} to {100 * ratio.high:.1f})"
    return f"{one.model} / {one.reference}: {interval}; {tasks}"
