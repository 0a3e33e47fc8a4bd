"""The folder paper/generated/, written whole or not at all: sentences, tables, numbers and one figure."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from compact_biomed.files import atomic_folder
from compact_biomed.records.lines import Line
from compact_biomed.report.claims import FAILS, HOLDS, UNDECIDED, UNTESTED, Judged
from compact_biomed.report.contrasts import Contrast
from compact_biomed.report.family import CONTINUAL, DISTILLED, GENERAL, TEACHER, groups_of
from compact_biomed.report.figures import size_figure
from compact_biomed.report.latex import latex_text
from compact_biomed.report.manuscript import score_tables, tables, tasks, values
from compact_biomed.report.manuscript.inputs import Inputs, inputs_from
from compact_biomed.report.manuscript.values import contrasts_with_controls, numbers_of

# ---- Sentences that report the results


_WHERE = "Tables~\\ref{tab:retained} and~\\ref{tab:claims} have these and their records."
_VERDICTS = (HOLDS, FAILS, UNDECIDED, UNTESTED)


def abstract(inputs: Inputs) -> str:
    """Return the results for the abstract."""
    ratios = inputs.ratios
    of_kinds = (("distilled student", DISTILLED), ("continually pretrained model", CONTINUAL))
    best = [_best(kind, names, ratios) for kind, names in of_kinds]
    sentences = [_counted(inputs.words, of_paper=True), *best, controls(inputs).strip(), _WHERE]
    return " ".join(each for each in sentences if each) + "\n"


def pubmed(inputs: Inputs) -> str:
    """Return what further pretraining did to the teacher."""
    found = [one for each in inputs.words for one in each.contrasts if (one.model, one.reference) == (TEACHER, GENERAL)]
    if not found:
        return f"Whether {TEACHER} is better than {GENERAL}, which it starts from, was not measured.\n"
    ratio = found[0].ratio
    side = "above" if ratio.low > 1 else "below" if ratio.high < 1 else None
    where = f"the whole interval is {side} equality" if side else "the interval includes equality"
    return (
        f"After its further pretraining, {TEACHER} has {100 * ratio.value:.1f}\\,\\% of the score of {GENERAL}, the "
        f"model that it starts from (95\\,\\% interval {100 * ratio.low:.1f} to {100 * ratio.high:.1f}): {where}.\n"
    )


def controls(inputs: Inputs) -> str:
    """Report in words how many students score above or below the same student without a teacher."""
    pairs = contrasts_with_controls(inputs)
    if not pairs:
        return "No student was measured beside the same student without a teacher.\n"
    above = sum(one.ratio.low > 1 for one in pairs)
    below = sum(one.ratio.high < 1 for one in pairs)
    return (
        "Compared with the same student from the same start without a teacher, the interval of the ratio is above "
        f"equality for {above} of {len(pairs)} distilled students, below it for {below}, and includes it for "
        f"{len(pairs) - above - below}.\n"
    )


def verdicts(inputs: Inputs) -> str:
    """Return how many claims hold, do not hold, and are undecided or untested; each with its verdict."""
    parts = []
    for of_paper in (True, False):
        judged = [each for each in inputs.words if each.claim.of_paper == of_paper and each.claim.pairs]
        parts.append(_counted(judged, of_paper=of_paper))
        for verdict in _VERDICTS:
            these = [f"``{latex_text(each.claim.text)}''" for each in judged if each.verdict == verdict]
            if these:
                parts.append(f"\\emph{{{latex_text(verdict).capitalize()}}}: {'; '.join(these)}.")
        parts.append("\n\n")
    return " ".join(parts).strip() + "\n"


def ranking(inputs: Inputs) -> str:
    """Return the first and the last model of each kind by the mean ratio to the teacher."""
    ratios = inputs.ratios
    if not ratios:
        return "No two models share a task with enough seeds, so that no mean ratio can be given.\n"
    names = ", ".join(latex_text(column.task) for column in inputs.common)
    sentences = [f"Averaged over {names}, in percent of {TEACHER}'s score:"]
    kinds = []
    for title, models in groups_of(list(ratios)).items():
        ranked = sorted(models, key=lambda model: -ratios[model].ratio.value)
        last = f" to {_ratio(ranked[-1], ratios)}" if len(ranked) > 1 else ""
        kinds.append(f"{title[0].lower()}{title[1:]}: {_ratio(ranked[0], ratios)}{last}")
    above = sum(each.ratio.low > 1 for each in ratios.values())
    below = sum(each.ratio.high < 1 for each in ratios.values())
    sentences.append("; ".join(kinds) + ".")
    sentences.append(
        f"The whole interval is below the teacher for {below} of {len(ratios)} models, above it for {above}, and "
        f"includes it for {len(ratios) - below - above}."
    )
    return " ".join(sentences) + "\n"


def _counted(judged: Iterable[Judged], *, of_paper: bool) -> str:
    chosen = [each for each in judged if each.claim.of_paper == of_paper and each.claim.pairs]
    counts = [f"``{verdict}'' for {sum(each.verdict == verdict for each in chosen)}" for verdict in _VERDICTS]
    whose = "claims of the paper that records can test" if of_paper else "statements that these rest on"
    return f"Of {len(chosen)} {whose}, the verdict is {', '.join(counts[:-1])}, and {counts[-1]}."


def _best(kind: str, names: Iterable[str], ratios: dict[str, Contrast]) -> str:
    measured = [name for name in names if name in ratios]
    if not measured:
        return ""
    best = max(measured, key=lambda name: ratios[name].ratio.value)
    ratio = ratios[best].ratio
    return (
        f"The best {kind}, {latex_text(best)}, retains {100 * ratio.value:.1f}\\,\\% of the teacher's score "
        f"(95\\,\\% interval {100 * ratio.low:.1f} to {100 * ratio.high:.1f})."
    )


def _ratio(model: str, ratios: dict[str, Contrast]) -> str:
    ratio = ratios[model].ratio
    return f"{latex_text(model)} {100 * ratio.value:.1f} [{100 * ratio.low:.1f}, {100 * ratio.high:.1f}]"


_PIECES = {
    "abstract": abstract,
    "pubmed": pubmed,
    "controls": controls,
    "kept": tasks.kept,
    "students": tasks.found,
    "tasks": tasks.table,
    "taskclaims": tasks.claims,
    "verdicts": verdicts,
    "ranking": ranking,
    "benchmarks": tables.benchmarks,
    "scores": score_tables.scores,
    "intervals": score_tables.intervals,
    "retained": score_tables.retained,
    "comparisons": score_tables.all_comparisons,
    "architectures": tables.architectures,
    "trainings": tables.trainings,
    "claims": tables.claims,
    "ablations": tables.ablations,
    "compression": tables.compression,
    "speed": tables.speed,
    "runs": values.of_scores,
    "code": values.of_code,
}


def write_manuscript(lines: Sequence[Line], folder: Path) -> None:
    """Write what paper/*.tex reads: numbers, tables and sentences in LaTeX, and the figure of size against score.

    The same records give the same bytes.

    Raises:
        UserError: a record is missing (with the command that makes it), or records do not belong together;
            the folder is then as before.
    """
    inputs = inputs_from(lines)
    numbers = numbers_of(inputs)
    with atomic_folder(folder) as temporary:
        for name, make in _PIECES.items():
            _write(temporary, name, make(inputs))
        _write(temporary, "values", values.values(numbers))
        _write(temporary, "numbers", values.of_numbers(numbers))
        _picture(inputs, temporary / "sizes.pdf")


def _write(folder: Path, name: str, content: str) -> None:
    (folder / f"{name}.tex").write_text(f"% made from records by `make paper`\n{content}", encoding="utf-8")


def _picture(inputs: Inputs, path: Path) -> None:
    grid, tasks = score_tables.for_picture(inputs)
    size_figure(grid, path, tasks=tasks, form="pdf", across=2)
