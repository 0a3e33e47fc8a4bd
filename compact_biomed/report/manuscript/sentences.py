"""Sentences that say what came out, whatever came out."""

from collections.abc import Iterable

from compact_biomed.report.claims import CONTINUAL, DISTILLED, FAILS, HOLDS, OPEN, TEACHER, Judged
from compact_biomed.report.contrast import Contrast
from compact_biomed.report.manuscript.inputs import Inputs, groups_of
from compact_biomed.report.manuscript.latex import text
from compact_biomed.report.manuscript.score_tables import mean_ratios, shared_columns

_CONTROL = "-mlm"
_VERDICTS = ((HOLDS, "hold"), (FAILS, "do not hold"), (OPEN, "cannot be decided by these records"))


def abstract(found: Inputs) -> str:
    """What an abstract says of the results."""
    ratios = mean_ratios(found)
    of_kinds = (("distilled student", DISTILLED), ("continually pretrained model", CONTINUAL))
    best = [_best(kind, names, ratios) for kind, names in of_kinds]
    said = f"{_counted(found.words, of_paper=True)} {' '.join(each for each in best if each)} {_against_controls(found)}"
    return " ".join(said.split()) + "\n"


def verdicts(found: Inputs) -> str:
    """How many claims hold, do not, and are open; each with its verdict."""
    parts = []
    for of_paper in (True, False):
        judged = [each for each in found.words if each.claim.of_paper == of_paper and each.claim.pairs]
        parts.append(_counted(judged, of_paper=of_paper))
        for verdict, words in _VERDICTS:
            these = [f"``{text(each.claim.text)}''" for each in judged if each.verdict == verdict]
            if these:
                parts.append(f"{words.capitalize()}: {'; '.join(these)}.")
        parts.append("\n\n")
    return " ".join(parts).strip() + "\n"


def ranking(found: Inputs) -> str:
    """First and last of each kind of models by the mean ratio to the teacher."""
    ratios = mean_ratios(found)
    if not ratios:
        return "No two models share a task with enough seeds, so that no mean ratio can be given.\n"
    names = ", ".join(text(column.task) for column in shared_columns(found))
    said = [f"Averaged over {names}, in percent of {TEACHER}'s score:"]
    kinds = []
    for title, models in groups_of(list(ratios)).items():
        ranked = sorted(models, key=lambda model: -ratios[model].ratio.value)
        last = f" to {_ratio(ranked[-1], ratios)}" if len(ranked) > 1 else ""
        kinds.append(f"{title[0].lower()}{title[1:]}: {_ratio(ranked[0], ratios)}{last}")
    above = sum(each.ratio.low > 1 for each in ratios.values())
    below = sum(each.ratio.high < 1 for each in ratios.values())
    said.append("; ".join(kinds) + ".")
    said.append(
        f"Of {len(ratios)} models {below} lie below the teacher with their whole interval, {above} above it, and "
        f"{len(ratios) - below - above} cannot be told from it."
    )
    return " ".join(said) + "\n"


def _counted(judged: Iterable[Judged], *, of_paper: bool) -> str:
    chosen = [each for each in judged if each.claim.of_paper == of_paper and each.claim.pairs]
    counts = [f"{sum(each.verdict == verdict for each in chosen)} {words}" for verdict, words in _VERDICTS]
    whose = "claims of the paper that can be put to records" if of_paper else "statements that these rest on"
    return f"Of {len(chosen)} {whose}, {counts[0]} at this scale, {counts[1]}, and {counts[2]}."


def _best(kind: str, names: Iterable[str], ratios: dict[str, Contrast]) -> str:
    measured = [name for name in names if name in ratios]
    if not measured:
        return ""
    best = max(measured, key=lambda name: ratios[name].ratio.value)
    ratio = ratios[best].ratio
    return (
        f"The best {kind}, {text(best)}, retains {100 * ratio.value:.1f}\\,\\% of the teacher's score "
        f"(95\\,\\% interval {100 * ratio.low:.1f} to {100 * ratio.high:.1f})."
    )


def _against_controls(found: Inputs) -> str:
    """How many students score above, or below, the same student without a teacher."""
    of_students = [each for each in found.words if any(pair[1] == f"{pair[0]}{_CONTROL}" for pair in each.claim.pairs)]
    pairs = [one for each in of_students for one in each.contrasts]
    if not pairs:
        return ""
    above = sum(one.ratio.low > 1 for one in pairs)
    below = sum(one.ratio.high < 1 for one in pairs)
    return (
        f"Held against the same student from the same start without a teacher, {above} of {len(pairs)} distilled students "
        f"score higher with their whole interval, {below} lower, and {len(pairs) - above - below} cannot be told apart."
    )


def _ratio(model: str, ratios: dict[str, Contrast]) -> str:
    ratio = ratios[model].ratio
    return f"{text(model)} {100 * ratio.value:.1f} [{100 * ratio.low:.1f}, {100 * ratio.high:.1f}]"
