"""The single numbers of the text, from records and from the constants of the statistics, and their appendix."""

from collections.abc import Callable, Sequence
from typing import Any

from compact_biomed.errors import UserError
from compact_biomed.records.lines import Line
from compact_biomed.report.claims import SIGNIFICANCE
from compact_biomed.report.contrasts import RESAMPLES as CONTRAST_RESAMPLES
from compact_biomed.report.contrasts import Contrast
from compact_biomed.report.family import TEACHER, groups_of
from compact_biomed.report.latex import latex_code, latex_long, latex_text
from compact_biomed.report.manuscript.inputs import (
    BENCH_FINETUNE,
    BENCH_STEP,
    REPRODUCE,
    STUDY,
    Inputs,
    Number,
    count,
    field,
    line_references,
    listed,
    span,
)
from compact_biomed.report.manuscript.tasks import numbers_of_tasks
from compact_biomed.report.resampling import RESAMPLES
from compact_biomed.report.statistics import FEWEST_SEEDS
from compact_biomed.report.table import Cell, Row, Table, TableColumn, command, words
from compact_biomed.training.recipe import PUBLISHED

_MAKE = "make paper"
_CONTROL = "-mlm"


def numbers_of(inputs: Inputs) -> list[Number]:
    """Return all of them, in the order of the appendix.

    Raises:
        UserError: a record lacks a field.
    """
    return [
        *_corpus(inputs),
        *_pretraining(inputs),
        *_evaluation(inputs),
        *_claims(inputs),
        *_statistics(),
        *numbers_of_tasks(inputs),
        *_speed(inputs),
    ]


def _corpus(inputs: Inputs) -> list[Number]:
    lines = list(inputs.trainings.values())
    first = lines[0]
    command = f"{REPRODUCE} --only pretraining"
    documents = field(first, "corpus.train.documents") + field(first, "corpus.heldout.documents")

    def number(name: str, path: str, means: str, form: Callable[[Any], str] = "{:,}".format) -> Number:
        return Number(f"corpus.{name}", form(field(first, f"corpus.{path}")), means, line_references(lines), command)

    return [
        number("citations", "documents.citations", "citations in the source files"),
        number("without_abstract", "documents.without_abstract", "citations without an abstract"),
        Number("corpus.documents", f"{documents:,}", "documents, held-out ones too", line_references(lines), command),
        number("dropped", "decontamination.documents", "documents left out because they overlap with a test set"),
        number("benchmarks", "decontamination.benchmarks", "test sets that the text was kept clear of", count),
        number("run", "decontamination.n_words", "words in a row that a document may not share with a test set"),
        number("shortest", "decontamination.shortest_text", "words of the shortest test text looked for whole"),
        number("train", "train.documents", "documents to train on"),
        number("tokens", "train.tokens", "tokens of the documents to train on"),
        number("heldout", "heldout.documents", "held-out documents"),
        number("vocabulary", "tokenizer.size", "entries of the vocabulary"),
    ]


def _pretraining(inputs: Inputs) -> list[Number]:
    lines = list(inputs.trainings.values())
    trained = [line for line in lines if field(line, "tokens")]
    if not trained:
        raise UserError("no record of a training with a step", where=lines[0].where, remedy=REPRODUCE)
    command = f"{REPRODUCE} --only pretraining"
    predicting = [line for line in trained if "unigram" in field(line, "heldout")]  # not relation distillation
    if not predicting:
        raise UserError("no record of a training that predicts words", where=lines[0].where, remedy=REPRODUCE)
    first = field(predicting[0], "heldout.unigram")

    def number(name: str, text: str, means: str, lines: Sequence[Line] = trained) -> Number:
        return Number(f"pretraining.{name}", text, means, line_references(lines), command)

    def over_models(name: str, path: str, means: str, form: str = "{:,}", lines: Sequence[Line] = trained) -> Number:
        return number(name, span([field(line, path) for line in lines], form), means, lines)

    tokens = sum(field(line, "corpus.train.tokens") for line in trained) / len(trained)
    seen = [field(line, "tokens") / tokens for line in trained]
    hours = sum(field(line, "seconds") for line in trained) / 3600
    return [
        number("models", f"{len(trained)}", "models that were pretrained"),
        over_models("tokens", "tokens", "tokens that each of them read"),
        number("documents", span([_documents(line) for line in trained], "{:,}"), "documents that each of them read"),
        Number(
            "pretraining.published",
            f"{PUBLISHED['max_steps'] * PUBLISHED['batch_size']:,}",
            "documents that the published continual trainings read",
            "compact_biomed/training/recipe.py",
            _MAKE,
        ),
        number("passes", span(seen, "{:.2f}"), "passes over the text"),
        over_models("steps", "hyperparameters.max_steps", "steps"),
        over_models("batch", "hyperparameters.batch_size", "documents per step"),
        over_models("length", "hyperparameters.max_length", "tokens of the longest document"),
        over_models("warmup", "hyperparameters.warmup_steps", "steps of warm-up", "{:,.0f}"),
        number(
            "rates",
            listed([field(line, "hyperparameters.learning_rate") for line in trained], "{:g}"),
            "peak learning rates",
        ),
        number(
            "mask",
            span([100 * field(line, "hyperparameters.mask_probability") for line in predicting], "{:g} %"),
            "of the word-pieces masked",
            predicting,
        ),
        over_models(
            "masked",
            "heldout.unigram.masked_tokens",
            "masked tokens of the held-out measurement",
            lines=predicting,
        ),
        number("unigram", f"{first['loss']:.2f}", "held-out loss of word frequencies alone, nats per masked token"),
        number("hours", f"{hours:.1f}", "hours, all trainings together"),
        number("devices", listed([field(line, "speed.device") for line in trained]), "devices that they ran on"),
    ]


def _documents(line: Line) -> int:
    """Return the number of documents that a training read."""
    return field(line, "hyperparameters.max_steps") * field(line, "hyperparameters.batch_size")


def _evaluation(inputs: Inputs) -> list[Number]:
    lines = inputs.scores

    def number(name: str, text: str, means: str) -> Number:
        return Number(f"evaluation.{name}", text, means, line_references(lines), f"{REPRODUCE} --only evaluation")

    def over_runs(path: str, form: str) -> str:
        return span([field(line, path) for line in lines], form)

    examples = [field(line, "protocol.overrides").get("max_train_examples") for line in lines]
    return [
        number("runs", f"{len(lines):,}", "fine-tunings with a score on a test set"),
        number("models", f"{len({line.model for line in lines})}", "models that were fine-tuned"),
        number("tasks", f"{len({line.task for line in lines})}", "benchmarks"),
        number(
            "seeds", span([cell.summary.n for cell in inputs.grid.cells.values()], "{}"), "seeds per model and task"
        ),
        number("rate", over_runs("settings.learning_rate", "{:g}"), "learning rate"),
        number("epochs", over_runs("settings.epochs", "{}"), "epochs"),
        number("batch", over_runs("settings.batch_size", "{}"), "examples per step"),
        number(
            "examples",
            span([n for n in examples if n], "{:,}") if any(examples) else "all",
            "largest number of training examples",
        ),
        number("hours", f"{sum(field(line, 'how.seconds') for line in lines) / 3600:.1f}", "hours, all fine-tunings"),
    ]


def contrasts_with_controls(inputs: Inputs) -> list[Contrast]:
    """Return the students beside the same students without a teacher."""
    of_students = [each for each in inputs.words if any(one == f"{model}{_CONTROL}" for model, one in each.claim.pairs)]
    return [one for each in of_students for one in each.contrasts]


def _claims(inputs: Inputs) -> list[Number]:
    """Return how wide the intervals are that decide whether a teacher helps."""
    contrasts = contrasts_with_controls(inputs)
    models = {name for one in contrasts for name in (one.model, one.reference)}
    lines = [line for line in inputs.scores if line.model in models]
    half = [50 * (one.ratio.high - one.ratio.low) for one in contrasts]
    means = "half the width of the intervals of students over their controls, in percent of the control's score"
    text = span(half, "{:.1f}") if half else "not measured"
    return [Number("claims.half", text, means, line_references(lines), f"{REPRODUCE} --only evaluation")]


def _statistics() -> list[Number]:
    def constant(name: str, value: object, means: str, module: str) -> Number:
        return Number(f"statistics.{name}", f"{value}", means, f"compact_biomed/report/{module}.py", _MAKE)

    return [
        constant("resamples", f"{RESAMPLES:,}", "resamples for an interval or a test of one score", "resampling"),
        constant("contrasts", f"{CONTRAST_RESAMPLES:,}", "resamples for a claim", "contrasts"),
        constant("significance", SIGNIFICANCE, "level of significance of claims", "claims"),
        constant("fewest", FEWEST_SEEDS, "seeds below which a score is marked and a claim left open", "statistics"),
        constant("teacher", TEACHER, "the teacher", "family"),
    ]


def _speed(inputs: Inputs) -> list[Number]:
    steps, timed = [line.record for line in inputs.steps.values()], inputs.finetune
    if not steps:
        raise UserError("no record of bench step of the published size", where="--records", remedy=BENCH_STEP)

    def step(name: str, values: Sequence[float], form: str, means: str) -> Number:
        return Number(
            f"speed.step.{name}", span(values, form), means, line_references(inputs.steps.values()), BENCH_STEP
        )

    def finetune(name: str, text: str, means: str) -> Number:
        return Number(f"speed.finetune.{name}", text, means, line_references([timed]), BENCH_FINETUNE)

    interval = field(timed, "score_difference_interval")
    bounds = "{:+.1f} to {:+.1f}".format(*interval) if interval else "no interval"
    turns = field(timed, "turns")
    tuned = []  # once all of the records compare with it
    if all("ratio_to_tuned" in r for r in steps):
        means = "training step: tokens per second over those of tuned transformers"
        tuned = [step("tuned", [r["ratio_to_tuned"] for r in steps], "{:.1f}", means)]
    return [
        *tuned,
        step(
            "ratio",
            [r["ratio"] for r in steps],
            "{:.1f}",
            "training step: tokens per second over those of the published code",
        ),
        step(
            "memory", [r["peak_memory_ratio"] for r in steps], "{:.2f}", "peak memory over that of the published code"
        ),
        step("loss", [max(r["loss_difference"] for r in steps)], "{:.0e}", "largest relative difference of the loss"),
        step("exact", [max(r["loss_difference_fp32"] for r in steps)], "{:.0e}", "the same, both in fp32"),
        finetune("ratio", f"{field(timed, 'ratio'):.2f}", "fine-tuning: tokens per second over those of plain code"),
        finetune("answers", f"{field(timed, 'ratio_of_answers'):.2f}", "predictions on the test set, the same"),
        finetune("turns", f"{len(turns)}", "seeds of that measurement"),
        finetune(
            "difference", f"{field(timed, 'score_difference'):+.1f}", "difference of the scores, ours minus plain"
        ),
        finetune("interval", bounds, "its 95 % interval"),
    ]


# ---- The appendix: the records of each number, and the command that makes them


def values(numbers: Sequence[Number]) -> str:
    """Return the text that `\\val{NAME}` shows for each number."""
    return "".join(f"\\setval{{{each.name}}}{{{latex_text(each.text)}}}\n" for each in numbers)


def of_numbers(numbers: Sequence[Number]) -> str:
    """Return one row per number of the text, which `\\val{NAME}` links to."""
    rows = []
    for making in dict.fromkeys(each.command for each in numbers):
        for each in (each for each in numbers if each.command == making):
            cells = (words(each.text), words(each.means), command(each.name), command(each.source))
            rows.append(Row(cells, section=f"made by `{making}`", id=f"num.{each.name}"))
    heads = tuple(TableColumn(title, title, left=True) for title in ("number", "what it is", "name", "from"))
    caption = "The numbers of the text: value, meaning, name in the sources of the manuscript, file and lines."
    return latex_long(Table("numbers", heads, tuple(rows)), caption, widths=("2.2cm", "4.8cm", "3.6cm", "4.0cm"))


def of_scores(inputs: Inputs) -> str:
    """Return one row per model: the lines of its records, task by task."""
    titles = ("model", "scores", "training")
    rows = []
    for section, names in groups_of(sorted({line.model for line in inputs.scores})).items():
        rows += [
            Row((words(name), words(_lines_by_task(inputs, name)), _training(inputs, name)), section=section)
            for name in names
        ]
    files = ", ".join(latex_code(str(file)) for file in dict.fromkeys(line.file for line in inputs.scores))
    trace = latex_code(f'compact-biomed tables --records {STUDY}/evaluation.jsonl --trace "MODEL,TASK"')
    caption = (
        f"The scores and trainings: lines of {files}, and of the training's record. {trace} prints the records behind "
        f"a cell, each with its command; {latex_code(REPRODUCE + ' --only MODEL,TASK')} makes them."
    )
    heads = tuple(TableColumn(title, title, left=True) for title in titles)
    return latex_long(Table("runs", heads, tuple(rows)), caption, widths=("3.6cm", "6.8cm", "4.4cm"))


def of_code(inputs: Inputs) -> str:
    """Return the revisions and versions that the records name."""
    lines = [*inputs.scores, *inputs.trainings.values(), *inputs.tasks.lines]
    revisions = sorted({field(line, "from.revision")[:12] for line in lines})
    clean = all(field(line, "from.clean") for line in lines)
    versions = sorted({f"{name} {v}" for line in lines for name, v in field(line, "from.versions").items()})
    dates = sorted(field(line, "from.date")[:10] for line in lines)
    state = "without uncommitted changes" if clean else "some with uncommitted changes"
    when = f"on {dates[0]}" if dates[0] == dates[-1] else f"from {dates[0]} to {dates[-1]}"
    return (
        f"The records were made {when} by revision{'s' * (len(revisions) > 1)} "
        f"{latex_code(', '.join(revisions))} of the code, {state}, with {latex_text(', '.join(versions))}.\n"
    )


def _lines_by_task(inputs: Inputs, model: str) -> str:
    lines = [line for line in inputs.scores if line.model == model]
    of_task = {
        task: line_references(line for line in lines if line.task == task) for task in sorted({x.task for x in lines})
    }
    numbers = {task: place.rpartition(":")[2].replace(",", ", ") for task, place in of_task.items()}
    return "; ".join(f"{task} {lines}" for task, lines in numbers.items())


def _training(inputs: Inputs, model: str) -> Cell:
    if line := inputs.trainings.get(model):
        return command(line_references([line]))
    start = next(line.record["model"]["start"] for line in inputs.scores if line.model == model)
    return words(f"none: `{start}`")
