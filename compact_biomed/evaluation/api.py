"""Evaluate from Python: the same names, defaults and results as `compact-biomed evaluate`."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Unpack

from compact_biomed.benchmarks.own import OwnData, own_tasks
from compact_biomed.benchmarks.tasks import TASKS, Task, ner_task_from_folder, task_named
from compact_biomed.console import say
from compact_biomed.errors import UsageError, check_positive
from compact_biomed.evaluation.finetune import FROM_LABELS, Method
from compact_biomed.evaluation.protocols import Overrides, default_seeds
from compact_biomed.evaluation.runs import Runner
from compact_biomed.evaluation.saved import model_name
from compact_biomed.evaluation.side_by_side import run_in_processes
from compact_biomed.evaluation.suite import Suite
from compact_biomed.evaluation.suite_printed import print_plan, print_summary, scores_by_seed
from compact_biomed.evaluation.suite_runs import run, survey
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.files import require_writable_at
from compact_biomed.machine import PerformanceSettings, usable_cores
from compact_biomed.models.locate import check_name
from compact_biomed.parameters import as_list

DEFAULT_TASK = "MEDLINE-sections"  # needs no files


@dataclass(frozen=True)
class FinetuneResult:
    """The runs of one call, including those that were recorded before.

    Args:
        records: one record per finished run, as in the file.
        records_path: the file of records.
        saved: folders of fine-tuned models, which `compact_biomed.load` opens.
        failed: run -> reason.
        remaining: runs that were not begun, because `minutes` were over or in a dry run.
    """

    records: list[dict[str, Any]] = field(repr=False)
    records_path: Path
    saved: list[Path]
    failed: dict[str, str]
    remaining: list[str]

    @property
    def scores_by_model(self) -> dict[str, dict[str, float]]:
        """Return the mean score in percent over seeds (and folds), by model and task."""
        groups: dict[str, dict[str, list[dict[str, Any]]]] = {}
        for record in self.records:
            groups.setdefault(record["model"]["name"], {}).setdefault(record["task"]["name"], []).append(record)
        return {
            model: {task: statistics.mean(scores_by_seed(group)) for task, group in tasks.items()}
            for model, tasks in groups.items()
        }

    @property
    def scores(self) -> dict[str, float]:
        """Return the mean score in percent by task; empty if no run has finished.

        Raises:
            ValueError: there are several models, see `scores_by_model`.
        """
        by_model = self.scores_by_model
        if len(by_model) > 1:
            raise ValueError(f"scores of several models ({', '.join(by_model)}): use scores_by_model")
        return next(iter(by_model.values()), {})


def finetune(
    model: str | Path | Mapping[str, str | Path],
    tasks: str | Task | Sequence[str | Task] | None = None,
    *,
    name: str | None = None,
    ner_dirs: str | Path | Sequence[str | Path] = (),
    data: str | Path | None = None,
    records: str | Path = "runs/evaluation.jsonl",
    save: str | Path | None = None,
    minutes: float | None = None,
    protocol: str = "standard",
    seeds: int | Sequence[int] | None = None,
    folds: int | Sequence[int] | None = None,
    learning_rate: float | None = None,
    epochs: int | None = None,
    max_train_examples: int | None = None,
    layer_decay: float | None = None,
    average_last: float | None = None,
    intermediate_epochs: int | None = None,
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
) -> FinetuneResult:
    """Fine-tune a checkpoint on tasks and score it on their test sets; recorded runs are not repeated.

        result = finetune("registry:all-minilm-l6-v2", "NCBI-disease", data="data", seeds=[1, 2, 3])
        result.scores["NCBI-disease"]  # the mean F1 in percent

    Args:
        model: a checkpoint (folder, hub name or `registry:all-minilm-l6-v2`), or several as name -> checkpoint.
        tasks: names of benchmarks; default: MEDLINE-sections, which needs no files, unless `train` or `ner_dirs`
            are given.
        name: the model's name in records; default: that of its folder.
        ner_dirs: folders of your own entity sets, each with train, devel and test.
        data: folder of the benchmarks' files; default: the environment variable COMPACT_BIOMED_DATA.
        records: file to which a line per run is appended.
        save: folder for the fine-tuned models; default: they are not saved.
        minutes: start no run that is expected to end after so many minutes.
        protocol: "standard", "thorough", "published" or "zero-shot", see `evaluation.protocols`.
        seeds: one run per seed; default: 1 (published: 42).
        folds: of cross-validation sets; default: all.
        learning_rate, epochs: replace the protocol's.
        max_train_examples: train on a subset of that size.
        layer_decay: learning rate of each layer as a share of that of the next one above, up to 1.
        average_last: take the mean of the weights over this last part of each epoch, up to 1.
        intermediate_epochs: train so many epochs on the questions of other editions first (BioASQ).
        batch_size: replaces the protocol's.
        learning_rates, batch_sizes: candidates of the search on dev, which tries all pairs, in place of the protocol's.
        max_epochs: replaces the protocol's number of epochs, of which the search on dev may choose fewer.
        dry_run: print what would be done and what it costs, and stop; nothing is written.
        report_to: experiment trackers: "tensorboard", "wandb", "mlflow", "trackio" or others of transformers.
        license: of the saved weights, for their cards: an identifier such as "apache-2.0"; default: none is stated.
        precision, kernels, replicas: performance settings, see `machine.PerformanceSettings`.
        jobs: runs at the same time, each in a process of its own with an equal share of the cores.
        own: data of your own: `train`, `dev`, `test`, `kind` and names of columns, see `benchmarks.own.OwnData`.

    Raises:
        UserError: arguments that cannot be used. A run that fails is listed in `failed` and does not stop the others.
    """
    if isinstance(model, Mapping) and name is not None:
        raise UsageError("several models have names of their own", where="name", remedy="leave it out")
    if isinstance(model, Mapping):
        models = {each: str(checkpoint) for each, checkpoint in model.items()}
    else:
        check_name(str(model))
        models = {name or model_name(str(model)): str(model)}
    suite = Suite(
        models=models,
        tasks=_tasks(tasks, ner_dirs, own),
        seeds=default_seeds(protocol) if seeds is None else as_list(seeds),
        protocol=protocol,
        folds=None if folds is None else as_list(folds),
        overrides=Overrides(
            learning_rate,
            epochs,
            max_train_examples,
            layer_decay,
            average_last,
            intermediate_epochs,
            batch_size,
            learning_rates,
            batch_sizes,
            max_epochs,
        ),
    )
    suite.check("evaluate", UsageError)
    speed = PerformanceSettings(precision=precision, kernels=kernels, replicas=replicas)
    workspace = Workspace.of(records, data=data, save=save, report_to=report_to, license=license, speed=speed)
    return carry_out(suite, FROM_LABELS, workspace, minutes=minutes, dry_run=dry_run, jobs=jobs)


def carry_out(
    suite: Suite, method: Method, workspace: Workspace, *, minutes: float | None, dry_run: bool, jobs: int
) -> FinetuneResult:
    """Carry out the runs of a suite that are not recorded, and print their scores.

    Args:
        method: way in which the models learn.
        minutes, dry_run, jobs: see `finetune`.

    Raises:
        UserError: jobs or a workspace that cannot be used.
        OSError: the records cannot be written.
    """
    if jobs < 1:
        raise UsageError(f"{jobs} jobs", where="--jobs", remedy="give at least 1")
    check_positive("minutes", minutes)
    wanted, save = suite.jobs(), workspace.save
    if save is not None and (untrained := [job for job in wanted if job.task.untrained]):
        raise UsageError(f"no model is trained for {untrained[0].task.name}", where="--save", remedy="leave it out")
    workspace.check()
    runner = Runner(workspace, method)
    runner.store.require_writable()
    for job in wanted if save is not None else ():
        require_writable_at(runner.model_folder(job))
    surveyed = survey(wanted, runner)
    print_plan(suite, wanted, surveyed)
    recorded, at_once = len(surveyed.outcome.records), min(jobs, len(wanted))
    cores = max(usable_cores() // at_once, 1)  # the same for all calls of a suite: checkpoints are of a number of cores
    if at_once > 1 and surveyed.waiting:
        say(f"{at_once} runs at the same time, each on {cores} of {usable_cores()} cores.")
    if dry_run:
        outcome = replace(surveyed.outcome, remaining=surveyed.waiting)
        say(f"Dry run: {recorded} of {len(wanted)} runs are recorded, and nothing was written.")
    else:
        if recorded:
            say(f"{recorded} of {len(wanted)} runs are recorded already.")
        if at_once > 1 and surveyed.waiting:
            options = {"processes": min(at_once, len(surveyed.waiting)), "cores": cores, "minutes": minutes}
            outcome = run_in_processes(runner, surveyed, **options)
        else:
            outcome = run(wanted, runner, minutes=minutes, surveyed=surveyed)
        print_summary(outcome, workspace.records)
    folders = [runner.model_folder(job) for job in wanted] if save is not None else []
    return FinetuneResult(
        records=outcome.records,
        records_path=workspace.records,
        saved=[folder for folder in folders if folder.is_dir()],
        failed=outcome.failed,
        remaining=[str(job) for job in outcome.remaining],
    )


def _tasks(
    tasks: str | Task | Sequence[str | Task] | None, ner_dirs: str | Path | Sequence[str | Path], own: OwnData
) -> list[Task]:
    listed = [tasks] if isinstance(tasks, str | Task) else tasks
    folders = [ner_dirs] if isinstance(ner_dirs, str | Path) else ner_dirs
    if listed is not None and not listed and not folders and not own:
        raise UsageError("no name of a task", where="--task", remedy=f"one of {', '.join(TASKS)}, or --train PATH")
    chosen = [task if isinstance(task, Task) else task_named(task) for task in listed or ()]
    chosen += [*map(ner_task_from_folder, folders), *own_tasks(own)]
    return chosen or [task_named(DEFAULT_TASK)]
