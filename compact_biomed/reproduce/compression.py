"""Records of compression -> what task distillation gains, what int8 and pruning cost."""

from collections.abc import Callable
from pathlib import Path

from compact_biomed.report.claims import TEACHER
from compact_biomed.report.gap import Gap, gaps
from compact_biomed.report.records import Line, read_lines, score_lines

STUDENT = "DistilBioBERT"
FP32, AGAIN = " fp32", "-again"  # as `compact-biomed score` and `recipes/pruning.py` name what others are held against


def compression_gains(folder: Path) -> dict[str, list[Gap]]:
    """What is told of the records that are there, by the name of their files.

    Args:
        folder: `compression/` in the folder of results.
    """
    found = {}
    for name, gains in _GAINS.items():
        if files := sorted(folder.glob(f"{name}*.jsonl")):  # a file for each set, where they were made side by side
            found[name] = gains(score_lines(read_lines(files)))
    return found


def _of_distillation(lines: list[Line]) -> list[Gap]:
    return gaps(lines, STUDENT, teacher=TEACHER)


def _beside(ending: str) -> Callable[[list[Line]], list[Gap]]:
    """Each model beside that of its own whose name ends so."""

    def of(lines: list[Line]) -> list[Gap]:
        names = list(dict.fromkeys(line.record["model"]["name"] for line in lines))
        found = []
        for baseline in (name for name in names if name.endswith(ending)):
            of_model = baseline.removesuffix(ending)
            if any(of_model.startswith(f"{name.removesuffix(ending)} ") for name in names if name.endswith(ending)):
                continue  # an export in float32 is itself held against PyTorch
            own = [name for name in names if name.startswith(of_model) and name != baseline]
            found += gaps(lines, baseline, models=own) if own else []
        return found

    return of


_GAINS = {"task_distillation": _of_distillation, "int8": _beside(FP32), "pruning": _beside(AGAIN)}
