"""Records -> what each model retains of a teacher's scores, and whether the two can be told apart."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from compact_biomed.errors import UserError
from compact_biomed.report.measured import Column, Measured, measure
from compact_biomed.report.parallel import on_all_cores
from compact_biomed.report.records import Line
from compact_biomed.report.resampling import Interval, randomization_test, retention
from compact_biomed.report.statistics import FEWEST_SEEDS, Summary, holm, seed_tests, summarize

TESTS = ("examples", "t", "wilcoxon")
"""Over test examples: approximate randomization; over seeds: paired t-test and Wilcoxon's signed ranks."""


@dataclass(frozen=True)
class Comparison:
    """A model beside the teacher on one column.

    Args:
        scores, of_teacher: over all seeds of each.
        retained: ratio of the two mean scores, None where the teacher's is 0.
        interval: 95 %, of the ratio, over examples and seeds; None where it cannot be made.
        p: test of `TESTS` -> p-value, over the seeds that both have, None where it cannot be made.
        holm: the same, adjusted for all comparisons of the table on the same scale.
        how: what all scores of the column share.
        notes: what so few seeds or folds cannot say.
        marked: whether seeds or folds of one of the two are too few for a score of the task.
    """

    model: str
    column: Column
    scores: Summary
    of_teacher: Summary
    retained: float | None
    interval: Interval | None
    p: dict[str, float | None]
    holm: dict[str, float | None]
    how: str
    notes: tuple[str, ...]
    marked: bool


def compare(
    lines: Sequence[Line], teacher: str, *, models: Sequence[str] | None = None, split: str = "test"
) -> list[Comparison]:
    """Every model beside the teacher, on each column that both were measured on.

    Args:
        teacher: name of the model that the others are held against.
        models: names; None = all others.

    Raises:
        UserError: a name that no record has, nothing in common, or what `measure` refuses.
    """
    found = measure(lines, split=split)
    known = {each.model for each in found}
    for flag, name in [("--teacher", teacher), *(("--models", model) for model in models or ())]:
        if name not in known:
            raise UserError(
                f"no scores of {name!r} on {split}", where=flag, remedy=f"one of {', '.join(sorted(known))}"
            )
    teachers = {each.column: each for each in found if each.model == teacher and each.seeds}
    wanted = [
        each
        for each in found
        if each.seeds and each.model != teacher and each.column in teachers and (not models or each.model in models)
    ]
    if not wanted:
        left = [
            f"{each.model} on {each.column.title}: {note}" for each in found for note in each.notes if not each.seeds
        ]
        why = f" ({'; '.join(left)})" if left else ""
        raise UserError(
            f"no model was measured whole on what {teacher} was measured on{why}", where="--records",
            remedy="evaluate both",
        )  # fmt: skip
    return _corrected(on_all_cores(lambda each: _compare(each, teachers[each.column]), wanted))


def _compare(model: Measured, teacher: Measured) -> Comparison:
    scores, of_teacher = summarize(model.scores()), summarize(teacher.scores())
    interval, no_interval = _interval(model, teacher)
    p, few = paired_tests(model, teacher)
    fewest = min(scores.n, of_teacher.n)
    if interval and fewest < 2:
        few.insert(0, "one seed: the interval is over examples alone")
    notes = [*dict.fromkeys([*model.notes, *teacher.notes]), *no_interval, *few]
    return Comparison(
        model=model.model,
        column=model.column,
        scores=scores,
        of_teacher=of_teacher,
        retained=scores.mean / of_teacher.mean if of_teacher.mean > 0 else None,
        interval=interval,
        p=p,
        holm={},
        how=model.how,
        notes=tuple(notes),
        marked=fewest < FEWEST_SEEDS or not model.whole,
    )


def _interval(model: Measured, teacher: Measured) -> tuple[Interval | None, list[str]]:
    """Interval of what is retained, or why there is none."""
    if summarize(teacher.scores()).mean <= 0:
        return None, ["the teacher's score is not above 0: nothing to retain"]
    units, of_teacher = model.units(), teacher.units()
    if units is None or of_teacher is None:
        return None, ["no counts of single examples: no interval, no test over examples"]
    try:
        found = retention(units, of_teacher, model.metric)
    except ValueError as error:
        return None, [f"no interval: {error}"]
    if not np.isfinite([found.low, found.high]).all():
        return None, ["no interval: the teacher scores 0 in some resamples"]
    return found, []


def paired_tests(model: Measured, teacher: Measured) -> tuple[dict[str, float | None], list[str]]:
    """p-values over the seeds that both have, and what they cannot say."""
    p: dict[str, float | None] = dict.fromkeys(TESTS)
    both = [seed for seed in model.seeds if seed in teacher.seeds]
    if not both:
        return p, ["no seed in common: no tests"]
    notes = []
    if len(both) < max(len(model.seeds), len(teacher.seeds)):
        notes.append(f"tests over the {len(both)} seeds that both have")
    units, of_teacher = model.units(both), teacher.units(both)
    if units is not None and of_teacher is not None:
        p["examples"] = randomization_test(units, of_teacher, model.metric)
    over_seeds = seed_tests(model.scores(both), teacher.scores(both))
    p |= {"t": over_seeds.t, "wilcoxon": over_seeds.wilcoxon}
    return p, [*notes, *([over_seeds.note] if over_seeds.note else [])]


def _corrected(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Holm's correction, by test and by scale: words and word-pieces are two readings of the same predictions."""
    adjusted: list[dict[str, float | None]] = [dict.fromkeys(TESTS) for _ in comparisons]
    for test in TESTS:
        for on_pieces in (False, True):
            family = [
                (number, each.p[test])
                for number, each in enumerate(comparisons)
                if each.column.on_pieces == on_pieces and each.p[test] is not None
            ]
            for (number, _), value in zip(family, holm([p for _, p in family]), strict=True):
                adjusted[number][test] = value
    return [replace(each, holm=values) for each, values in zip(comparisons, adjusted, strict=True)]
