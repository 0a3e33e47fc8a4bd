"""The table of compressed models: what int8 students keep of their fine-tuned teacher, their size and speed."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.records import Line, score_lines
from compact_biomed.report.measured import Measured, measure
from compact_biomed.report.statistics import retention
from compact_biomed.report.table import UNKNOWN, Cell, Row, Table, TableColumn, number, score, share, words

DISTILLED, INT8 = "-distilled", "-distilled ONNX int8"  # ends of the names of students in records
_LEGEND = (
    "Test scores on words, in percent: mean ± standard deviation over seeds (number of seeds). The teacher is "
    "fine-tuned on all labels and runs in PyTorch, fp32. The students are distilled from it, with text that only it "
    "labels, and run in int8; those of labels alone had the same start and no teacher. Share of the teacher: with its "
    "95 % bootstrap interval over test examples{seeds}. Latency of one text of {length} tokens, throughput at the best "
    "batch size, {threads}; times faster: by throughput."
)


def teacher_of(lines: Iterable[Line]) -> str:
    """Return the name of the one model among records of compressions that is no student.

    Raises:
        UserError: there is none, or there are several.
    """
    names = {line.model for line in score_lines(lines) if not line.model.endswith((DISTILLED, INT8))}
    if len(names) != 1:
        raise UserError(f"{len(names) or 'no'} teachers among these records", where="--records")
    return names.pop()


def compressed_table(
    lines: Iterable[Line], timed: Sequence[Mapping[str, Any]], teacher: str, controls: Iterable[Line] = ()
) -> Table:
    """Return the teacher and its students for each task.

    Args:
        lines: records of scores of the teacher and of students.
        timed: records of the speed of both; of several of a model the last.
        controls: records of scores of the students' start weights, fine-tuned on the labels alone; others are ignored.

    Raises:
        UserError: no student was measured beside the teacher.
    """
    measured = _by_model(lines)
    students = [name for name in measured if name.endswith(INT8)]
    tasks = [task for task in measured.get(teacher, ()) if any(task in measured[name] for name in students)]
    if not tasks:
        raise UserError("no int8 student was scored beside its teacher", where="--records")
    chosen, of_labels = _comparable(timed), _by_model(controls)
    rows = []
    for task in tasks:
        reference = measured[teacher][task]
        rows.append(_row(teacher, reference, None, chosen, (teacher, "torch-fp32"), teacher))
        for name in (name for name in students if task in measured[name]):
            size = name.removesuffix(INT8)
            if alone := of_labels.get(size, {}).get(task):
                rows.append(_row(f"{size}, labels alone", alone, reference, {}, (size, ""), teacher))
            rows.append(_row(f"{size}, int8", measured[name][task], reference, chosen, (size, "onnx-int8"), teacher))
    titles = {
        "model": "model",
        "score": "score",
        "share": f"share of {teacher}",
        "size": "MiB",
        "latency": "ms per text",
    }
    titles |= {"throughput": "tokens/s", "faster": "times faster"}
    heads = [TableColumn("column", "task, metric", left=True), TableColumn("model", "model", left=True)]
    heads += [TableColumn(key, title) for key, title in titles.items() if key != "model"]
    several = any(len(each.seeds) > 1 for of_model in measured.values() for each in of_model.values())
    any_speed = next(iter(chosen.values()), {"length": UNKNOWN, "threads": UNKNOWN, "device": UNKNOWN})
    legend = _LEGEND.format(
        seeds=" and seeds" if several else "",
        length=any_speed["length"],
        threads=f"{any_speed['threads']} threads of {any_speed['device']}",
    )
    return Table("compressed", tuple(heads), tuple(rows), legend=legend)


def _by_model(lines: Iterable[Line]) -> dict[str, dict[str, Measured]]:
    by_model: dict[str, list[Line]] = {}
    for line in score_lines(lines):
        by_model.setdefault(line.model, []).append(line)
    return {name: _on_words(of_model) for name, of_model in by_model.items()}


def _on_words(lines: Sequence[Line]) -> dict[str, Measured]:
    return {each.column.task: each for each in measure(lines) if each.seeds and not each.column.on_pieces}


def _comparable(timed: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], Mapping[str, Any]]:
    """Return (model, variant) -> its last record with the most threads, on the machine of the last record."""
    if not timed:
        return {}
    last = timed[-1]
    same = [each for each in timed if each["device"] == last["device"] and each["length"] == last["length"]]
    threads = max(each["threads"] for each in same)
    return {(each["model"], each["variant"]): each for each in same if each["threads"] == threads}


def _row(
    name: str,
    model: Measured,
    reference: Measured | None,
    timed: Mapping[tuple[str, str], Mapping[str, Any]],
    key: tuple[str, str],
    teacher: str,
) -> Row:
    speed, of_teacher = timed.get(key), timed.get((teacher, "torch-fp32"))
    faster = speed["tokens_per_s"] / of_teacher["tokens_per_s"] if speed and of_teacher else None
    return Row(
        (
            words(model.column.title),
            words(name),
            score(model.summary(), lines=model.lines),
            words("100 %") if reference is None else _share(model, reference),
            number(speed and speed["disk_bytes"] / 2**20, ".1f"),
            number(speed and speed["latency_ms"], ".1f"),
            number(speed and speed["tokens_per_s"], ",.0f"),
            number(faster, ".1f"),
        )
    )


def _share(model: Measured, reference: Measured) -> Cell:
    if model.tested_on != reference.tested_on:
        return words(UNKNOWN)
    counts, of_reference = model.example_counts(), reference.example_counts()
    ratio = model.summary().mean / reference.summary().mean if reference.summary().mean > 0 else None
    try:
        interval = retention(counts, of_reference, model.metric) if counts and of_reference else None
    except ValueError:  # the teacher scores 0
        interval = None
    return share(ratio, interval)
