"""Task distillation from all labels in the manuscript: its table and claims, its sentences, and its numbers."""

from collections.abc import Sequence
from dataclasses import replace

from compact_biomed.records.lines import Line
from compact_biomed.report.claims import FAILS, HOLDS
from compact_biomed.report.claims_of_tasks import task_claims_tables
from compact_biomed.report.compressed import Student
from compact_biomed.report.compressed_tables import compressed_table
from compact_biomed.report.contrasts import Contrast
from compact_biomed.report.latex import latex_code, latex_float, latex_text
from compact_biomed.report.manuscript.inputs import (
    DISTILL_TASKS,
    Inputs,
    Number,
    field,
    line_references,
    listed,
    span,
)
from compact_biomed.report.manuscript.score_tables import without_unit
from compact_biomed.report.manuscript.tables import claims_in_one
from compact_biomed.report.table import UNKNOWN, words

_MIB = 2**20


# ---- Tables


def table(inputs: Inputs) -> str:
    """Return every model on every set, with size and speed, and what the intervals do not cover."""
    models = inputs.tasks
    whole = compressed_table(models)
    rows = [replace(row, section=row.cells[0].text) for row in whole.rows]
    shown = replace(whole, rows=tuple(rows)).select(
        "model", "score", "share", "size", "latency", "throughput", "faster"
    )
    shown = shown.map(without_unit, "share", title="keeps, %").titled(latency="ms", faster="faster")
    shown = shown.map(lambda cell: words("--") if cell.text == UNKNOWN and cell.value is None else cell)
    caption = (
        "Task distillation from all labels: F1 on words (number of seeds), share of the teacher's score with its "
        f"95\\,\\% bootstrap interval over test examples{' and seeds' if models.seeds[1] > 1 else ''}, size on disk, "
        "milliseconds for one text, tokens per second at the best batch size, and throughput over that of the teacher "
        "timed beside it. The teacher runs in PyTorch in single precision, int8 students in ONNX Runtime, so ratios of "
        f"speed are of model, precision and engine together. Records: {latex_code(_sources(inputs))}, made by "
        f"{latex_code(DISTILL_TASKS)}."
    )
    return latex_float(replace(shown, name="tasks"), caption)


def claims(inputs: Inputs) -> str:
    """Return the claims on task distillation with what was measured, and the verdict."""
    caption = (
        "Claims on task distillation, judged as those of Table~\\ref{tab:claims}: score over the reference's in "
        "percent, averaged over the sets, with its 95\\,\\% bootstrap interval over test examples and seeds. "
        f"Made by {latex_code(DISTILL_TASKS + ' --claims')}."
    )
    return latex_float(claims_in_one(task_claims_tables(inputs.task_claims), "task-claims"), caption)


def _sources(inputs: Inputs) -> str:
    return line_references([*inputs.tasks.lines, *inputs.timed_tasks])


# ---- Sentences


def kept(inputs: Inputs) -> str:
    """Return what each student keeps, for the abstract."""
    return " ".join(_kept(inputs, student) for student in inputs.tasks.students) + "\n"


def found(inputs: Inputs) -> str:
    """Return what was found for each student: shares, the gain of distillation, the cost of int8, and verdicts."""
    models = inputs.tasks
    few, most = models.seeds
    seeds = "one seed" if most == 1 else f"{few} seeds" if few == most else f"{few} to {most} seeds"
    sentences = [f"The records have {seeds} per model and set."]
    if most == 1:
        sentences.append("The intervals are over test examples alone: another seed may change more than they show.")
    for student in models.students:
        sentences += [_kept(inputs, student), _distilled(inputs, student), _verdicts(inputs, student)]
    return " ".join(sentences) + "\n"


def _kept(inputs: Inputs, student: Student) -> str:
    models = inputs.tasks
    own, teacher = models.speeds.get(student.int8), models.beside.get(student.int8)
    small = ""
    if own and teacher:
        sizes = " of ".join(f"{of['disk_bytes'] / _MIB:.1f}" for of in (own, teacher))
        times = f"{models.faster(student):.1f} times"
        small = f" It has {sizes}\\,MiB, and {times} the throughput of the teacher in PyTorch."
    *first, last = [latex_text(column.task) for column in models.of(student)]
    sets = f"{', '.join(first)} and {last}" if first else last
    averaged = "Averaged over" if len(models.of(student)) > 1 else "On"
    alone = _ratio(models.kept(student.alone, models.teacher))
    control = f"fine-tuned on the labels alone, it keeps {alone}" if alone else "on labels alone it was not fine-tuned"
    keeps = _ratio(models.kept(student.int8, models.teacher)) or "a share that cannot be computed"
    return (
        f"{averaged} {sets}, the {latex_text(student.name)}, distilled and run in int8, keeps {keeps} of its "
        f"teacher's F1; {control}.{small}"
    )


def _distilled(inputs: Inputs, student: Student) -> str:
    """Say on which side of equality distillation is, without and with int8."""
    gain = inputs.tasks.kept(student.distilled, student.alone)
    if not isinstance(gain, Contrast):
        return f"What distillation adds to labels alone was not measured ({latex_text(gain)})."
    side = "above" if gain.ratio.low > 1 else "below" if gain.ratio.high < 1 else None
    where = f"the whole interval is {side} equality" if side else "the interval includes equality"
    return f"Distillation leads to {_ratio(gain)} of the score of labels alone, both in single precision: {where}."


def _verdicts(inputs: Inputs, student: Student) -> str:
    judged = inputs.task_claims[student]
    where = "(Table~\\ref{tab:task-claims})"
    decided = [f"``{latex_text(each.claim.text)}'' {each.verdict}" for each in judged if each.verdict in (HOLDS, FAILS)]
    if not decided:
        return f"These records decide none of the {len(judged)} claims on this student {where}."
    left = len(judged) - len(decided)
    rest = f", and {left} {'is' if left == 1 else 'are'} left open" if left else ""
    return f"Of the {len(judged)} claims on this student {where}, {', '.join(decided)}{rest}."


def _ratio(each: Contrast | str) -> str:
    if not isinstance(each, Contrast):
        return ""
    value, low, high = (f"{100 * share:.1f}" for share in (each.ratio.value, each.ratio.low, each.ratio.high))
    return f"{value}\\,\\% (95\\,\\% interval {low} to {high})"


# ---- Numbers


def numbers_of_tasks(inputs: Inputs) -> list[Number]:
    """Return the settings of task distillation for the text."""
    models = inputs.tasks
    by_model: dict[str, list[Line]] = {}
    for line in models.lines:
        by_model.setdefault(line.model, []).append(line)
    teacher = by_model[models.teacher]
    students = [line for student in models.students for line in by_model.get(student.distilled, ())]
    alone = [line for student in models.students for line in by_model.get(student.alone, ())]

    def number(name: str, text: str, means: str, lines: Sequence[Line]) -> Number:
        return Number(f"tasks.{name}", text or "not measured", means, line_references(lines), DISTILL_TASKS)

    def over(name: str, path: str, means: str, lines: Sequence[Line], form: str = "{}") -> Number:
        return number(name, span([field(line, path) for line in lines], form) if lines else "", means, lines)

    tuned = [line for line in models.lines if "seconds" in line.record["how"] and "steps" in line.record["how"]]
    hours = sum(field(line, "how.seconds") for line in tuned) / 3600
    return [
        number("sets", f"{len(models.columns)}", "sets with a distilled student beside its teacher", models.lines),
        number("unlabeled", listed(models.unlabeled, "{:,}"), "sentences that only the teacher labels", students),
        over("rate", "settings.learning_rate", "learning rate of teacher and students", models.lines, "{:g}"),
        over("teacher_epochs", "settings.epochs", "epochs of the teacher", teacher),
        over("epochs", "settings.epochs", "epochs of the students, distilled or not", [*students, *alone]),
        over(
            "temperature",
            "protocol.distillation.temperature",
            "temperature of the teacher's predictions",
            students,
            "{:g}",
        ),
        number("hours", f"{hours:.1f}", "hours of fine-tuning behind the table", tuned),
        over("length", "length", "tokens of a timed text", inputs.timed_tasks),
        over("threads", "threads", "threads of the timings shown", _shown(inputs)),
        number("device", listed([field(line, "device") for line in _shown(inputs)]), "where was timed", _shown(inputs)),
    ]


def _shown(inputs: Inputs) -> list[Line]:
    shown = list(inputs.tasks.speeds.values())
    return [line for line in inputs.timed_tasks if any(line.record is record for record in shown)]
