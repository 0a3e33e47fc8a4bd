"""What the manuscript is made from, found among records; what is missing is named with the command that makes it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from compact_biomed.errors import UserError
from compact_biomed.report.ablation_table import Group, grouped
from compact_biomed.report.bench_table import last_steps
from compact_biomed.report.claims import CONTINUAL, DISTILLED, TEACHER, Judged, judge
from compact_biomed.report.contrast import Scores, by_model_and_column
from compact_biomed.report.measured import measure
from compact_biomed.report.pretraining_table import last_trainings
from compact_biomed.report.records import Line, score_lines
from compact_biomed.report.tables import Table, build_table

REPRODUCE = "python recipes/reproduce.py --preset mini"
ABLATE = "python recipes/ablations/students_vs_mlm.py"
BENCH_STEP = "compact-biomed bench step --records results/bench/step.jsonl"
BENCH_FINETUNE = "compact-biomed bench finetune --records results/bench/finetune.jsonl"
_GROUPS = (
    ("-start", "Start weights, unadapted"),
    ("-mlm", "The students without a teacher"),
    ("-random", "From random weights"),
)
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Inputs:
    """Args:
    trainings: model -> its last record.
    scores: records of test scores, `table` made from them, and `measured` on words alone.
    words, pieces: the claims, judged on each scale.
    ablations: those that there are.
    steps: recipe -> the record of its training step, of the published size.
    finetune: record of fine-tuning beside the plain way.
    """

    trainings: dict[str, Line]
    scores: Sequence[Line]
    table: Table
    measured: Scores
    words: Sequence[Judged]
    pieces: Sequence[Judged]
    ablations: Sequence[Group]
    steps: dict[str, Line]
    finetune: Line


def inputs_from(lines: Sequence[Line]) -> Inputs:
    """Everything, or one line on what is missing.

    Raises:
        UserError: a kind of record that is not there, models made from different text, or what tables refuse.
    """
    scores = [line for line in score_lines(lines) if line.record["split"] == "test"]
    if not any(line.model == TEACHER for line in scores):
        raise UserError(f"no record of scores of {TEACHER}", where="--records", remedy=REPRODUCE)
    timed = [line for line in lines if line.record.get("kind") == "bench-finetune"]
    if not timed:
        raise UserError("no record of bench finetune", where="--records", remedy=BENCH_FINETUNE)
    steps = _or_remedy(lambda: last_steps(lines), BENCH_STEP)
    return Inputs(
        trainings=_of_one_text(_or_remedy(lambda: last_trainings(lines), REPRODUCE)),
        scores=scores,
        table=build_table(scores),
        measured=by_model_and_column(measure(scores), on_pieces=False),
        words=judge(scores),
        pieces=judge(scores, on_pieces=True),
        ablations=_or_remedy(lambda: grouped(lines), ABLATE),
        steps={recipe: line for (recipe, preset), line in steps.items() if preset == "paper"},
        finetune=timed[-1],
    )


def field(line: Line, path: str) -> Any:
    """A field inside a record, its parts with dots between them.

    Raises:
        UserError: the record has none.
    """
    found: Any = line.record
    for part in path.split("."):
        if not isinstance(found, dict) or part not in found:
            remedy = f"make the record again: {line.record.get('from', {}).get('command', REPRODUCE)}"
            raise UserError(f"a record without {path}", where=line.where, remedy=remedy)
        found = found[part]
    return found


def groups_of(models: Sequence[str]) -> dict[str, list[str]]:
    """Title -> the models of each kind, in the order of the paper's table; kinds without any are left out."""
    found: dict[str, list[str]] = {"Teacher": [], "Distilled": [], "Continually pretrained": [], "General": []}
    found |= {title: [] for _, title in _GROUPS}
    for model in sorted(models, key=lambda name: _place(name)):
        found[_title(model)].append(model)
    return {title: names for title, names in found.items() if names}


def _title(model: str) -> str:
    if model == TEACHER:
        return "Teacher"
    if model in DISTILLED:
        return "Distilled"
    if model in CONTINUAL:
        return "Continually pretrained"
    return next((title for suffix, title in _GROUPS if model.endswith(suffix)), "General")


def _place(model: str) -> tuple[int, str]:
    order = [*DISTILLED, *CONTINUAL]
    base = model.rpartition("-")[0] or model
    return (order.index(base) if base in order else len(order), model)


def _or_remedy(make: Callable[[], _Made], remedy: str) -> _Made:
    """What `make` gives; if records are missing, with the command that makes these."""
    try:
        return make()
    except UserError as error:
        if not error.what.startswith("no record of"):
            raise
        raise UserError(error.what, where="--records", remedy=remedy) from None


def _of_one_text(trainings: dict[str, Line]) -> dict[str, Line]:
    first = next(iter(trainings.values()))
    for line in trainings.values():
        if field(line, "corpus.fingerprint") != field(first, "corpus.fingerprint"):
            raise UserError(
                "the models were not made from one text", where=f"{first.where} and {line.where}",
                remedy="keep the records of one corpus in results/pretraining.jsonl",
            )  # fmt: skip
    return trainings
