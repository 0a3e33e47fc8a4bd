"""The records that the manuscript is made from; an error names what is missing and the command that makes it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line, score_lines
from compact_biomed.report.claims import Judged, judge
from compact_biomed.report.claims_of_tasks import judge_tasks
from compact_biomed.report.compare import Comparison, compare
from compact_biomed.report.compressed import Compressed, Student, compressed_models
from compact_biomed.report.contrasts import Contrast, MeasuredByCell, by_model_and_column, contrast
from compact_biomed.report.family import TEACHER
from compact_biomed.report.gap import Gap, compression_gains, is_of_compression
from compact_biomed.report.grid import ScoreGrid, score_grid
from compact_biomed.report.measured import Column, measure
from compact_biomed.report.speed import last_steps
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.trainings import Group, grouped, last_trainings

SHOWN = "sketch"  # the preset that the manuscript shows; `shown` in recipes/reproduce.toml
TASKS = "tasks"  # the preset whose task distillation it shows; `shown_tasks` there
REPRODUCE = f"python recipes/reproduce.py --preset {SHOWN}"
DISTILL_TASKS = f"python recipes/reproduce.py --preset {TASKS}"
STUDY = f"results/{SHOWN}"  # the folder of its records
ABLATE = "python recipes/ablations/students_vs_mlm.py"
BENCH_STEP = "compact-biomed bench step --records results/speed/step.jsonl"
COMPRESS = "compact-biomed distill --task NCBI-disease --records results/compression/task_distillation.jsonl"
BENCH_FINETUNE = "compact-biomed bench finetune --records results/speed/finetune.jsonl"
REGISTRY = "registry:"
_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Inputs:
    """Everything that the manuscript shows.

    Args:
        trainings: model -> its last record.
        scores: records of test scores, from which `grid` is computed.
        compared: (model, column) -> the model beside the teacher.
        common: the columns on words that every model has, with enough seeds.
        ratios: model -> its scores over the teacher's, averaged over `common`; empty where there is no such column.
        words, pieces: the claims, judged on each scale.
        ablations: those that were run.
        gains: gain of task distillation, cost of int8 and pruning; those that were measured.
        compressed: the records of these.
        tasks: teacher and students of task distillation from all labels, with `task_claims` on them.
        timed_tasks: records of their speed.
        steps: recipe -> the record of its training step, at the published size.
        finetune: record of fine-tuning beside the plain implementation.
    """

    trainings: dict[str, Line]
    scores: Sequence[Line]
    grid: ScoreGrid
    compared: dict[tuple[str, Column], Comparison]
    common: tuple[Column, ...]
    ratios: dict[str, Contrast]
    words: Sequence[Judged]
    pieces: Sequence[Judged]
    ablations: Sequence[Group]
    gains: dict[str, list[Gap]]
    compressed: Sequence[Line]
    tasks: Compressed
    task_claims: dict[Student, list[Judged]]
    timed_tasks: Sequence[Line]
    steps: dict[str, Line]
    finetune: Line


def inputs_from(lines: Sequence[Line]) -> Inputs:
    """Select and compute everything from records.

    Raises:
        UserError: a kind of record is missing, models were made from different text, or a table refuses its records.
    """
    compressed = [line for line in lines if is_of_compression(line)]
    of_tasks = [line for line in lines if line.file.parent.name == TASKS]
    lines = [line for line in lines if not is_of_compression(line) and line.file.parent.name != TASKS]
    # Records that may be missing come first, because the tables take a while.
    trainings = _of_one_text(_or_remedy(lambda: last_trainings(lines), REPRODUCE))
    scores = [line for line in score_lines(lines) if line.record["split"] == "test"]
    if not any(line.model == TEACHER for line in scores):
        raise UserError(f"no record of scores of {TEACHER}", where="--records", remedy=REPRODUCE)
    ablations = _or_remedy(lambda: grouped(lines), ABLATE)
    steps = _or_remedy(lambda: last_steps(lines), BENCH_STEP)
    timed = [line for line in lines if line.record.get("kind") == "bench-finetune"]
    if not timed:
        raise UserError("no record of bench finetune", where="--records", remedy=BENCH_FINETUNE)
    gains = compression_gains(compressed)
    if "task_distillation" not in gains:
        raise UserError("no record of task distillation", where="--records", remedy=COMPRESS)
    tasks, timed_tasks = _tasks(of_tasks)
    _check_weights(lines, scores)
    measured = by_model_and_column(measure(scores), on_pieces=False)
    common = _common(measured)
    return Inputs(
        trainings=trainings,
        scores=scores,
        grid=score_grid(scores),
        compared={(each.model, each.column): each for each in compare(scores, TEACHER)},
        common=common,
        ratios=_ratios(measured, common),
        words=judge(scores),
        pieces=judge(scores, on_pieces=True),
        ablations=ablations,
        gains=gains,
        compressed=compressed,
        tasks=tasks,
        task_claims=judge_tasks(tasks),
        timed_tasks=timed_tasks,
        steps={recipe: line for (recipe, preset), line in steps.items() if preset == "paper"},
        finetune=timed[-1],
    )


def field(line: Line, path: str) -> Any:
    """Return a field inside a record, its parts joined by dots.

    Raises:
        UserError: the record has none.
    """
    value: Any = line.record
    for part in path.split("."):
        if not isinstance(value, dict) or part not in value:
            remedy = f"make the record again: {line.record.get('from', {}).get('command', REPRODUCE)}"
            raise UserError(f"a record without {path}", where=line.where, remedy=remedy)
        value = value[part]
    return value


def _common(measured: MeasuredByCell) -> tuple[Column, ...]:
    models = {model for model, _ in measured}
    enough = {key for key, each in measured.items() if len(each.seeds) >= FEWEST_SEEDS}
    columns = sorted({column for _, column in measured})
    return tuple(column for column in columns if all((model, column) in enough for model in models))


def _ratios(measured: MeasuredByCell, common: Sequence[Column]) -> dict[str, Contrast]:
    of_common = {key: each for key, each in measured.items() if key[1] in common}
    models = sorted({model for model, _ in of_common} - {TEACHER})
    ratios = {model: contrast(of_common, model, TEACHER, 1.0) for model in models}
    return {model: each for model, each in ratios.items() if isinstance(each, Contrast)}


def _tasks(lines: Sequence[Line]) -> tuple[Compressed, list[Line]]:
    """Return what was distilled for tasks from all labels, and the records of its speed."""
    of_file = {name: [line for line in lines if line.file.stem == name] for name in ("compression", "evaluation")}
    timed = [line for line in lines if line.record.get("kind") == "bench-inference"]
    try:
        return compressed_models(of_file["compression"], timed, of_file["evaluation"]), timed
    except UserError as error:
        what = f"no record of task distillation from all labels ({error.what})"
        raise UserError(what, where="--records", remedy=DISTILL_TASKS) from None


def _or_remedy(make: Callable[[], _Made], remedy: str) -> _Made:
    """Return what `make` returns; where records are missing, name the command that makes them."""
    try:
        return make()
    except UserError as error:
        if not error.what.startswith("no record of"):
            raise
        raise UserError(error.what, where="--records", remedy=remedy) from None


def _check_weights(lines: Sequence[Line], scores: Sequence[Line]) -> None:
    """Refuse scores of other weights than those of a training; models from the package index have no training."""
    trainings: dict[str, list[Line]] = {}
    for line in lines:
        if line.record.get("record") == "pretraining":
            trainings.setdefault(line.record["model"], []).append(line)
    for line in scores:
        trained = trainings.get(line.model)
        if trained is None and not str(line.record["model"].get("start", "")).startswith(REGISTRY):
            remedy = f"{REPRODUCE} --only pretraining,{line.model}"
            raise UserError(f"no record of the training of {line.model}", where=line.where, remedy=remedy)
        weights = [field(each, "weights_sha256") for each in trained or ()]
        if trained and line.record["model"]["weights_sha256"] not in weights:
            what = f"the scores of {line.model} are of other weights than its training left"
            where = f"{line.where} and {trained[-1].where}"
            raise UserError(what, where=where, remedy=f"{REPRODUCE} --only {line.model}")


def _of_one_text(trainings: dict[str, Line]) -> dict[str, Line]:
    first = next(iter(trainings.values()))
    for line in trainings.values():
        if field(line, "corpus.fingerprint") != field(first, "corpus.fingerprint"):
            where = f"{first.where} and {line.where}"
            remedy = f"keep the records of one corpus in {STUDY}/pretraining.jsonl"
            raise UserError("the models were not made from one text", where=where, remedy=remedy)
    return trainings


# ---- Numbers in the text, and the format of numbers and references to records


@dataclass(frozen=True)
class Number:
    """A number of the text.

    Args:
        name: `\\val{NAME}` in the manuscript.
        text: in plain characters.
        means: what it is.
        source: files with lines, or the module that defines the constant.
        command: makes these records.
    """

    name: str
    text: str
    means: str
    source: str
    command: str


def line_references(lines: Iterable[Line]) -> str:
    """Return the files and lines of some records: results/a.jsonl:1-3,7"""
    by_file: dict[str, set[int]] = {}
    for line in lines:
        by_file.setdefault(str(line.file), set()).add(line.number)
    return "; ".join(f"{file}:{_runs(sorted(numbers))}" for file, numbers in sorted(by_file.items()))


def _runs(numbers: Sequence[int]) -> str:
    """Format sorted numbers as ranges: 1, 2, 3, 7 -> 1-3,7."""
    runs = [[n for _, n in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def span(values: Sequence[float], form: str) -> str:
    """Return one number if all are written alike, else the lowest and the highest."""
    low, high = form.format(min(values)), form.format(max(values))
    return low if low == high else f"{low} to {high}"


def listed(values: Sequence[Any], form: str = "{}") -> str:
    """Return the different values, sorted and separated by commas."""
    return ", ".join(form.format(value) for value in sorted(set(values)))


def count(value: Sequence) -> str:
    """Return the number of entries."""
    return f"{len(value)}"
