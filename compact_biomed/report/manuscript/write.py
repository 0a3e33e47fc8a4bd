"""The folder paper/generated/: all of it or none."""

from collections.abc import Sequence
from pathlib import Path

from compact_biomed.files import atomic_folder
from compact_biomed.report.figures import size_figure
from compact_biomed.report.manuscript import (
    benchmarks,
    compression_tables,
    outcome_tables,
    score_tables,
    sentences,
    trace,
    training_tables,
)
from compact_biomed.report.manuscript.all_numbers import numbers_of
from compact_biomed.report.manuscript.inputs import Inputs, inputs_from
from compact_biomed.report.records import Line

_PIECES = {
    "abstract": sentences.abstract,
    "verdicts": sentences.verdicts,
    "ranking": sentences.ranking,
    "benchmarks": benchmarks.benchmarks,
    "scores": score_tables.scores,
    "intervals": score_tables.intervals,
    "retained": score_tables.retained,
    "comparisons": score_tables.all_comparisons,
    "architectures": training_tables.architectures,
    "trainings": training_tables.trainings,
    "claims": outcome_tables.claims,
    "ablations": outcome_tables.ablations,
    "compression": compression_tables.compression,
    "speed": outcome_tables.speed,
    "runs": trace.of_scores,
    "code": trace.of_code,
}


def write_manuscript(lines: Sequence[Line], folder: Path) -> None:
    """Write what paper/*.tex reads: numbers, tables and sentences in LaTeX, and the picture of size against score.

    The same records give the same bytes.

    Raises:
        UserError: a record that is missing, with the command that makes it, or records that do not go together;
            the folder is then as before.
    """
    found = inputs_from(lines)
    numbers = numbers_of(found)
    with atomic_folder(folder) as temporary:
        for name, make in _PIECES.items():
            _write(temporary, name, make(found))
        _write(temporary, "values", trace.values(numbers))
        _write(temporary, "numbers", trace.of_numbers(numbers))
        _picture(found, temporary / "sizes.pdf")


def _write(folder: Path, name: str, content: str) -> None:
    (folder / f"{name}.tex").write_text(f"% made from records by `make paper`\n{content}", encoding="utf-8")


def _picture(found: Inputs, path: Path) -> None:
    table, tasks = benchmarks.for_picture(found)
    size_figure(table, path, tasks=tasks, form="pdf", across=2)
