"""Compress a fine-tuned teacher into a small model for its task: what `compact-biomed distill` does."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Unpack

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.own import OwnData, own_task
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.recorded import other_task, task_of_record
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compression.distillation import RECORDS, REST, TEMPERATURE, layers_of
from compact_biomed.compression.distillation.method import FromTeacher
from compact_biomed.compression.distillation.prepare import (
    TransferSettings,
    layer_transfer,
    student_checkpoint,
    students_folder,
    transfer_features,
    unlabeled_text,
)
from compact_biomed.compression.distillation.teacher import Teacher, check_tokenizers
from compact_biomed.errors import UsageError, check_choice, check_no_effect, check_positive
from compact_biomed.evaluation.api import carry_out
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import FINETUNING, Overrides
from compact_biomed.evaluation.saved import saved_record
from compact_biomed.evaluation.suite import Suite
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import checkpoints
from compact_biomed.models.locate import check_name, local_folder
from compact_biomed.parameters import as_list


@dataclass(frozen=True)
class CompressResult:
    """Students that were trained for a task, one per seed, those recorded before included.

    Args:
        name: of the student in records and tables.
        start: the checkpoint from which it started.
        records: one record per finished run, as in the file.
        records_path: the file of records.
        saved: folders of the students, which `compact_biomed.load` opens.
        failed: run -> reason.
        remaining: runs that were not begun, because `minutes` were over or in a dry run.
    """

    name: str
    start: str
    records: list[dict[str, Any]] = field(repr=False)
    records_path: Path
    saved: list[Path]
    failed: dict[str, str]
    remaining: list[str]

    @property
    def scores(self) -> dict[int, float]:
        """The primary metric on the test set in percent, by seed."""
        return {record["seed"]: record["score"] for record in self.records}

    @property
    def mean(self) -> float:
        """The mean of the scores.

        Raises:
            statistics.StatisticsError: no run has finished.
        """
        return statistics.mean(self.scores.values())


def compress_for_task(
    teacher: str | Path,
    student: str | int | Path,
    *,
    task: str | None = None,
    ner_dir: str | Path | None = None,
    data: str | Path | None = None,
    name: str | None = None,
    records: str | Path = RECORDS,
    save: str | Path | None = None,
    minutes: float | None = None,
    unlabeled: str | Path | Sequence[str | Path] = (),
    temperature: float | None = None,
    soft_weight: float = 1.0,
    transfer: str | Sequence[str] = ("none",),
    layer_map: str | Sequence[int] | None = None,
    transfer_weight: float | None = None,
    relation_heads: int | None = None,
    relation_layer: int | str | None = None,
    protocol: str = "standard",
    seeds: int | Sequence[int] = (1,),
    fold: int | None = None,
    learning_rate: float | None = None,
    epochs: int | None = None,
    max_train_examples: int | None = None,
    batch_size: int | None = None,
    learning_rates: Sequence[float] | None = None,
    batch_sizes: Sequence[int] | None = None,
    max_epochs: int | None = None,
    dry_run: bool = False,
    report_to: str | Sequence[str] = (),
    license: str | None = None,
    precision: str = "auto",
    kernels: str = "auto",
    replicas: int = 0,
    jobs: int = 1,
    **own: Unpack[OwnData],
) -> CompressResult:
    """Distill a fine-tuned teacher into a small model for its task.

    Runs that are recorded are not repeated. Names and defaults are those of `compact-biomed distill`.

    Args:
        teacher: a fine-tuned model, saved by `evaluate --save`.
        student: a checkpoint, or how many layers to cut out of the teacher.
        task: a benchmark (default: the task of the teacher, with its data where the teacher's record says they are).
        ner_dir: an entity set of your own: train, devel and test in a folder.
        data: folder of the benchmarks' files (default: COMPACT_BIOMED_DATA).
        name: of the student in records (default: the name of its folder).
        records: file to which the runs are appended.
        save: folder in which the students are saved.
        minutes: start no run that is expected to end after so many minutes.
        unlabeled: files of text that only the teacher labels: one sentence per line, or JSON lines with "text";
            "task" = the training examples that `max_train_examples` leaves out.
        temperature: of the soft labels (default: 2; none in a regression).
        soft_weight: of the soft labels, beside 1 for the hard labels.
        transfer: "hidden" (states) and "attention" (maps), compared layer by layer in each step, "relations" (of the
            last layer's queries, keys and values), several of these, or "none".
        layer_map: teacher layer of each student layer: a rule of `models.layer_maps` (default: "spaced") or a list.
        transfer_weight: of the term of each layer, and of each of the three terms on relations (default: 1).
        relation_heads: in relations (default: as many as fit both models, up to 48).
        relation_layer: of the teacher, in relations: a number from 0, "last" or "upper-middle" (default: "last").
        protocol: "standard", "thorough" or "published".
        seeds: one run per seed.
        fold: of a cross-validation set: that of the teacher.
        learning_rate, epochs: instead of the protocol's.
        max_train_examples: number of labeled examples, if not all.
        batch_size, learning_rates, batch_sizes, max_epochs, dry_run, report_to, license, jobs: see
            `evaluation.api.finetune`.
        precision, kernels, replicas: performance settings, see `machine.PerformanceSettings`.
        own: data of your own: `train`, `dev`, `test`, `kind` and names of columns, see `benchmarks.own.OwnData`.

    Raises:
        UsageError: values that contradict each other or have no effect.
        UserError: teacher, student, task and text that do not fit together, or files that cannot be read.
    """
    files = as_list(unlabeled)
    layers = TransferSettings(
        transfer_features(as_list(transfer)), layer_map, transfer_weight, relation_heads, relation_layer
    )
    overrides = Overrides(
        learning_rate=learning_rate,
        epochs=epochs,
        max_train_examples=max_train_examples,
        batch_size=batch_size,
        learning_rates=learning_rates,
        batch_sizes=batch_sizes,
        max_epochs=max_epochs,
    )
    speed = PerformanceSettings(precision=precision, kernels=kernels, replicas=replicas)
    workspace = Workspace.of(records, data=data or None, save=save, report_to=report_to, license=license, speed=speed)

    if sum(bool(given) for given in (task, ner_dir, own)) > 1:
        raise UsageError("one task at a time", where="--task", remedy="give one of --task, --train and --ner-dir")
    check_choice("protocol", protocol, FINETUNING)
    _check_soft_labels(soft_weight, temperature)
    layers.check()
    if soft_weight == 0:
        unused = None if layers.features else files
        check_no_effect("with --soft-weight 0", unlabeled=unused, temperature=temperature)
    _check_unlabeled(files, max_train_examples)
    _check_names(teacher, student)

    benchmark = _task(task, ner_dir, own, teacher)
    _check_fold(benchmark, fold)
    temperature = _temperature(benchmark, temperature)
    splits = read(benchmark, tasks.find(benchmark, workspace.data), fold)
    opened = Teacher(str(teacher), speed)
    opened.check(benchmark, KINDS[benchmark.kind].labels(splits), protocol=protocol, fold=fold)
    text = unlabeled_text(files, benchmark, splits, protocol=protocol, overrides=overrides)
    with students_folder(temporary=dry_run) as students:
        model, start = student_checkpoint(str(student), opened, name, folder=students)
        check_tokenizers(benchmark.kind, protocol, opened, checkpoints.model_sha256(local_folder(start)))
        method = FromTeacher(
            opened,
            text,
            temperature=temperature,
            soft_weight=float(soft_weight),  # as of the command line: an integer would give the run another key
            protocol=protocol,
            transfer=layer_transfer(layers, opened, start),
        )
        runs = Suite({model: start}, [benchmark], as_list(seeds), protocol, None if fold is None else [fold], overrides)
        runs.check("distill", UsageError)
        result = carry_out(runs, method, workspace, minutes=minutes, dry_run=dry_run, jobs=jobs)
        return CompressResult(name=model, start=start, **vars(result))


def _task(task: str | None, ner_dir: str | Path | None, own: OwnData, teacher: str | Path) -> Task:
    """Return the task that was named, that of other data, else that of the teacher's record."""
    if task is not None or ner_dir is not None:
        return tasks.task_named(task) if task is not None else tasks.ner_task_from_folder(ner_dir)
    record = saved_record(local_folder(str(teacher)))
    if {"train", "dev", "test"} & own.keys():
        return other_task(record["task"], own, split="train") if "task" in record else own_task(**own)
    if "task" not in record:
        raise UsageError("no task, and the teacher has no record of one", where="--task", remedy="or give --train PATH")
    return task_of_record(record["task"], own, where=teacher)


def _check_soft_labels(soft_weight: float, temperature: float | None) -> None:
    if not (math.isfinite(soft_weight) and soft_weight >= 0):
        raise UsageError(f"--soft-weight {soft_weight:g} must be finite and not below 0", remedy="the default is 1")
    check_positive("temperature", temperature)


def _check_unlabeled(files: Sequence[str | Path], max_train_examples: int | None) -> None:
    if REST in files and max_train_examples is None:
        raise UsageError(
            "every training example is labeled", where=f"--unlabeled {REST}", remedy="give --max-train-examples"
        )


def _check_names(teacher: str | Path, student: str | int | Path) -> None:
    check_name(str(teacher))
    if layers_of(student) is None:
        check_name(str(student))


def _check_fold(task: Task, fold: int | None) -> None:
    if bool(task.folds) != (fold is not None):
        folds = f"{task.folds} folds" if task.folds else "no folds"
        remedy = "name the fold of the teacher" if task.folds else "leave it out"
        raise UsageError(f"{task.name} has {folds}", where="--fold", remedy=remedy)


def _temperature(task: Task, temperature: float | None) -> float:
    """Return the temperature of the soft labels; in a regression it cancels, so that none may be given."""
    if task.kind == "regression":
        check_no_effect("on a regression", temperature=temperature)
        return 1.0
    return float(temperature or TEMPERATURE)
