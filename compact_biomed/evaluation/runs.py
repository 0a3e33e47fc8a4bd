"""One run: find its record by its key, or search, train, score and record it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from transformers import PretrainedConfig

from compact_biomed.benchmarks import examples, tasks
from compact_biomed.benchmarks.examples import Example, Splits
from compact_biomed.benchmarks.readers import read, read_intermediate
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.console import listed, say, shortened
from compact_biomed.errors import UserError
from compact_biomed.evaluation import finetune, protocols, search, zero_shot
from compact_biomed.evaluation.analysis.errors import ERRORS
from compact_biomed.evaluation.checkpoint import RunCheckpoint
from compact_biomed.evaluation.cost import TaskWork, work_of
from compact_biomed.evaluation.finetune import FROM_LABELS, Assignment, Method, Outcome
from compact_biomed.evaluation.job import (
    Job,
    analysis_fields,
    intermediate_fields,
    key_content,
    model_fields,
    performance_fields,
    pieces_fields,
    protocol_fields,
    task_fields,
)
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.monitor import Monitor
from compact_biomed.evaluation.protocols import (
    SEARCH_SEED,
    Candidate,
    FinetuneHyperparameters,
    Protocol,
)
from compact_biomed.evaluation.saved import require_free, save_model, saved_model_name
from compact_biomed.evaluation.tracking import Tracker
from compact_biomed.evaluation.workspace import Workspace
from compact_biomed.files import require_writable
from compact_biomed.models import checkpoints
from compact_biomed.models.locate import local_folder
from compact_biomed.records.lines import SCORES, SEARCH
from compact_biomed.records.locks import RunLocks
from compact_biomed.records.provenance import origin
from compact_biomed.records.store import Records, run_key

T = TypeVar("T")
_AGAIN = "run the command again; recorded runs are skipped"


@dataclass(frozen=True)
class _JobInputs:
    """The files of a job, read, and its protocol."""

    folder: Path
    splits: Splits
    data_sha256: dict[str, str]
    protocol: Protocol


class Runner:
    """The executor of jobs; it reads each checkpoint and data set once for all of them.

    Args:
        workspace: files, trackers and performance settings.
        method: way in which the models learn.

    Attributes:
        store: the records of finished runs.

    Raises:
        UserError: a line in the file of records that is none of an evaluation.
    """

    def __init__(self, workspace: Workspace, method: Method = FROM_LABELS):
        self.workspace, self.method = workspace, method
        self.store = Records(workspace.records)
        self._checkpoint = lru_cache(maxsize=None)(_checkpoint)
        self._config = lru_cache(maxsize=None)(lambda start: checkpoints.local_config(str(self._checkpoint(start)[0])))
        self._task = lru_cache(maxsize=2)(self._read)
        self._intermediate = lru_cache(maxsize=2)(self._read_intermediate)
        self._reported_repairs: set[tuple] = set()
        self._locks = RunLocks(workspace.records)
        self._keyed: dict[Job, tuple[Protocol, dict[str, Any]]] = {}
        self._works: dict[tuple, TaskWork] = {}

    def key(self, job: Job) -> str:
        """Return the run's name in records: a hash of everything that decides the result."""
        return self._hash(job, job.seed)

    def search_key(self, job: Job, candidate: Candidate) -> str:
        """Return the name in records of a trial on dev, common to all seeds of a job."""
        searched = {f"searched_{name}": value for name, value in candidate.recorded().items()}
        return self._hash(job, SEARCH_SEED, **searched)

    def work(self, job: Job) -> tuple[Protocol, TaskWork]:
        """Return the protocol applied to a job, and its work; see `evaluation.cost`."""
        protocol, _ = self._keyed_content(job)
        key = (job.task, job.fold, protocol, job.overrides)
        if key not in self._works:
            before = ()
            if protocol.hyperparameters.intermediate_epochs:
                before = self._intermediate(job.task, job.fold)
            further = self.method.further_examples(job.task.kind)
            splits = self._task(job.task, job.fold)[0]
            self._works[key] = work_of(splits, protocol, job.overrides, intermediate=before, further=further)
        return protocol, self._works[key]

    def config(self, job: Job) -> PretrainedConfig:
        """Return the configuration of a job's checkpoint."""
        return self._config(job.start)

    def checkpoint_folder(self, job: Job) -> str:
        """Return the folder of a job's checkpoint."""
        return str(self._checkpoint(job.start)[0])

    def find(self, job: Job) -> dict[str, Any] | None:
        """Return the record of a finished job, or None.

        Raises:
            UserError: the record is damaged, or has another model or task name, under which tables would list it.
        """
        line = self.store.find(SCORES, self.key(job))
        if line is None:
            return None
        line.check()
        line.require("model.name", "task.name", "task.metric", "task.fold", "task.examples.test", "score")
        record = line.record
        for part, name in (("model", job.model), ("task", job.task.name)):
            if (recorded := record[part]["name"]) != name:
                remedy = "use that name, or another --records file"
                raise UserError(f"this run is already recorded as {recorded}", where=name, remedy=remedy)
        if self.workspace.save is not None and not self.model_folder(job).is_dir():
            say(f"  not saved: {job} is already recorded; use another --records file to train it again")
        return record

    def find_or_do(self, run: str, find: Callable[[], T | None], do: Callable[[], T]) -> T | None:
        """Return the record of a run, made now if there is none; None if another process has locked the run."""
        with self._locks.hold(run) as is_free:
            self.store.refresh()
            record = find()
            return do() if record is None and is_free else record

    def run(self, job: Job) -> dict[str, Any]:
        """Run a job that is not recorded, and record it.

        Raises:
            UserError: unusable files, weights or hyperparameters.
        """
        start, inputs = time.monotonic(), self._inputs(job)
        save, speed = self.workspace.save, self.workspace.speed
        if save is not None:
            require_writable(save)
            require_free(self.model_folder(job), self.key(job))
        hyperparameters, tried = self._hyperparameters(job, inputs)
        work = self._assignment(job, inputs, inputs.splits.test)
        if save is not None and not inputs.protocol.train_on_dev:
            work = replace(work, unseen=inputs.splits.dev)
        if job.task.untrained:
            outcome = zero_shot.score_encoder(work, max_length=hyperparameters.max_length, speed=speed)
        else:
            monitor = self._monitor(self.key(job), f"seed {job.seed}", self._name(job))
            outcome = finetune.fine_tune(work, hyperparameters, seed=job.seed, speed=speed, monitor=monitor)
        sums = self._checkpoint(job.start)[1]
        record = {
            "record": SCORES,
            "run": self.key(job),
            "model": model_fields(job, inputs.folder, sums, outcome) | self.method.model_fields(outcome),
            "task": task_fields(job, inputs.splits, inputs.data_sha256) | intermediate_fields(work.intermediate),
            "protocol": protocol_fields(inputs.protocol, job.overrides) | self.method.protocol_fields(),
            "settings": replace(hyperparameters, max_length=outcome.max_length).recorded(),
            "search": {"seed": SEARCH_SEED, "tried": tried} if tried else None,
            "seed": job.seed,
            "split": "test",
            "score": outcome.scores.metrics[job.task.metric],
            "metrics": outcome.scores.metrics,
            "counts": outcome.scores.counts,
            **analysis_fields(work, outcome),
            "how": performance_fields(outcome, time.monotonic() - start),
            "from": origin(),
        }
        if save is not None:
            self._save_model(job, work, outcome, record)
        record = self.store.add(record, outcome.scores.per_example)
        self.checkpoint(record["run"]).remove()
        return record

    def checkpoint(self, run: str) -> RunCheckpoint:
        """Return the checkpoint of a run in progress."""
        return RunCheckpoint(self.store.path, run)

    def _monitor(self, run: str, label: str, name: str, *, split: str = "test") -> Monitor:
        """Return what watches a training.

        Args:
            run: its name in records.
            label: which training of the job it is.
            name: of the training at trackers.
            split: that its model is scored on, as `Monitor` takes it.
        """
        logs = self.store.path.with_name(f"{self.store.path.name}.logs")
        tracker = Tracker(trackers, name, logs) if (trackers := self.workspace.trackers) else None
        return Monitor(label, checkpoint=self.checkpoint(run), tracker=tracker, split=split)

    def model_folder(self, job: Job) -> Path:
        """Return the folder for the fine-tuned model of a job; requires a `save` folder."""
        return self.workspace.save / self._name(job)

    def _name(self, job: Job) -> str:
        return saved_model_name(job.model, job.task.name, job.fold, job.seed)

    def _read(self, task: Task, fold: int | None) -> tuple[Splits, dict[str, str]]:
        splits = read(task, tasks.find(task, self.workspace.data), fold)
        for repair, number in splits.repairs.items():
            if (task.name, fold, repair) not in self._reported_repairs:
                say(f"  {shortened(task.name)}: {shortened(repair, 200)}: {number:,}")
            self._reported_repairs.add((task.name, fold, repair))
        kind = KINDS[task.kind]
        unseen = set(kind.labels(replace(splits, train=splits.test, dev=[]))) - set(kind.labels(splits))
        if unseen and (task.name, fold, "unseen") not in self._reported_repairs:
            say(f"  {shortened(task.name)}: labels in test that training lacks, always wrong: {listed(sorted(unseen))}")
            self._reported_repairs.add((task.name, fold, "unseen"))
        return splits, examples.examples_sha256(splits)

    def _read_intermediate(self, task: Task, fold: int | None) -> list[Example]:
        return read_intermediate(task, tasks.find(task, self.workspace.data), self._task(task, fold)[0])

    def _keyed_content(self, job: Job) -> tuple[Protocol, dict[str, Any]]:
        """Return the protocol applied to the job, and the content of its key but the seed."""
        common = replace(job, model="", seed=0)
        if common not in self._keyed:
            folder, sums = self._checkpoint(job.start)
            splits, data_sha256 = self._task(job.task, job.fold)
            n_train = len(splits.train) + self.method.extra_examples
            protocol = protocols.protocol(job.protocol, job.task, n_train, job.overrides)
            content = key_content(job, sums, data_sha256, protocol, self.method) | pieces_fields(job.task, folder)
            if protocol.hyperparameters.intermediate_epochs:
                content["intermediate"] = examples.sha256(self._intermediate(job.task, job.fold))
            self._keyed[common] = protocol, content
        return self._keyed[common]

    def _hash(self, job: Job, seed: int, **more: Any) -> str:
        return run_key({**self._keyed_content(job)[1], "seed": seed, **more})

    def _inputs(self, job: Job) -> _JobInputs:
        protocol, content = self._keyed_content(job)
        folder, sums = self._checkpoint(job.start)
        splits, data_sha256 = self._task(job.task, job.fold)
        if checkpoints.model_sha256(folder) != sums:
            raise UserError("the checkpoint has changed since the command began", where=folder, remedy=_AGAIN)
        if data_sha256 != content["data"]:
            what = f"the files of {job.task.name} have changed since the command began"
            raise UserError(what, where=job.task.place, remedy=_AGAIN)
        return _JobInputs(folder, splits, data_sha256, protocol)

    def _assignment(self, job: Job, inputs: _JobInputs, scored: Sequence[Example]) -> Assignment:
        train = protocols.training_examples(inputs.splits, inputs.protocol, job.overrides)
        labels = KINDS[job.task.kind].labels(inputs.splits)
        before = self._intermediate(job.task, job.fold) if inputs.protocol.hyperparameters.intermediate_epochs else ()
        return Assignment(
            str(inputs.folder), job.task, labels, inputs.protocol.level, train, scored, self.method, before
        )

    def _hyperparameters(self, job: Job, inputs: _JobInputs) -> tuple[FinetuneHyperparameters, list[dict[str, Any]]]:
        """Return the hyperparameters to train with, and the scores on dev by which they were chosen."""
        if not inputs.protocol.searches:
            return inputs.protocol.hyperparameters, []

        candidates, speed = inputs.protocol.candidates, self.workspace.speed
        work = self._assignment(job, inputs, inputs.splits.dev)

        def scores_of(candidate: Candidate) -> list[float] | None:
            run = self.search_key(job, candidate)

            def try_and_record() -> dict[str, Any]:
                number = candidates.index(candidate) + 1
                name = saved_model_name(job.model, job.task.name, job.fold, SEARCH_SEED)
                label = f"{candidate} ({number} of {len(candidates)})"
                monitor = self._monitor(run, label, f"{name}-trial{number}", split="eval")
                record = {
                    "record": SEARCH,
                    "run": run,
                    "model": {"name": job.model},
                    "task": task_fields(job, inputs.splits, inputs.data_sha256),
                    "protocol": protocol_fields(inputs.protocol, job.overrides) | self.method.protocol_fields(),
                    **candidate.recorded(),
                    "dev": search.dev_scores(work, inputs.protocol, candidate, speed=speed, monitor=monitor),
                }
                record = self.store.add(record)
                self.checkpoint(run).remove()
                return record

            def find() -> dict[str, Any] | None:
                if line := self.store.find(SEARCH, run):
                    line.check()
                    line.require("dev")
                return line and line.record

            record = self.find_or_do(run, find, try_and_record)
            return record and record["dev"]

        return search.choose(work, inputs.protocol, scores_of)

    def _save_model(self, job: Job, work: Assignment, outcome: Outcome, record: dict[str, Any]) -> None:
        try:
            require_free(self.model_folder(job), record["run"])  # another process may have been faster
        except UserError:
            self.store.add(record, outcome.scores.per_example)  # the score is valid all the same
            raise
        errors = list(KINDS[job.task.kind].errors(work.scored, outcome.predictions, work.labels))
        save_model(self.model_folder(job), outcome, record, errors, license=self.workspace.license)
        say(f"  fine-tuned model: {self.model_folder(job)}")
        say(f"  {ERRORS} in it: the {len(errors):,} test examples with errors")
        if chosen := record.get("thresholds"):
            rare = f"; too rare for one: {listed(chosen['rare'])}" if chosen["rare"] else ""
            say(f"  thresholds for predict --threshold dev: chosen on {chosen['examples']:,} examples of dev{rare}")


def _checkpoint(start: str) -> tuple[Path, dict[str, str]]:
    folder = local_folder(start)
    return folder, checkpoints.model_sha256(folder)
