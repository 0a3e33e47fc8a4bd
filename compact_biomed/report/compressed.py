"""Models made small for a task: what students keep of their fine-tuned teacher, their size and speed.

Records name a model by what started it (`BioDistilBERT-start-distilled ONNX int8`). Tables say what it is.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, score_lines
from compact_biomed.report.contrasts import (
    Contrast,
    MeasuredByCell,
    by_model_and_column,
    contrast,
)
from compact_biomed.report.measured import Column, measure
from compact_biomed.report.protocols import Way, renamed, way_of

DISTILLED_ENDING, INT8_ENDING = "-distilled", "-distilled ONNX int8"  # ends of the names of students in records
SHOWN_AS = {  # models of recipes/reproduce.toml -> what they are, at the scale at which they are compressed
    "BioMiniLM-start": "6-layer MiniLM",
    "BioDistilBERT-start": "3-layer MiniLM",
    "BioTinyBERT-start": "4 x 312 TinyBERT",
}
TEACHER_ENDING = " (teacher)"


@dataclass(frozen=True)
class Student:
    """A model that starts students, with their names in tables.

    Args:
        start: its name in records.
    """

    start: str

    @property
    def name(self) -> str:
        return SHOWN_AS.get(self.start, self.start)

    @property
    def alone(self) -> str:
        """Fine-tuned on the labels, without a teacher."""
        return f"{self.name} (labels alone)"

    @property
    def longer(self) -> str:
        """Likewise, in at least as many steps as its distillation takes."""
        return f"{self.name} (labels alone, as many steps)"

    @property
    def distilled(self) -> str:
        return f"{self.name} (distilled)"

    @property
    def int8(self) -> str:
        return f"{self.name} (distilled, int8)"


@dataclass(frozen=True)
class Compressed:
    """A teacher, its students and their controls.

    Args:
        teacher: its name in tables.
        students: with an int8 model, in the order of the records.
        lines: their records of scores, with the names in tables.
        speeds: name in tables -> the last record of its speed.
        beside: name of an int8 model in tables -> the record of its teacher's speed that was made with it.
    """

    teacher: str
    students: tuple[Student, ...]
    lines: tuple[Line, ...]
    speeds: Mapping[str, Mapping[str, Any]]
    beside: Mapping[str, Mapping[str, Any]]

    @cached_property
    def measured(self) -> MeasuredByCell:
        """(name in tables, column) -> scores on words."""
        return by_model_and_column(measure(self.lines), on_pieces=False)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """The tasks on which some int8 student was scored beside its teacher."""
        with_teacher = sorted(column for name, column in self.measured if name == self.teacher)
        int8 = [student.int8 for student in self.students]
        return tuple(column for column in with_teacher if any((name, column) in self.measured for name in int8))

    def of(self, student: Student) -> tuple[Column, ...]:
        """Return the tasks of one student."""
        return tuple(column for column in self.columns if (student.int8, column) in self.measured)

    def faster(self, student: Student) -> float | None:
        """Return the throughput of the int8 model over that of its teacher, timed one after the other."""
        own, teacher = (of.get(student.int8) for of in (self.speeds, self.beside))
        return own["tokens_per_s"] / teacher["tokens_per_s"] if own and teacher else None

    @property
    def seeds(self) -> tuple[int, int]:
        """The fewest and the most seeds of a model on a task."""
        counts = [len(each.seeds) for (_, column), each in self.measured.items() if column in self.columns]
        return min(counts), max(counts)

    @property
    def unlabeled(self) -> tuple[int, ...]:
        """How many texts only the teacher labeled, by the students' records; all numbers that occur."""
        distilled = [line.record["protocol"].get("distillation", {}) for line in self.lines]
        return tuple(sorted({each["unlabelled"] for each in distilled if each.get("unlabelled")}))

    @property
    def with_longer(self) -> tuple[Student, ...]:
        """The students that were fine-tuned on labels alone for as many steps as their distillation takes."""
        names = {name for name, _ in self.measured}
        return tuple(student for student in self.students if student.longer in names)

    @property
    def steps_to_alone(self) -> float | None:
        """The steps of distilled students over those of labels alone, on average; None if one was not measured."""
        steps: dict[str, list[int]] = {}
        for line in self.lines:
            steps.setdefault(line.model, []).append(_steps(line))
        pairs = [(steps.get(each.distilled, [0]), steps.get(each.alone, [0])) for each in self.students]
        ratios = [np.mean(distilled) / np.mean(alone) for distilled, alone in pairs if sum(distilled) and sum(alone)]
        return float(np.mean(ratios)) if ratios else None

    def kept(self, name: str, reference: str) -> Contrast | str:
        """Return a model's score over another's, averaged over the tasks that both have; or why there is none."""
        return contrast(self.measured, name, reference, 1.0)


def compressed_models(lines: Iterable[Line], timed: Iterable[Line] = (), controls: Iterable[Line] = ()) -> Compressed:
    """Select and rename what belongs together.

    Args:
        lines: records of scores of one teacher and its students.
        timed: records of the speed of both.
        controls: records of scores of the students' start weights, fine-tuned on the labels alone; others are ignored.

    Raises:
        UserError: no teacher, several, or no student that was measured beside it.
    """
    scores = [line for line in score_lines(lines) if line.record["split"] == "test"]
    teacher = _teacher_of(scores)
    students = tuple(Student(name.removesuffix(INT8_ENDING)) for name in _names(scores) if name.endswith(INT8_ENDING))
    names = {teacher: _shown(teacher)}
    for each in students:
        names |= {f"{each.start}{DISTILLED_ENDING}": each.distilled, f"{each.start}{INT8_ENDING}": each.int8}
    chosen = [renamed(line, names[line.model]) for line in scores if line.model in names]
    chosen += _controls(controls, students, scores)
    speeds, beside = _speeds([line.record for line in timed], teacher, students)
    found = Compressed(names[teacher], students, tuple(chosen), speeds, beside)
    if not chosen or not found.columns:
        raise UserError("no int8 student was scored beside its teacher", where="--records")
    return found


def _teacher_of(lines: Iterable[Line]) -> str:
    names = [name for name in _names(lines) if not name.endswith((DISTILLED_ENDING, INT8_ENDING))]
    if len(names) != 1:
        raise UserError(f"{len(names) or 'no'} teachers among these records", where="--records")
    return names[0]


def _controls(lines: Iterable[Line], students: Iterable[Student], scores: Iterable[Line]) -> Iterator[Line]:
    """Yield the students' start weights that were fine-tuned on the labels alone, with their names in tables.

    A distilled student also reads text that only its teacher labels, so it takes more steps in as many epochs. Where a
    student was fine-tuned on labels in several ways, those of as many steps are `Student.longer`.
    """
    distilled = {(line.model.removesuffix(DISTILLED_ENDING), line.task): _steps(line) for line in scores}
    by_start = {each.start: each for each in students}
    chosen = [line for line in score_lines(lines) if line.model in by_start]
    ways: dict[tuple[str, str], set[Way]] = {}
    for line in chosen:
        ways.setdefault((line.model, line.task), set()).add(way_of(line.record))
    for line in chosen:
        key, student = (line.model, line.task), by_start[line.model]
        as_long = len(ways[key]) > 1 and _steps(line) >= distilled.get(key, 0) > 0
        yield renamed(line, student.longer if as_long else student.alone)


def _steps(line: Line) -> int:
    """Return how many steps a fine-tuning took, 0 if its record does not say."""
    return line.record.get("how", {}).get("steps", 0)


def _shown(teacher: str) -> str:
    return f"{SHOWN_AS.get(teacher, teacher)}{TEACHER_ENDING}"


def _names(lines: Iterable[Line]) -> list[str]:
    return list(dict.fromkeys(line.model for line in lines))


def _speeds(timed: Sequence[Mapping[str, Any]], teacher: str, students: Iterable[Student]) -> tuple[dict, dict]:
    """Return the last record of each with the most threads, on the machine of the last record; and the teacher's
    that was made last before, because a machine is not equally fast at all times."""
    if not timed:
        return {}, {}
    last = timed[-1]
    same = [each for each in timed if each["device"] == last["device"] and each["length"] == last["length"]]
    threads = max(each["threads"] for each in same)
    of_teacher = _shown(teacher)
    names = {(teacher, "torch-fp32"): of_teacher} | {(each.start, "onnx-int8"): each.int8 for each in students}
    speeds: dict[str, Mapping[str, Any]] = {}
    beside: dict[str, Mapping[str, Any]] = {}
    for each in same:
        name = names.get((each["model"], each["variant"]))
        if name and each["threads"] == threads:
            speeds[name] = each
            if of_teacher in speeds and name != of_teacher:
                beside[name] = speeds[of_teacher]
    return speeds, beside
