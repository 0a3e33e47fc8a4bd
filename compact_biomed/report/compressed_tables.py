"""Tables of models made small for a task, for all rows and for the README."""

from collections.abc import Sequence

import numpy as np

from compact_biomed.report.compressed import TEACHER_ENDING, Compressed, Student
from compact_biomed.report.contrasts import Contrast, retained_interval
from compact_biomed.report.measured import Column, Measured
from compact_biomed.report.replicates import variance_of
from compact_biomed.report.table import MISSING, UNKNOWN, Cell, Row, Table, TableColumn, number, score, share, words

_LEGEND = (
    "Test scores on words, in percent: mean ± standard deviation over seeds (number of seeds). The teacher is "
    "fine-tuned on all labels and runs in PyTorch, fp32. Labels alone: the student's start weights, fine-tuned on all "
    "labels without a teacher{longer}. Distilled: the same start, taught by the teacher{unlabeled}. Keeps: of the "
    "teacher's score, with its 95 % bootstrap interval over test examples{seeds}. Latency of one text of {length} "
    "tokens, throughput at the best batch size, {threads}; times faster: by throughput, beside the teacher."
)


def compressed_table(models: Compressed) -> Table:
    """Return the teacher, the students of labels alone and the distilled ones, task by task."""
    rows = []
    for column in models.columns:
        reference = models.measured[models.teacher, column]
        rows.append(_row(models, models.teacher, reference, words("100 %"), 1.0))
        for student in (each for each in models.students if column in models.of(each)):
            for name in (student.alone, student.longer, student.distilled, student.int8):
                if each := models.measured.get((name, column)):
                    faster = models.faster(student) if name == student.int8 else None
                    rows.append(_row(models, name, each, _share(models, name, column), faster))
    heads = [TableColumn("column", "task, metric", left=True), TableColumn("model", "model", left=True)]
    titles = {"score": "score", "share": "keeps", "size": "MiB", "latency": "ms per text"}
    titles |= {"throughput": "tokens/s", "faster": "times faster"}
    heads += [TableColumn(key, title) for key, title in titles.items()]
    return Table("compressed", tuple(heads), tuple(rows), legend=_legend(models, _LEGEND))


_HEADLINE = (
    "F1 on the test set (number of seeds). Teacher: {teacher}, fine-tuned on all labels, in PyTorch, fp32. Student: "
    "{students}, fine-tuned on the same labels alone, or taught by the teacher{unlabeled} and run in int8. Keeps: "
    "share of the teacher's F1 (95 % bootstrap interval over test examples{seeds}). MiB: of the weights. Times "
    "faster: throughput on texts of {length} tokens, the student's in ONNX int8 over the teacher's in PyTorch, "
    "fp32.{steps}"
)
_MORE_STEPS = (
    " Because it also reads those sentences, the distilled student takes {ratio:.1f} times as many steps as with "
    "labels alone. "
)
_NO_CONTROL = "Labels alone in as many steps were not measured, so a part of the gain may be that of longer training."
_CONTROL = "Labels alone in at least as many steps: {scores}."


def headline_of_compressed(models: Compressed) -> Table:
    """Return one row per task and student, with means over the tasks where there are several."""
    rows = []
    for student in models.students:
        columns = models.of(student)
        rows += [_headline_row(models, student, column) for column in columns]
        if len(columns) > 1:
            rows.append(_mean_row(models, student, columns))
    several = len(models.students) > 1
    heads = [TableColumn("task", "set", left=True), TableColumn("student", "student", left=True, shown=several)]
    titles = {"teacher": "teacher", "alone": "labels alone", "int8": "distilled, int8", "share": "keeps"}
    titles |= {"size": "MiB", "faster": "times faster"}
    heads += [TableColumn(key, title) for key, title in titles.items()]
    return Table("tasks", tuple(heads), tuple(rows), legend=_legend(models, _HEADLINE))


def _row(models: Compressed, name: str, each: Measured, kept: Cell, faster: float | None) -> Row:
    speed = models.speeds.get(name)
    return Row(
        (
            words(each.column.title),
            words(name),
            score(each.summary(), lines=each.lines),
            kept,
            number(speed and speed["disk_bytes"] / 2**20, ".1f"),
            number(speed and speed["latency_ms"], ".1f"),
            number(speed and speed["tokens_per_s"], ",.0f"),
            number(faster if speed else None, ".1f"),
        )
    )


def _share(models: Compressed, name: str, column: Column) -> Cell:
    model, teacher = models.measured[name, column], models.measured[models.teacher, column]
    ratio = model.summary().mean / teacher.summary().mean if teacher.summary().mean > 0 else None
    interval, _ = retained_interval(model, teacher, variance_of(models.measured, [column]))
    return share(ratio, interval)


def _headline_row(models: Compressed, student: Student, column: Column) -> Row:
    named = [models.measured.get((name, column)) for name in (models.teacher, student.alone, student.int8)]
    scores = [score(each.summary(), lines=each.lines) if each else words(MISSING) for each in named]
    kept = _share(models, student.int8, column)
    return Row((words(column.task), words(student.name), *scores, kept, *_size_and_speed(models, student)))


def _mean_row(models: Compressed, student: Student, columns: Sequence[Column]) -> Row:
    means = [_mean(models, name, columns) for name in (models.teacher, student.alone, student.int8)]
    kept = models.kept(student.int8, models.teacher)
    retained = share(kept.ratio.value, kept.ratio) if isinstance(kept, Contrast) else words(UNKNOWN)
    name = words(f"mean of {len(columns)}")
    cells = [words(MISSING) if mean is None else number(mean) for mean in means]
    return Row((name, words(student.name), *cells, retained, *_size_and_speed(models, student)))


def _size_and_speed(models: Compressed, student: Student) -> tuple[Cell, Cell]:
    own, teacher = models.speeds.get(student.int8), models.beside.get(student.int8)
    of_teacher = f" of {teacher['disk_bytes'] / 2**20:.1f}" if teacher else ""
    size = number(own and own["disk_bytes"] / 2**20, ".1f", text=of_teacher if own else "")
    return size, number(models.faster(student), ".1f")


def _legend(models: Compressed, form: str) -> str:
    speed = next(iter(models.speeds.values()), {"length": UNKNOWN, "threads": UNKNOWN, "device": UNKNOWN})
    return form.format(
        teacher=models.teacher.removesuffix(TEACHER_ENDING),
        students=" or ".join(each.name for each in models.students),
        longer=", also in as many steps as distillation takes" if models.with_longer else "",
        unlabeled="".join(f" with {number:,} more sentences that only it labels" for number in models.unlabeled[-1:]),
        seeds=" and seeds" if models.seeds[1] > 1 else "",
        length=speed["length"],
        threads=f"{speed['threads']} threads of {speed['device']}",
        steps=_steps_in_words(models),
    )


def _steps_in_words(models: Compressed) -> str:
    """Say how many steps distillation takes, and what labels alone reach in as many."""
    if not (ratio := models.steps_to_alone):
        return ""
    scores = []
    for student in models.with_longer:
        if (mean := _mean(models, student.longer, models.of(student))) is not None:
            named = f" ({student.name})" if len(models.students) > 1 else ""
            scores.append(f"{mean:.2f}{named}")
    return _MORE_STEPS.format(ratio=ratio) + (_CONTROL.format(scores=", ".join(scores)) if scores else _NO_CONTROL)


def _mean(models: Compressed, name: str, columns: Sequence[Column]) -> float | None:
    """Return a model's mean score over tasks; None if it was not measured on one of them."""
    scores = [models.measured[name, column].summary().mean for column in columns if (name, column) in models.measured]
    return float(np.mean(scores)) if len(scores) == len(columns) else None
