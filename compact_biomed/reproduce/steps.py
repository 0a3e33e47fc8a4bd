"""The steps that train and evaluate: commands of this project that can say whether they are done.

A step has a `stage`, the trainings whose weights it `requires`, and `done()`: what is recorded is done.
"""

import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Protocol

from compact_biomed.benchmarks.tasks import Task
from compact_biomed.errors import flag_of
from compact_biomed.records.lines import RECORD_FILE, SCORES, Line, read_lines
from compact_biomed.records.store import Records
from compact_biomed.reproduce.declaration import DeclaredModel
from compact_biomed.training.recipe import load_recipe
from compact_biomed.training.run_folder import read_record

_NONE = "none"  # how a flag spells None
_LENGTH = {"max_steps", "batch_size"}


@dataclass(frozen=True)
class ReproductionPaths:
    """The folders of a reproduction.

    Args:
        recipes: the recipes.
        runs: one folder per training.
        results: one folder per study: records, and the tables made from them.
        study: name of the folder that this reproduction fills: its preset.
        readme: the document that shows headline tables, if any.
        shown: whether tables that several studies could give are made from this one.
        shown_tasks: whether those of task distillation are.
    """

    recipes: Path
    runs: Path
    results: Path
    study: str
    readme: Path | None = None
    shown: bool = True
    shown_tasks: bool = False

    @property
    def pretraining(self) -> Path:
        return self.results / self.study / "pretraining.jsonl"

    @property
    def evaluation(self) -> Path:
        return self.results / self.study / "evaluation.jsonl"

    @property
    def compression(self) -> Path:
        return self.results / self.study / "compression.jsonl"

    @property
    def speed(self) -> Path:
        """Records of the speed of compressed models and their teacher."""
        return self.results / self.study / "inference.jsonl"

    @property
    def releases(self) -> Path:
        """The list of released models with the sha256 of their weights."""
        return self.results / self.study / "releases.json"


@dataclass(frozen=True, eq=False)
class Training:
    """A step that runs a recipe with one seed of pretraining.

    Args:
        scale: preset of the recipe.
        seed: of pretraining; None = the recipe's own.
        replicate: number of the replicate, from 0.
        settings: hyperparameters, in the spelling of the recipe's flags, with the seed.
        needs: the training of its teacher.
    """

    model: DeclaredModel
    scale: str
    seed: int | None
    replicate: int
    settings: Mapping[str, Any]
    paths: ReproductionPaths
    needs: "Training | None"

    stage = "pretraining"

    def __str__(self) -> str:
        return f"pretraining {self.model.name}{of_replicate(self)}"

    @property
    def requires(self) -> "tuple[Training, ...]":
        """The trainings whose weights it reads."""
        return (self.needs,) if self.needs else ()

    @property
    def folder(self) -> Path:
        return self.paths.runs / (f"{self.model.name}-seed{self.seed}" if self.replicate else self.model.name)

    @property
    def checkpoint(self) -> str:
        """The folder of its weights, which may not be trained yet."""
        return str(self.folder / "model")

    @cached_property
    def flags(self) -> list[str]:
        """The recipe's flags, without the folder."""
        flags = ["--preset", self.scale]
        for name, value in self.settings.items():
            flags += [flag_of(name), *map(str, value if isinstance(value, list) else [value])]
        return flags

    @property
    def command(self) -> list[str]:
        script = str(self.paths.recipes / f"{self.model.recipe}.py")
        return [sys.executable, script, *self.flags, "--output-dir", str(self.folder)]

    @cached_property
    def expected(self) -> dict[str, Any]:
        """The hyperparameters that a record of it must have: its settings, and the recipe's length and batch."""
        expected = {name: None if value == _NONE else value for name, value in self.settings.items()}
        expected.pop("teacher", None)  # a folder; its weights are compared
        if not expected.keys() >= _LENGTH:
            recipe = load_recipe(self.model.recipe).at(self.scale)
            expected |= {name: recipe[name] for name in _LENGTH if name not in expected}
        return expected

    def record(self) -> dict[str, Any] | None:
        """Return the record of the finished run in the folder.

        Return None if there is none, or if it has other settings; the recipe then reports the difference.
        """
        path = self.folder / RECORD_FILE
        if not path.is_file():
            return None
        record = read_record(path)
        return record if self._fits(record) else None

    def recorded(self) -> list[dict[str, Any]]:
        """Return the records in results/ of trainings with these settings, on this machine or another."""
        lines = [line.record for line in _lines_of(self.paths.pretraining)]
        return [record for record in lines if record.get("model") == self.model.name and self._fits(record)]

    def _fits(self, record: Mapping[str, Any]) -> bool:
        recorded = record["hyperparameters"]
        if any(name in recorded and recorded[name] != value for name, value in self.expected.items()):
            return False
        return self.needs is None or recorded.get("teacher_sha256") in self.needs.known_weights()

    def weights(self) -> str | None:
        """Return the sha256 of the weights in the folder, or None if the run is not done here."""
        record = self.record()
        return record["weights_sha256"] if record else None

    def known_weights(self) -> set[str]:
        """Return the sha256 of the weights of every such training, whether or not they still exist."""
        here = self.weights()
        return {record["weights_sha256"] for record in self.recorded()} | ({here} if here else set())

    def here(self) -> bool:
        """Return whether its weights are on this machine."""
        return self.record() is not None

    def done(self) -> bool:
        """Return whether it was done, here or elsewhere."""
        return self.here() or bool(self.recorded())


@dataclass(frozen=True, eq=False)
class Evaluation:
    """A step that fine-tunes and scores a model on tasks with one seed.

    It is done when scores of its model are recorded, by whichever training of these settings: weights that were lost
    with a machine need not be made again.

    Args:
        tasks: name in the declaration -> task.
        folds: of cross-validation sets; None = all.
        protocol: `name`, and settings that replace the protocol's.
        needs: the training of the model; None for a checkpoint.
        own: the settings of the protocol that the preset's other evaluations do not have.
    """

    model: DeclaredModel
    tasks: Mapping[str, Task]
    seed: int
    folds: tuple[int, ...] | None
    protocol: Mapping[str, Any]
    paths: ReproductionPaths
    needs: Training | None
    own: Mapping[str, Any] = field(default_factory=dict)

    stage = "evaluation"

    def __str__(self) -> str:
        return f"evaluating {self.label} on {', '.join(self.tasks)}, seed {self.seed}"

    @property
    def label(self) -> str:
        """The model, and how it differs from the preset's others."""
        own = "".join(f", {name.replace('_', ' ')} {value}" for name, value in self.own.items())
        return f"{self.model.name}{of_replicate(self.needs)}{own}"

    @property
    def requires(self) -> tuple[Training, ...]:
        """The trainings whose weights it reads."""
        return (self.needs,) if self.needs else ()

    @property
    def checkpoint(self) -> str:
        """The folder or name of the model's weights."""
        return self.needs.checkpoint if self.needs else self.model.checkpoint

    @property
    def protocol_name(self) -> str:
        return self.protocol.get("name", "standard")

    @property
    def overrides(self) -> dict[str, Any]:
        return {name: value for name, value in self.protocol.items() if name != "name"}

    def on(self, tasks: Collection[str]) -> "Evaluation":
        """Return the same step, restricted to some of its tasks."""
        return replace(self, tasks={name: task for name, task in self.tasks.items() if name in tasks})

    def command_for(self, tasks: Sequence[str], *, minutes: float | None = None) -> list[str]:
        """Return the command that evaluates some of the tasks, within a time limit."""
        folders = [name for name in tasks if Path(self.tasks[name].place).is_absolute()]
        named = [name for name in tasks if name not in folders]
        command = [sys.executable, "-m", "compact_biomed", "evaluate", "--name", self.model.name]
        command += ["--model", self.checkpoint, "--seeds", str(self.seed)]
        command += ["--task", ",".join(named)] if named else []
        for name in folders:
            command += ["--ner-dir", self.tasks[name].place]
        command += ["--folds", ",".join(map(str, self.folds))] if self.folds else []
        command += ["--records", str(self.paths.evaluation)]
        command += protocol_flags({"name": self.protocol_name, **self.overrides})
        return [*command, *(["--minutes", f"{minutes:.2f}"] if minutes is not None else [])]

    def missing(self) -> dict[str, list[int | None]]:
        """Return task -> folds without a record."""
        return self.missing_in([line.record for line in evaluation_lines(self.paths.evaluation)])

    def missing_in(self, scores: Sequence[Mapping[str, Any]]) -> dict[str, list[int | None]]:
        """Return task -> folds without a record among `scores`."""
        weights = self.needs.known_weights() if self.needs else None
        own = [record for record in scores if self._is_of_model(record, weights)]
        recorded = {(record["task"]["name"], record["task"]["fold"]) for record in own if self._has_settings(record)}
        untrained = {(record["task"]["name"], record["task"]["fold"]) for record in own}
        missing = {}
        for name, task in self.tasks.items():
            known = untrained if task.untrained else recorded
            folds = [fold for fold in self._folds(task) if (task.name, fold) not in known]
            if folds:
                missing[name] = folds
        return missing

    def done(self) -> bool:
        return not self.missing()

    def _folds(self, task: Task) -> Sequence[int | None]:
        if not task.folds:
            return [None]
        return self.folds or range(1, task.folds + 1)

    def _is_of_model(self, record: Mapping[str, Any], weights: Collection[str] | None) -> bool:
        if record["record"] != SCORES or record["model"]["name"] != self.model.name:
            return False
        return weights is None or record["model"].get("weights_sha256") in weights

    def _has_settings(self, record: Mapping[str, Any]) -> bool:
        protocol = record["protocol"]
        recorded = (record["seed"], protocol["name"], protocol["overrides"])
        return recorded == (self.seed, self.protocol_name, self.overrides)


def protocol_flags(protocol: Mapping[str, Any]) -> list[str]:
    """Return the flags of `evaluate` and `distill` for the name of a protocol, and settings that replace its own."""
    named = {"protocol" if name == "name" else name: value for name, value in protocol.items()}
    return [part for name, value in named.items() for part in (flag_of(name), str(value))]


class Step(Protocol):
    """What all steps of a plan have."""

    model: DeclaredModel
    stage: str

    @property
    def requires(self) -> tuple[Training, ...]: ...

    def done(self) -> bool: ...


def of_replicate(training: Training | None) -> str:
    """Return the seed of pretraining in words; nothing for the first, and for a checkpoint."""
    return f", pretraining seed {training.seed}" if training and training.replicate else ""


def weights_needed(steps: Iterable[Step]) -> dict[Training, Step]:
    """Return the trainings whose weights are not here although a remaining step needs them, and the first such step.

    What is recorded is done: nobody needs the weights of a model all of whose scores are recorded.
    """
    needed: dict[Training, Step] = {}

    def need(training: Training, step: Step) -> None:
        if training not in needed and not training.here():
            needed[training] = step
            for other in training.requires:
                need(other, training)

    for step in steps:
        if not step.done():
            for training in step.requires:
                need(training, step)
    return needed


def remaining(steps: Sequence[Step]) -> list[Step]:
    """Return what is left to do, in order: steps without a record, and trainings whose weights these need."""
    needed = weights_needed(steps)
    return [step for step in steps if step in needed or not step.done()]


def evaluation_lines(path: Path) -> Sequence[Line]:
    """Return the records of an evaluation, read once per version of the file."""
    return _evaluation_lines(path, _version(path))


def _lines_of(path: Path) -> Sequence[Line]:
    return _read(path, _version(path))


def _version(path: Path) -> tuple[int, int]:
    state = path.stat() if path.is_file() else None
    return (state.st_mtime_ns, state.st_size) if state else (0, 0)


@lru_cache(maxsize=4)
def _read(path: Path, version: tuple[int, int]) -> Sequence[Line]:
    return read_lines([path], missing_ok=True)


@lru_cache(maxsize=4)
def _evaluation_lines(path: Path, version: tuple[int, int]) -> Sequence[Line]:
    lines = Records(path).lines
    for line in lines:
        line.check()
        line.require("model.name", "task.name")
    return lines
