"""Claims on task distillation, judged by records as the paper's are: does a small model keep what its teacher has?"""

from collections.abc import Sequence
from dataclasses import replace

from compact_biomed.report.claims import Claim, Judged, claims_table, judge_each
from compact_biomed.report.compressed import Compressed, Student
from compact_biomed.report.contrasts import RESAMPLES
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.table import Table

KEPT = (0.988, 0.97)
"""Of the teacher's score: what the paper's best distilled model kept of BioBERT's, and a lower threshold of our own."""
_OF_INT8 = 0.99
_LEGEND = (
    "Measured: the model's F1 on words over the reference's, averaged over the sets that both have (95 % bootstrap "
    "interval over test examples and seeds; seeds per model and set). p: two-sided, that the ratio is the claim's "
    "threshold, by the same resamples. A claim holds, or does not hold, where the whole interval is on one side of the "
    f"threshold and p is below 0.05, and is undecided otherwise; with fewer than {FEWEST_SEEDS} seeds it cannot be "
    "tested. Sets are fixed: nothing follows for others."
)


def claims_of(student: Student, models: Compressed) -> list[Claim]:
    """Return the claims on one student, about names in tables."""
    claims = [
        Claim(
            f"Distilled and in int8, it keeps {100 * kept:g} % of its teacher", ((student.int8, models.teacher),), kept
        )
        for kept in KEPT
    ]
    claims.append(Claim("Distillation adds to labels alone (both in fp32)", ((student.distilled, student.alone),)))
    if student in models.with_longer:
        claims.append(Claim("It adds to as many steps on labels alone", ((student.distilled, student.longer),)))
    claims.append(Claim(f"int8 keeps {100 * _OF_INT8:g} % of fp32", ((student.int8, student.distilled),), _OF_INT8))
    return claims


def judge_tasks(models: Compressed, *, resamples: int = RESAMPLES) -> dict[Student, list[Judged]]:
    """Judge the claims on every student."""
    return {
        student: judge_each(claims_of(student, models), models.measured, resamples=resamples)
        for student in models.students
    }


def task_claims_tables(judged: dict[Student, list[Judged]]) -> list[Table]:
    """Return one table per student; the last one names the sets."""
    tables = [claims_table(f"Student: {student.name}", each, _LEGEND) for student, each in judged.items()]
    return [*tables[:-1], replace(tables[-1], notes=(f"Sets: {', '.join(sets_of(judged)) or 'none'}.",))]


def sets_of(judged: dict[Student, list[Judged]]) -> Sequence[str]:
    """Return the names of the sets behind the contrasts."""
    contrasts = [one for of_student in judged.values() for each in of_student for one in each.contrasts]
    return sorted({column.task for one in contrasts for column in one.columns})
