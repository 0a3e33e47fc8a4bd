"""One run from its name to its record: read, search, train, score, write down."""

import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from compact_biomed import records
from compact_biomed.benchmarks import examples, tasks
from compact_biomed.benchmarks.examples import Splits
from compact_biomed.benchmarks.readers import read
from compact_biomed.benchmarks.tasks import Task
from compact_biomed.console import say
from compact_biomed.errors import UserError
from compact_biomed.evaluation import finetune, protocols
from compact_biomed.evaluation.finetune import Outcome
from compact_biomed.evaluation.kinds import KINDS
from compact_biomed.evaluation.protocols import AS_IS, SEARCH_SEED, Overrides, Protocol
from compact_biomed.files import atomic_folder, require_writable, write_json
from compact_biomed.machine import Speed
from compact_biomed.models import checkpoints
from compact_biomed.models.checkpoints import local_folder
from compact_biomed.records import Claims, origin

# ----------------------------------------------------------------------------------------------------
# The parts of a record: what was run, from what, and how.


def model(name: str, start: str, sums: dict[str, str], outcome: Outcome) -> dict[str, Any]:
    """Which checkpoint; of weights that it lacked, the names."""
    return {
        "name": name,
        "start": os.path.relpath(start) if os.path.isdir(start) else start,
        "architecture": outcome.model.config.model_type,
        "encoder_parameters": _encoder_parameters(outcome.model.base_model),
        "random_weights": outcome.random,
        **sums,
    }


def _encoder_parameters(encoder: "nn.Module") -> int:
    """Without the pooler, which belongs to the head: tasks on tokens have none."""
    return sum(p.numel() for name, p in encoder.named_parameters() if not name.startswith("pooler."))


def task(asked: Task, fold: int | None, splits: Splits, sums: dict[str, str]) -> dict[str, Any]:
    """Which benchmark, and which examples were read of it."""
    return {
        "name": asked.name,
        "kind": asked.kind,
        "version": asked.version,
        "fold": fold,
        "folds": asked.folds,
        "metric": asked.metric,
        "examples": splits.counts(),
        "repairs": splits.repairs,
        "data_sha256": sums,
    }


def protocol(applied: Protocol, overrides: Overrides) -> dict[str, Any]:
    """By which rules, and what the user changed in them."""
    return {
        "name": applied.name,
        "level": applied.level,
        "source": applied.source,
        "overrides": overrides.given(),
        "learning_rates": list(applied.learning_rates),
        "choose_epochs": applied.choose_epochs,
        "train_on_dev": applied.train_on_dev,
    }


def speed(outcome: Outcome, seconds: float) -> dict[str, Any]:
    """On what machine, how fast. `seconds` of all, the search included if it was made now."""
    machine, fitted = outcome.machine, outcome.fitted
    return {
        "device": machine.device,
        "precision": str(machine.dtype).removeprefix("torch."),
        "kernels": "fast" if machine.fast else "transformers",
        "replicas": machine.replicas,
        "seconds": round(seconds, 1),
        "training_seconds": round(fitted.seconds, 1),
        "steps": fitted.steps,
        "tokens": fitted.tokens,
        "tokens_per_second": round(fitted.tokens / max(fitted.seconds, 1e-9), 1),
        "training_loss": fitted.loss,
    }


# ----------------------------------------------------------------------------------------------------
# What `evaluate --save` keeps of a run: a folder that transformers reads, with a card.


RECORD = "record.json"
_PIPELINES = {"ner": "token-classification", "qa": "question-answering"}


def keep(folder: Path, outcome: "Outcome", record: Mapping[str, Any]) -> None:
    """Write a fine-tuned model: safetensors, configuration with the labels, tokenizer, card, record.

    Args:
        folder: is replaced as a whole if it exists.
        record: of the run, as it enters the file of records; kept beside the weights as `RECORD`.
    """
    with atomic_folder(folder) as temporary:
        outcome.model.save_pretrained(temporary)
        outcome.tokenizer.save_pretrained(temporary)
        write_json(temporary / RECORD, dict(record))
        (temporary / "README.md").write_text(card(record, outcome.model.config), encoding="utf-8")


def kept_record(folder: Path) -> dict[str, Any]:
    """The record beside the weights of a kept model; empty where there is none.

    Raises:
        UserError: it is not JSON.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"not JSON: {error}", where=path, remedy="remove the file") from error
    return found if isinstance(found, dict) else {}


def card(record: Mapping[str, Any], config) -> str:
    """A README.md for the folder of a fine-tuned model.

    Args:
        record: of the run.
        config: of the model, for its labels.
    """
    task, settings = record["task"], record["settings"]
    pipeline = _PIPELINES.get(task["kind"], "text-classification")
    labels = "" if task["kind"] == "qa" else f"\nLabels: {', '.join(config.id2label.values())}.\n"
    metrics = "\n".join(f"| {name} | {value:.2f} |" for name, value in record["metrics"].items())
    fold = f", fold {task['fold']}" if task["fold"] is not None else ""
    return f"""---
library_name: transformers
pipeline_tag: {pipeline}
---

# {record["model"]["name"]}, fine-tuned on {task["name"]}

By {_maker(record)}: seed {record["seed"]}{fold}, protocol {record["protocol"]["name"]}, learning rate
{settings["learning_rate"]:g}, at most {settings["max_length"]} word-pieces.
Start weights (sha256): {record["model"]["weights_sha256"]}.
{labels}
| on the test set | percent |
|---|---|
{metrics}

`record.json` holds the whole record of the run. To use the model: `compact-biomed predict --model THIS_FOLDER FILE`.
"""


def _maker(record: Mapping[str, Any]) -> str:
    """What made the model, and from what."""
    if pruned := record["model"].get("pruning"):
        return f"`recipes/pruning.py`, {pruned['share']:.0%} of {pruned['removed']} of {pruned['source']} removed"
    if distilled := record["protocol"].get("distillation"):
        return f"`compact-biomed train distill --task`, teacher {distilled['teacher']}"
    return "`compact-biomed evaluate`"


T = TypeVar("T")
_AGAIN = "give the command again: what is recorded stays"


@dataclass(frozen=True)
class Job:
    """What a run is asked to be.

    Args:
        model: how records and tables call it.
        start: the checkpoint: a folder, a hub name or a registry name.
        fold: from 1 on, None for fixed splits.
    """

    model: str
    start: str
    task: Task
    fold: int | None
    seed: int
    protocol: str
    overrides: Overrides = AS_IS

    def __str__(self) -> str:
        fold = f", fold {self.fold}" if self.fold is not None else ""
        return f"{self.model} on {self.task.name}{fold}, seed {self.seed}"


@dataclass(frozen=True)
class _Prepared:
    """A job with its files at hand."""

    folder: Path
    splits: Splits
    protocol: Protocol
    science: dict[str, Any]  # all that decides the result, but the seed


class Runner:
    """Does jobs; keeps what several share.

    Args:
        store: finished runs.
        data: folder of the benchmarks' files, None = as `tasks.find` finds it.
        speed: speed settings.
        save: folder for the fine-tuned models, None = they are not kept.
        method: how the models learn.
    """

    def __init__(
        self,
        store: records.Records,
        *,
        data: Path | None,
        speed: Speed,
        save: Path | None = None,
        method: finetune.Method = finetune.FROM_LABELS,
    ):
        self.store, self.data, self.speed, self.save, self.method = store, data, speed, save, method
        self._model = lru_cache(maxsize=None)(_checkpoint)
        self._task = lru_cache(maxsize=2)(self._read)
        self._told: set[tuple] = set()
        self._claims = Claims(store.path)
        self._sciences: dict[Job, tuple[Protocol, dict[str, Any]]] = {}

    def name(self, job: Job) -> str:
        """What records call the run: a hash of all that decides the result."""
        return self._key(job, job.seed)

    def searched(self, job: Job, rate: float) -> str:
        """What records call the trial of a learning rate on dev, which all seeds of a job share."""
        return self._key(job, SEARCH_SEED, searched_learning_rate=rate)

    def recorded(self, job: Job) -> dict[str, Any] | None:
        """The record of a finished job, or None.

        Raises:
            UserError: the record is damaged, or under another name; then tables would not show it under this one.
        """
        line = self.store.find(records.SCORES, self.name(job))
        if line is None:
            return None
        line.require("model.name", "task.name", "task.metric", "task.fold", "task.examples.test", "score")
        record = line.record
        for what, name in (("model", job.model), ("task", job.task.name)):
            if record[what]["name"] != name:
                raise UserError(
                    f"this very run is recorded as {record[what]['name']}", where=name,
                    remedy="use that name, or another --records file",
                )  # fmt: skip
        if self.save is not None and not self.kept(job).is_dir():
            say(f"  not kept: {job} is recorded already; another --records file makes it again")
        return record

    def once(self, run: str, known: Callable[[], T | None], do: Callable[[], T]) -> T | None:
        """What is known of a run, else what doing it gives; None if another process is at it."""
        with self._claims.claim(run) as free:
            self.store.refresh()
            found = known()
            return do() if found is None and free else found

    def run(self, job: Job) -> dict[str, Any]:
        """Do a job that is not recorded, and record it.

        Raises:
            UserError: files, weights or settings that do not work.
        """
        start, ready = time.monotonic(), self._prepare(job)
        if self.save is not None:
            require_writable(self.save)
            self._require_free(self.kept(job), self.name(job))
        settings, tried = self._settings(job, ready)
        work = self._assignment(job, ready, ready.splits.test)
        outcome = finetune.fine_tune(work, settings, seed=job.seed, speed=self.speed)
        run = self.name(job)
        record = {
            "record": records.SCORES,
            "run": run,
            "model": model(job.model, job.start, self._model(job.start)[1], outcome) | self.method.of_model(outcome),
            "task": task(job.task, job.fold, ready.splits, ready.science["data"]),
            "protocol": protocol(ready.protocol, job.overrides) | self.method.about(),
            "settings": asdict(replace(settings, max_length=outcome.max_length)),
            "search": {"seed": SEARCH_SEED, "tried": tried} if tried else None,
            "seed": job.seed,
            "split": "test",
            "score": outcome.scores.metrics[job.task.metric],
            "metrics": outcome.scores.metrics,
            "counts": outcome.scores.counts,
            "how": speed(outcome, time.monotonic() - start),
            "from": origin(),
        }
        if self.save is not None:
            self._keep(job, outcome, record)
        return self.store.add(record, outcome.scores.per_example)

    # ---- before -----------------------------------------------------------------------

    def _read(self, task: Task, fold: int | None) -> tuple[Splits, dict[str, str]]:
        splits = read(task, tasks.find(task, self.data), fold)
        for what, number in splits.repairs.items():
            if (task.name, fold, what) not in self._told:
                say(f"  {task.name}: {what}: {number:,}")
            self._told.add((task.name, fold, what))
        return splits, examples.examples_sha256(splits)

    def _science(self, job: Job) -> tuple[Protocol, dict[str, Any]]:
        """The protocol applied, and all that decides the result but the seed; the files are read once for it."""
        one_of_many = replace(job, model="", seed=0)
        if one_of_many not in self._sciences:
            _, model = self._model(job.start)
            splits, data = self._task(job.task, job.fold)
            protocol = protocols.protocol(
                job.protocol, job.task, len(splits.train) + self.method.further, job.overrides
            )
            science = {
                **model,
                "task": [job.task.name, job.task.version, job.fold],
                "data": data,
                "protocol": {name: value for name, value in asdict(protocol).items() if name != "source"},
                "max_train_examples": job.overrides.max_train_examples,
                **self.method.science,
            }
            self._sciences[one_of_many] = protocol, science
        return self._sciences[one_of_many]

    def _prepare(self, job: Job) -> _Prepared:
        protocol, science = self._science(job)
        folder, sums = self._model(job.start)
        splits, data = self._task(job.task, job.fold)
        if checkpoints.model_sha256(folder) != sums:
            raise UserError("the checkpoint was changed meanwhile", where=folder, remedy=_AGAIN)
        if data != science["data"]:
            raise UserError(f"the files of {job.task.name} were changed meanwhile", where=job.task.place, remedy=_AGAIN)
        return _Prepared(folder, splits, protocol, science)

    def _key(self, job: Job, seed: int, **more: Any) -> str:
        return records.run_key({**self._science(job)[1], "seed": seed, **more})

    def _assignment(self, job: Job, ready: _Prepared, asked: Sequence) -> finetune.Assignment:
        train = protocols.training_examples(ready.splits, ready.protocol, job.overrides)
        labels = KINDS[job.task.kind].labels(ready.splits)
        folder, level = str(ready.folder), ready.protocol.level
        return finetune.Assignment(folder, job.task, labels, level, train, asked, self.method)

    def _settings(self, job: Job, ready: _Prepared):
        """The settings to train with, and what was tried on dev to find them."""
        if not ready.protocol.searches:
            return ready.protocol.settings, []

        def once(rate: float, tried: Callable[[], list[float]]) -> list[float] | None:
            run = self.searched(job, rate)

            def now() -> dict[str, Any]:
                record = {
                    "record": records.SEARCH,
                    "run": run,
                    "model": {"name": job.model},
                    "task": task(job.task, job.fold, ready.splits, ready.science["data"]),
                    "protocol": protocol(ready.protocol, job.overrides) | self.method.about(),
                    "learning_rate": rate,
                    "dev": tried(),
                }
                return self.store.add(record)

            def known() -> dict[str, Any] | None:
                if line := self.store.find(records.SEARCH, run):
                    line.require("dev")
                return line and line.record

            record = self.once(run, known, now)
            return record and record["dev"]

        work = self._assignment(job, ready, ready.splits.dev)
        return finetune.search(work, ready.protocol, speed=self.speed, once=once)

    # ---- after ------------------------------------------------------------------------

    def kept(self, job: Job) -> Path:
        """Where the fine-tuned model of a job is kept, if there is a `save` folder."""
        parts = [job.model, job.task.name, f"fold{job.fold}" if job.fold is not None else "", f"seed{job.seed}"]
        return self.save / "-".join(part.replace("/", "_") for part in parts if part)

    def _keep(self, job: Job, outcome: finetune.Outcome, record: dict[str, Any]) -> None:
        try:
            self._require_free(self.kept(job), record["run"])  # another process may have been faster
        except UserError:
            self.store.add(record, outcome.scores.per_example)  # the score is true all the same
            raise
        keep(self.kept(job), outcome, record)
        say(f"  fine-tuned model: {self.kept(job)}")

    @staticmethod
    def _require_free(folder: Path, run: str) -> None:
        """No other run's model is replaced."""
        if folder.exists() and kept_record(folder).get("run") != run:
            what = "another run's model" if (folder / RECORD).is_file() else "something else"
            raise UserError(f"{what} is kept here", where=folder, remedy="choose another --save folder")


def _checkpoint(start: str) -> tuple[Path, dict[str, str]]:
    folder = local_folder(start)
    return folder, checkpoints.model_sha256(folder)


def model_name(start: str) -> str:
    """What a checkpoint is called if nobody named it: its folder; of runs/NAME/model, NAME.

    Raises:
        UserError: nothing is left of the name.
    """
    parts = [part for part in Path(start).parts if part not in (".", "..", "/")]
    if len(parts) > 1 and parts[-1] == "model":
        parts.pop()
    if not parts:
        raise UserError("this checkpoint has no name", where=start, remedy="give one with --name")
    return parts[-1].removeprefix("registry:")
