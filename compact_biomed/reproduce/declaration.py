"""What is run, as data: the declaration of a reproduction (recipes/reproduce.toml) and of an ablation.

Imports nothing heavy, so that scripts with a declaration answer `--help` at once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Required, TypedDict

from compact_biomed.errors import UserError
from compact_biomed.settings import read_settings


class ModelKeys(TypedDict, total=False):
    """The keys of a model, see `Model`."""

    recipe: str
    teacher: str
    settings: dict[str, Any]
    checkpoint: str
    like: str


class PowerKeys(TypedDict, total=False):
    """The keys of [power], see `Declaration`."""

    difference: Required[float]
    deviation: Required[float]
    pretraining: float


class MeasurementKeys(TypedDict, total=False):
    """The keys of one table of `evaluation`, see `Measurement`."""

    tasks: Required[list[str]]
    models: list[str]
    seeds: Required[list[int]]
    folds: list[int]
    pretraining_seeds: list[int]
    protocol: "ProtocolKeys"


class ProtocolKeys(TypedDict, total=False):
    """The keys of `protocol`: a protocol's name, and what takes the place of its settings."""

    name: str
    learning_rate: float
    epochs: int
    max_train_examples: int
    layer_decay: float
    average_last: float
    intermediate_epochs: int


class ReplicateKeys(TypedDict):
    """The keys of one table of `replicates`: a further seed of pretraining, and the models that are trained with it."""

    seed: int
    models: list[str]


class CompressionKeys(TypedDict, total=False):
    """The keys of `compression`, see `CompressionPlan`."""

    tasks: Required[list[str]]
    models: Required[list[str]]
    teacher: Required[str]
    unlabelled: Required[int]
    seeds: list[int]
    protocol: ProtocolKeys
    teacher_protocol: ProtocolKeys


class PresetKeys(TypedDict, total=False):
    """The keys of a preset, see `Declaration`."""

    scale: str
    models: list[str]
    replicates: list[ReplicateKeys]
    training: Required[dict[str, Any]]
    evaluation: Required[list[MeasurementKeys]]
    protocol: ProtocolKeys
    compression: CompressionKeys
    results: str


class DeclarationKeys(TypedDict, total=False):
    """The keys of the whole file."""

    shown: str
    shown_tasks: str
    models: Required[dict[str, ModelKeys]]
    power: Required[PowerKeys]
    presets: Required[dict[str, PresetKeys]]


@dataclass(frozen=True)
class DeclaredModel:
    """A model that a recipe trains, or a checkpoint that is evaluated as it is.

    Args:
        name: in records and tables.
        recipe: name of a file in recipes/, without .py.
        teacher: name of the model that teaches it.
        settings: hyperparameters of the recipe, in the spelling of its flags.
        checkpoint: folder, hub name or registry name.
        like: the model whose shape a checkpoint has.
    """

    name: str
    recipe: str | None = None
    teacher: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    like: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Models to fine-tune on tasks with several seeds.

    Args:
        folds: of cross-validation sets; None = all.
        pretraining_seeds: the replicates whose models are measured; None = all.
        protocol: settings that replace the preset's.
    """

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...] | None = None
    pretraining_seeds: tuple[int, ...] | None = None
    protocol: Mapping[str, Any] = field(default_factory=dict)

    def covers(self, model: str, replicate: "Replicate") -> bool:
        """Return whether it measures this model of this replicate."""
        with_seed = self.pretraining_seeds is None or replicate.seed in self.pretraining_seeds
        return with_seed and model in self.models


@dataclass(frozen=True)
class Replicate:
    """One seed of pretraining: the chain from teacher to students is trained with it, and each model is evaluated.

    Args:
        seed: None = the recipes' own.
        models: that are trained with it, teachers included, in the order of their training.
    """

    seed: int | None
    models: tuple[str, ...]


@dataclass(frozen=True)
class CompressionPlan:
    """Models to make small for tasks: distilled from a fine-tuned teacher, exported to int8, scored and timed.

    Args:
        models: that start the students.
        teacher: name of the model that is fine-tuned on all labels.
        unlabelled: number of sentences of the training text that only the teacher labels.
        seeds: of fine-tuning; each has a teacher of its own.
        protocol, teacher_protocol: settings that replace the protocol's, of students and teacher.
    """

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    teacher: str
    unlabelled: int
    seeds: tuple[int, ...] = (1,)
    protocol: Mapping[str, Any] = field(default_factory=dict)
    teacher_protocol: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Declaration:
    """A reproduction at one scale.

    Args:
        preset: name of the reproduction and of its folder of results.
        scale: the recipes' preset; by default it has the same name.
        shown: whether the README, the pages and the manuscript show these results.
        shown_tasks: whether they show its results of task distillation.
        models: in the order of their training.
        replicates: seeds of pretraining; the first has all models.
        training: settings of every training, without the seed; what is not set is the recipe's own.
        protocol: of fine-tuning: `name`, and settings that replace the protocol's.
        difference: points of score that claims have to detect.
        deviation: assumed standard deviation of a score over seeds.
        pretraining: assumed standard deviation of a score over seeds of pretraining.
        compression: None = no model is compressed.
        results: folder of records and tables; by default it is in the folder of the runs.
    """

    preset: str
    scale: str
    shown: bool
    shown_tasks: bool
    models: Mapping[str, DeclaredModel]
    replicates: tuple[Replicate, ...]
    training: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    protocol: Mapping[str, Any]
    difference: float
    deviation: float
    pretraining: float
    compression: CompressionPlan | None
    results: Path | None


@dataclass(frozen=True)
class Ablation:
    """A question, and the variants of recipes whose comparison answers it.

    Args:
        name: of the script in recipes/ablations/, without .py.
        question: heading of the table.
        variants: recipe -> variant -> flags of the recipe; the others are compared with the first variant.
    """

    name: str
    question: str
    variants: Mapping[str, Mapping[str, Sequence[str]]]


def load(path: Path, preset: str) -> Declaration:
    """Read the declaration of one preset.

    Raises:
        UserError: not TOML, an unknown key, or a model that is named and not there.
    """
    file = read_settings(path, DeclarationKeys)
    content, presets = file.content, file.content["presets"]
    if preset not in presets:
        raise UserError(f"no preset {preset!r}", where=file.where("presets"), remedy=f"one of {', '.join(presets)}")
    chosen, where = presets[preset], file.where("presets", preset)
    models = {name: DeclaredModel(name, **model) for name, model in content["models"].items()}
    for model in models.values():
        _check_model(model, models, file.where("models", model.name))
    measured = _known(chosen.get("models", list(models)), models, where)
    included = with_teachers(measured, models)
    for name in included:
        if models[name].like not in (None, *included):
            raise UserError(f"{name} is like {models[name].like}, which is not among the models", where=where)
    shown = {key: content.get(key, preset) for key in ("shown", "shown_tasks")}
    for key, named in shown.items():
        if named not in presets:
            raise UserError(f"no preset {named!r}", where=file.where(key), remedy=f"one of {', '.join(presets)}")
    training = dict(chosen["training"])
    return Declaration(
        preset=preset,
        scale=chosen.get("scale", preset),
        shown=shown["shown"] == preset,
        shown_tasks=shown["shown_tasks"] == preset,
        models={name: models[name] for name in models if name in included},
        replicates=_replicates(training.pop("seed", None), chosen.get("replicates", []), models, included, where),
        training=training,
        measurements=tuple(_measurement(each, models, measured, where) for each in chosen["evaluation"]),
        protocol=chosen.get("protocol", {}),
        difference=float(content["power"]["difference"]),
        deviation=float(content["power"]["deviation"]),
        pretraining=float(content["power"].get("pretraining", 0.0)),
        compression=_compression(chosen.get("compression"), models, included, where),
        results=Path(chosen["results"]) if "results" in chosen else None,
    )


def _measurement(table: Mapping[str, Any], models, names: Sequence[str], where: str) -> Measurement:
    named = _known(table.get("models", names), models, where)
    folds, pretraining = table.get("folds"), table.get("pretraining_seeds")
    return Measurement(
        tasks=tuple(table["tasks"]),
        models=tuple(name for name in named if name in names),
        seeds=tuple(table["seeds"]),
        folds=None if folds is None else tuple(folds),
        pretraining_seeds=None if pretraining is None else tuple(pretraining),
        protocol=table.get("protocol", {}),
    )


def _compression(
    table: Mapping[str, Any] | None, models: Mapping[str, DeclaredModel], included: Sequence[str], where: str
) -> CompressionPlan | None:
    if table is None:
        return None
    for name in _known([*table["models"], table["teacher"]], models, where):
        if name not in included or models[name].recipe is None:
            raise UserError(f"{name} is not trained in this preset", where=where, remedy="take it out of compression")
    return CompressionPlan(**{key: tuple(of) if isinstance(of, list) else of for key, of in table.items()})


def _replicates(
    first: int | None, further: Sequence[ReplicateKeys], models, included: Sequence[str], where: str
) -> tuple[Replicate, ...]:
    replicates = [Replicate(first, tuple(name for name in models if name in included))]
    for table in further:
        if table["seed"] in [each.seed for each in replicates]:
            raise UserError(f"pretraining seed {table['seed']} is declared twice", where=where)
        names = with_teachers(_known(table["models"], models, where), models)
        if unknown := [name for name in names if name not in included or models[name].recipe is None]:
            remedy = "take it out of replicates"
            raise UserError(f"{unknown[0]} is not trained in this preset", where=where, remedy=remedy)
        replicates.append(Replicate(table["seed"], tuple(name for name in models if name in names)))
    return tuple(replicates)


def _check_model(model: DeclaredModel, models: Mapping[str, DeclaredModel], where: str) -> None:
    if (model.recipe is None) == (model.checkpoint is None):
        raise UserError("a model has a recipe or a checkpoint", where=where)
    _known([name for name in (model.teacher, model.like) if name], models, where)
    names = list(models)
    if model.teacher and names.index(model.teacher) >= names.index(model.name):
        raise UserError("a teacher must be declared before its students", where=where)
    if model.checkpoint is not None and (model.like is None or models[model.like].recipe is None):
        raise UserError("a checkpoint is like a model that has a recipe", where=where, remedy='like = "NAME"')


def with_teachers(names: Sequence[str], models: Mapping[str, DeclaredModel]) -> list[str]:
    """Return names of models, and of their teachers, and of those of these."""
    complete = list(names)
    for name in complete:  # grows
        teacher = models[name].teacher
        if teacher and teacher not in complete:
            complete.append(teacher)
    return complete


def _known(names: Sequence[str], models: Mapping[str, DeclaredModel], where: str) -> list[str]:
    for name in names:
        if name not in models:
            raise UserError(f"no model {name!r}", where=where, remedy=f"one of {', '.join(models)}")
    return list(names)
