"""Records of compression -> what task distillation gains, what int8 and pruning cost."""

import re
from collections.abc import Callable, Iterable

from compact_biomed.report.claims import TEACHER
from compact_biomed.report.gap import Gap, gaps
from compact_biomed.report.records import Line, score_lines

FOLDER = "compression"
STUDENT = "DistilBioBERT"
_PRUNED = re.compile(r"-(weights|heads|units)[0-9][-+.e0-9]*(-|$)")  # as `recipes/pruning.py` names what it makes
FP32, AGAIN = " fp32", "-again"  # as `compact-biomed score` and `recipes/pruning.py` name what others are held against


def is_of_compression(line: Line) -> bool:
    """Whether it stands in results/compression/: scores by settings that the tables of scores don't mix with theirs."""
    return line.file.parent.name == FOLDER


def compression_gains(lines: Iterable[Line]) -> dict[str, list[Gap]]:
    """What the records in results/compression/ tell, by the name of their files (several may begin with it)."""
    found: dict[str, list[Line]] = {}
    for line in score_lines(line for line in lines if is_of_compression(line)):
        for name in _GAINS:
            if line.file.name.startswith(name):
                found.setdefault(name, []).append(line)
    return {name: _GAINS[name](found[name]) for name in _GAINS if name in found}


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
            own = [name for name in names if name != baseline and _is_of(name, of_model)]
            found += gaps(lines, baseline, models=own) if own else []
        return found

    return of


def _is_of(name: str, model: str) -> bool:
    """Whether a name is the model's with a way to run it ("M ONNX int8") or with what was pruned ("M-heads30")."""
    rest = name.removeprefix(model)
    return rest != name and (rest.startswith(" ") or _PRUNED.match(rest) is not None)


_GAINS = {"task_distillation": _of_distillation, "int8": _beside(FP32), "pruning": _beside(AGAIN)}
