"""Fine-tuning after pruning, as `evaluation.finetune.Method` asks for it."""

import argparse
import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from compact_biomed.benchmarks import tasks
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.compress.pruning.select import (
    Importance,
    Pruned,
    Pruning,
    Removed,
    clear,
    layers,
    magnitude,
    numbers,
    prune,
    taylor,
)
from compact_biomed.console import count, duration, say, size
from compact_biomed.engine.plan import ComputePlan
from compact_biomed.errors import UserError
from compact_biomed.evaluation import suite
from compact_biomed.evaluation.finetune import FROM_LABELS, Assignment, Method, Outcome
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.learner import Learner
from compact_biomed.evaluation.protocols import Overrides, default_seeds
from compact_biomed.evaluation.runs import RECORD, Job, Runner, model_name, saved_record
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import Checkpoint, TaskModel, load_with_head, longest_input
from compact_biomed.records import Records

# ----------------------------------------------------------------------------------------------------
# The fine-tuned model that is pruned, as `evaluate --save` keeps it.


_DISTILLED = "distilled-"


class Source(NamedTuple):
    """A kept model and what its record says.

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
        """What records call the model."""
        return self.record["model"]["name"]

    @property
    def weights(self) -> Path:
        return self.folder / "model.safetensors"

    def sha256(self) -> str:
        """Of the weights."""
        return checkpoints.model_sha256(self.folder)["weights_sha256"]

    def checkpoint(self) -> Checkpoint:
        """The model with its head.

        Raises:
            UserError: it cannot be read, or cannot be pruned.
        """
        found = load_with_head(str(self.folder))
        layers(found.model)
        return found

    def job(self, suffix: str) -> Job:
        """Fine-tuning it again by the same rules, under another name.

        A model that was distilled for its task is fine-tuned on labels alone.
        """
        protocol = self.record["protocol"]
        name, overrides = protocol["name"].removeprefix(_DISTILLED), Overrides(**protocol["overrides"])
        fold, seed = self.record["task"]["fold"], self.record["seed"]
        return Job(f"{self.name}-{suffix}", str(self.folder), self.task, fold, seed, name, overrides)


def open_source(folder: Path | str, ner_dir: Path | str | None = None) -> Source:
    """A kept model.

    Args:
        ner_dir: the entity set that it was fine-tuned on, if that is no benchmark.

    Raises:
        UserError: no such folder, no record in it, or a record of another set.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise UserError("no such folder", where=folder, remedy="a model kept by: compact-biomed evaluate --save DIR")
    record = saved_record(folder)
    if not {"model", "task", "protocol", "seed", "score"} <= record.keys():
        raise UserError(
            f"no {RECORD} of a run in this folder", where=folder,
            remedy="name a model kept by evaluate --save, or fine-tune this one first by --start",
        )  # fmt: skip
    task = tasks.ner_task_from_folder(ner_dir) if ner_dir else tasks.task_named(record["task"]["name"])
    if task.name != record["task"]["name"]:
        raise UserError(f"the model was fine-tuned on {record['task']['name']}", where=folder, remedy="name that set")
    return Source(folder, record, task)


def check_head(checkpoint: Checkpoint, task: Task, labels: list[str]) -> None:
    """Raise a `UserError` unless the head's outputs are the task's labels, in their order."""
    head = KINDS[task.kind].head
    config = checkpoint.model.config
    theirs = [config.id2label[i] for i in range(config.num_labels)]
    if checkpoint.head != head or (head not in ("span", "regression") and theirs != labels):
        raise UserError(
            f"its head ({checkpoint.head}: {', '.join(theirs[:6])}) is not that of {task.name} "
            f"({head}: {', '.join(labels[:6])})",
            where=checkpoint.name,
            remedy="fine-tune it again with the files that are used now",
        )


EXAMPLES = 512  # training examples that first-order importance is averaged over


class MaskedLearner(Learner):
    """A learner in which what is gone stays zero: it is cleared after each step.

    Its gradients still count in the norm to which all are clipped.

    Args:
        model, head, machine: as for `Learner`.
        removed: of the model.
    """

    def __init__(self, model, head: str, machine: ComputePlan, removed: Removed):
        super().__init__(model, head, machine)
        self._removed = {name: gone.to(self.device) for name, gone in removed.items()}

    def after_step(self) -> None:
        clear(self.objective.model, self._removed)


class AfterPruning(Method):
    """The fine-tuned model, its head included, is pruned and learns its task again.

    Args:
        source: what is pruned.
        how: what goes.
    """

    def __init__(self, source: Source, how: Pruning):
        self.source, self.how = source, how
        examples = EXAMPLES if how.importance == "taylor" else None
        self._says = {**vars(how), "examples": examples}
        self.hyperparameters = {"pruning": self._says}
        self._made: tuple[tuple, Pruned] | None = None

    def model_fields(self, outcome: Outcome) -> dict[str, Any]:
        """Where the source came from, so that seeds of one pipeline go together, and what was pruned."""
        origin = self.source.record["model"]
        same = ("start", "random_weights", "weights_sha256", "tokenizer_sha256", "config_sha256")
        told = {"source": self.source.folder.name, "source_sha256": self.source.sha256()}
        told |= {"source_score": self.source.record["score"], **self._says, **self._made[1].told}
        told["after"] = numbers(outcome.model)
        return {name: origin[name] for name in same} | {"pruning": told}

    def build(self, work: Assignment, head: str, *, seed: int) -> TaskModel:
        """The pruned model; the seed decides nothing of it."""
        key = tuple(example.key for example in work.train)
        if self._made is None or self._made[0] != key:
            self._made = key, self._pruned(work, head)
        return TaskModel(copy.deepcopy(self._made[1].model), [])

    def learner(self, model, head: str, machine: ComputePlan) -> Learner:
        return MaskedLearner(model, head, machine, self._made[1].removed)

    def _pruned(self, work: Assignment, head: str) -> Pruned:
        checkpoint = self.source.checkpoint()
        check_head(checkpoint, work.task, list(work.labels))

        def importance(model) -> Importance:
            if self.how.importance == "magnitude":
                return magnitude(model)
            length = min(work.task.max_length, longest_input(model.config) or work.task.max_length)
            encoding = {"labels": work.labels, "max_length": length, "level": work.level}
            some = work.train[:: max(len(work.train) // EXAMPLES, 1)][:EXAMPLES]
            return taylor(model, head, KINDS[work.task.kind].encode(some, checkpoint.tokenizer, **encoding))

        return prune(checkpoint.model, self.how, importance)


# ----------------------------------------------------------------------------------------------------
# The work of the recipe: fine-tune if need be, then one pruned model after the other.


def fine_tuned(options: argparse.Namespace, store: Records) -> list[Path]:
    """The folders of `--start`, fine-tuned with each seed; none in a dry run.

    Args:
        options: of `command.parser_of`.

    Raises:
        UserError: one of them was not made, or not kept.
    """
    task = tasks.ner_task_from_folder(options.ner_dir) if options.ner_dir else tasks.task_named(options.task)
    protocol, models = options.protocol or "standard", {model_name(options.start): options.start}
    overrides = Overrides(options.learning_rate, options.epochs, options.max_train_examples)
    seeds = options.seeds or default_seeds(protocol)
    wanted = suite.Suite(models, [task], seeds, protocol, overrides=overrides).check("--start")
    jobs = wanted.jobs()
    suite.print_plan(wanted, jobs)
    if options.dry_run:
        return []
    store.require_writable()
    runner = _runner(options, store, FROM_LABELS)
    if suite.run(jobs, runner).failed:
        raise UserError("the fine-tuning before failed; nothing was pruned", where=options.start)
    folders = [runner.model_folder(job) for job in jobs]
    if missing := next((folder for folder in folders if not folder.is_dir()), None):
        raise UserError("recorded, but not kept here", where=missing, remedy="another --records file makes it again")
    return folders


def carried_out(
    source: Source, how: Pruning, options: argparse.Namespace, store: Records
) -> tuple[Source, Path, dict[str, Any]]:
    """Source, folder and record of one pruned model; made if it is not recorded.

    Raises:
        UserError: files or settings that do not work.
    """
    runner, job = _runner(options, store, AfterPruning(source, how)), source.job(how.suffix)
    record = runner.find(job)
    say(f"{job}: recorded already" if record else str(job))
    return source, runner.model_folder(job), record or runner.run(job)


def _runner(options: argparse.Namespace, store: Records, method: Method) -> Runner:
    return Runner(store, data=options.data, speed=options.speed, save=options.save, method=method)


# ----------------------------------------------------------------------------------------------------
# The words around pruning: what will be done, at what cost, and what came of it.


def plan(sources: Sequence[Source], ways: Sequence[Pruning]) -> None:
    """What is to be done, what will be left, and what it costs.

    Raises:
        UserError: a model that cannot be read or pruned so.
    """
    say(f"{len(sources)} fine-tuned model(s), each pruned in {len(ways)} way(s) and fine-tuned again")
    for source in sources:
        model = source.checkpoint().model
        seconds = source.record.get("how", {}).get("seconds")
        took = f"; fine-tuning it took {duration(seconds)}, and will about that long each time" if seconds else ""
        say(f"{source.folder}: {count(numbers(model)['parameters'])} parameters{took}")
        for how in ways:
            told = prune(model, replace(how, importance="magnitude"), magnitude).told  # as many, whichever go
            left, alive = (count(told["after"][what]) for what in ("parameters", "nonzero"))
            say(f"  {how.suffix:<20} {left} parameters, {alive} of them not zero")


def summary(runs: Sequence[tuple[Source, Path, dict[str, Any]]], records: Path) -> None:
    """Numbers before and after, and what to do next.

    Args:
        runs: source, folder of the pruned model, record.
    """
    say(f"\n{'model, seed':<44}  {'parameters':>18}  {'not zero':>10}  {'file':>22}  score")
    for source, folder, record in runs:
        before, after = (record["model"]["pruning"][when] for when in ("before", "after"))
        parameters = f"{count(before['parameters'])} -> {count(after['parameters'])}"
        file = f"{_file(source.weights)} -> {_file(folder / source.weights.name)}"
        name = f"{record['model']['name']}, {record['seed']}"
        metric = record["task"]["metric"]
        say(f"{name:<44}  {parameters:>18}  {count(after['nonzero']):>10}  {file:>22}  "
            f"{metric} {source.record['score']:.2f} -> {record['score']:.2f}")  # fmt: skip
    last = runs[-1][1]
    say(f"\n  records  {records}\n  models   {last.parent}/")
    if any(record["model"]["pruning"]["removed"] == "heads" for *_, record in runs):
        say("\nHeads are removed as zeros, for transformers has no configuration without them; export takes them out.")
    say(f"\nNext: compact-biomed export --model {last} --output {last.name}-onnx")
    say(f"      compact-biomed tables --records {records}")


def _file(path: Path) -> str:
    return size(path.stat().st_size) if path.is_file() else "not kept"
