"""Prune fine-tuned models and fine-tune them again: the work of `recipes/pruning.py`.

The models are those that `evaluate --save` keeps, or are fine-tuned first (`fine_tune_first`). `prune_and_fine_tune`
prunes one of them in one way; `AfterPruning` is the `evaluation.finetune.Method` by which the pruned model learns.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compress.pruning.importance import Importance, layers, magnitude, taylor
from compact_biomed.compress.pruning.select import Pruned, Pruning, Removed, clear, numbers, prune
from compact_biomed.console import count, duration, say, size
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.evaluation import suite
from compact_biomed.evaluation.finetune import FROM_LABELS, Assignment, Method, Outcome
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.protocols import AS_IS, Overrides, default_seeds
from compact_biomed.evaluation.runs import RECORD, Job, Runner, kept_record, model_name
from compact_biomed.machine import Speed
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import Checkpoint, TaskModel, load_with_head, longest_input
from compact_biomed.records import Records

EXAMPLES = 512  # training examples over which first-order importance is averaged
_DISTILLED = "distilled-"  # prefix of the protocol's name in records of task distillation


@dataclass(frozen=True)
class Workspace:
    """The files that the runs read and write, and their performance settings.

    Args:
        store: records of finished runs.
        save: folder for the models.
        data: folder of the benchmarks' files, None = as `tasks.find` finds it.
        speed: performance settings.
    """

    store: Records
    save: Path
    data: Path | None = None
    speed: Speed = field(default_factory=Speed)

    def runner(self, method: Method) -> Runner:
        return Runner(self.store, data=self.data, speed=self.speed, save=self.save, method=method)


class PrunedRun(NamedTuple):
    """A model that was pruned and fine-tuned again."""

    source: "FineTuned"
    folder: Path  # of the pruned model
    record: dict[str, Any]


def fine_tune_first(
    workspace: Workspace,
    start: str,
    task: Task,
    *,
    seeds: Sequence[int] | None = None,
    protocol: str = "standard",
    overrides: Overrides = AS_IS,
    dry_run: bool = False,
) -> list[Path]:
    """Fine-tune a checkpoint with each seed, as `compact-biomed evaluate` does.

    Args:
        start: folder, hub name or registry name.
        seeds: None = those of the protocol.
        dry_run: print what would be done, and do nothing.

    Returns:
        The folders of the fine-tuned models; none in a dry run.

    Raises:
        UserError: one of them was not made, or not kept.
    """
    models = {model_name(start): start}
    seeds = seeds or default_seeds(protocol)
    checked = suite.Suite(models, [task], seeds, protocol, overrides=overrides).check("--start")
    jobs = checked.jobs()
    suite.plan_of_runs(checked, jobs)
    if dry_run:
        return []
    workspace.store.require_writable()
    runner = workspace.runner(FROM_LABELS)
    if suite.run(jobs, runner).failed:
        raise UserError("fine-tuning failed, so nothing was pruned", where=start, remedy="see the error above")
    folders = [runner.kept(job) for job in jobs]
    if missing := next((folder for folder in folders if not folder.is_dir()), None):
        raise UserError(
            "recorded, but not kept here", where=missing, remedy="name another --records file to make it again"
        )
    return folders


def prune_and_fine_tune(workspace: Workspace, source: "FineTuned", how: Pruning) -> PrunedRun:
    """Prune a model in one way and fine-tune it again, unless that is recorded already.

    Raises:
        UserError: files or settings that do not work.
    """
    runner, job = workspace.runner(AfterPruning(source, how)), source.job(how.suffix)
    record = runner.recorded(job)
    say(f"{job}: recorded already" if record else str(job))
    return PrunedRun(source, runner.kept(job), record or runner.run(job))


# ---- the fine-tuned model to prune -----------------------------------------------------


class FineTuned(NamedTuple):
    """A model that `evaluate --save` kept, with its record.

    Args:
        folder: of transformers' files and `RECORD`.
        record: of the run that made it.
        task: that it was fine-tuned on.
    """

    folder: Path
    record: dict[str, Any]
    task: Task

    @property
    def name(self) -> str:
        """The name of the model in records."""
        return self.record["model"]["name"]

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    def sha256(self) -> str:
        """Return the checksum of the weights."""
        return checkpoints.model_sha256(self.folder)["weights_sha256"]

    def checkpoint(self) -> Checkpoint:
        """Load the model with its head.

        Raises:
            UserError: it cannot be read, or cannot be pruned.
        """
        checkpoint = load(str(self.folder))
        layers(checkpoint.model)
        return checkpoint

    def job(self, suffix: str) -> Job:
        """Describe fine-tuning it again by the same rules, under another name.

        A model that was distilled for its task is fine-tuned on labels alone.
        """
        protocol = self.record["protocol"]
        name, overrides = protocol["name"].removeprefix(_DISTILLED), Overrides(**protocol["overrides"])
        fold, seed = self.record["task"]["fold"], self.record["seed"]
        return Job(f"{self.name}-{suffix}", str(self.folder), self.task, fold, seed, name, overrides)


def open_fine_tuned(folder: Path | str, ner_dir: Path | str | None = None) -> FineTuned:
    """Open a model that `evaluate --save` kept.

    Args:
        ner_dir: the entity set that it was fine-tuned on, if that is no benchmark.

    Raises:
        UserError: no such folder, no record in it, or a record of another set.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError(
            "no such folder", where=folder, remedy="name a model kept by: compact-biomed evaluate --save DIR"
        )
    record = kept_record(folder)
    if not {"model", "task", "protocol", "seed", "score"} <= record.keys():
        raise UserError(
            f"no {RECORD} of a run in this folder",
            where=folder,
            remedy="name a model kept by evaluate --save, or fine-tune this one first by --start",
        )
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else tasks.task_named(record["task"]["name"])
    if task.name != record["task"]["name"]:
        raise UserError(
            f"the model was fine-tuned on {record['task']['name']}", where=folder, remedy="name that set by --ner_dir"
        )
    return FineTuned(folder, record, task)


def check_head(checkpoint: Checkpoint, task: Task, labels: list[str]) -> None:
    """Raise a `UserError` unless the outputs of the head are the labels of the task, in their order."""
    head = KINDS[task.kind].head
    config = checkpoint.model.config
    outputs = [config.id2label[i] for i in range(config.num_labels)]
    if checkpoint.head != head or (head not in ("span", "regression") and outputs != labels):
        raise UserError(
            f"its head ({checkpoint.head}: {', '.join(outputs[:6])}) is not that of {task.name} "
            f"({head}: {', '.join(labels[:6])})",
            where=checkpoint.name,
            remedy="fine-tune it again with the files that are used now",
        )


# ---- learning after pruning ------------------------------------------------------------


class MaskedLearner(Learner):
    """A learner in which removed weights stay zero: they are cleared after each step.

    Their gradients still count in the norm by which all gradients are clipped.

    Args:
        model, head, machine: as for `Learner`.
        removed: weights of the model.
    """

    def __init__(self, model, head: str, machine: ComputePlan, removed: Removed):
        super().__init__(model, head, machine)
        self._removed = {name: mask.to(self.device) for name, mask in removed.items()}

    def after_step(self) -> None:
        clear(self.objective.model, self._removed)


class AfterPruning(Method):
    """Fine-tuning of a pruned model that keeps its head.

    Args:
        source: the model to prune.
        how: what is removed.
    """

    def __init__(self, source: FineTuned, how: Pruning):
        self.source, self.how = source, how
        examples = EXAMPLES if how.importance == "taylor" else None
        self._settings = {**vars(how), "examples": examples}
        self.science = {"pruning": self._settings}
        self._pruned: tuple[tuple, Pruned] | None = None  # (keys of the training examples, the model pruned on them)

    def of_model(self, outcome: Outcome) -> dict[str, Any]:
        """Return what the record says of the model: the origin of the source, and what was pruned.

        With the source's own start weights, tables put the seeds of one pipeline into one row.
        """
        origin = self.source.record["model"]
        inherited = ("start", "random_weights", "weights_sha256", "tokenizer_sha256", "config_sha256")
        pruning = {
            "source": self.source.folder.name,
            "source_sha256": self.source.sha256(),
            "source_score": self.source.record["score"],
            **self._settings,
            **self._pruned[1].counts,
            "after": numbers(outcome.model),
        }
        return {name: origin[name] for name in inherited} | {"pruning": pruning}

    def build(self, work: Assignment, head: str, *, seed: int) -> TaskModel:
        """Return a copy of the pruned model, whatever the seed."""
        key = tuple(example.key for example in work.train)
        if self._pruned is None or self._pruned[0] != key:
            self._pruned = key, self._prune(work, head)
        return TaskModel(copy.deepcopy(self._pruned[1].model), [])

    def learner(self, model, head: str, machine: Plan) -> Learner:
        return MaskedLearner(model, head, machine, self._pruned[1].removed)

    def _prune(self, work: Assignment, head: str) -> Pruned:
        checkpoint = self.source.checkpoint()
        check_head(checkpoint, work.task, list(work.labels))

        def importance(model) -> Importance:
            if self.how.importance == "magnitude":
                return magnitude(model)
            length = min(work.task.max_length, longest_input(model.config) or work.task.max_length)
            encoding = {"labels": work.labels, "max_length": length, "level": work.level}
            sample = work.train[:: max(len(work.train) // EXAMPLES, 1)][:EXAMPLES]
            return taylor(model, head, KINDS[work.task.kind].encode(sample, checkpoint.tokenizer, **encoding))

        return prune(checkpoint.model, self.how, importance)


# ---- what the terminal shows -----------------------------------------------------------


def plan(sources: Sequence[FineTuned], prunings: Sequence[Pruning]) -> None:
    """Print what will be done, what will be left of each model, and how long it takes.

    Raises:
        UserError: a model that cannot be read or pruned so.
    """
    say(f"{len(sources)} fine-tuned model(s), each pruned in {len(prunings)} way(s) and fine-tuned again")
    for source in sources:
        model = source.checkpoint().model
        seconds = source.record.get("how", {}).get("seconds")
        cost = f"; each fine-tuning takes about {duration(seconds)}, like the first" if seconds else ""
        say(f"{source.folder}: {count(numbers(model)['parameters'])} parameters{cost}")
        for how in prunings:
            # The counts do not depend on which heads or units are removed, so the cheap importance will do.
            left = prune(model, replace(how, importance="magnitude"), magnitude).counts["after"]
            say(f"  {how.suffix:<20} {count(left['parameters'])} parameters, {count(left['nonzero'])} of them not zero")


def summary(runs: Sequence[PrunedRun], records: Path) -> None:
    """Print parameters, file sizes and scores before and after, and the next commands."""
    say(f"\n{'model, seed':<44}  {'parameters':>18}  {'not zero':>10}  {'file':>22}  score")
    for source, folder, record in runs:
        before, after = (record["model"]["pruning"][when] for when in ("before", "after"))
        columns = (
            f"{record['model']['name'] + ', ' + str(record['seed']):<44}",
            f"{count(before['parameters']) + ' -> ' + count(after['parameters']):>18}",
            f"{count(after['nonzero']):>10}",
            f"{_file_size(source.weights) + ' -> ' + _file_size(folder / source.weights.name):>22}",
            f"{record['task']['metric']} {source.record['score']:.2f} -> {record['score']:.2f}",
        )
        say("  ".join(columns))
    last = runs[-1].folder
    say(f"\n  records  {records}\n  models   {last.parent}/")
    if any(run.record["model"]["pruning"]["removed"] == "heads" for run in runs):
        say(
            "\nRemoved heads are zeros here, because transformers has no configuration without them; export takes "
            "them out."
        )
    say(f"\nNext: compact-biomed export --model {last} --output {last.name}-onnx")
    say(f"      compact-biomed tables --records {records}")


def _file_size(path: Path) -> str:
    return size(path.stat().st_size) if path.is_file() else "not kept"
