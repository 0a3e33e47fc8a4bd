"""The declaration of a reproduction (recipes/reproduce.toml), read and checked."""

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


class PowerKeys(TypedDict):
    """The keys of [power], see `Declaration`."""

    difference: float
    deviation: float


class MeasurementKeys(TypedDict, total=False):
    """The keys of one table of `evaluation`, see `Measurement`."""

    tasks: Required[list[str]]
    models: list[str]
    seeds: Required[list[int]]
    folds: list[int]


class ProtocolKeys(TypedDict, total=False):
    """The keys of `protocol`: a protocol's name, and what takes the place of its settings."""

    name: str
    learning_rate: float
    epochs: int
    max_train_examples: int


class PresetKeys(TypedDict, total=False):
    """The keys of a preset, see `Declaration`."""

    models: list[str]
    training: Required[dict[str, Any]]
    evaluation: Required[list[MeasurementKeys]]
    protocol: ProtocolKeys
    results: str


class DeclarationKeys(TypedDict):
    """The keys of the whole file."""

    models: dict[str, ModelKeys]
    power: PowerKeys
    presets: dict[str, PresetKeys]


@dataclass(frozen=True)
class Model:
    """A model that is trained by a recipe, or a checkpoint that is measured as it is.

    Args:
        name: in records and tables.
        recipe: name of a file in recipes/, without .py.
        teacher: name of the model that teaches it.
        settings: fields of the recipe's science, in the spelling of its flags.
        checkpoint: as `models.start.find_checkpoint` takes it.
        like: of a checkpoint: the model that has its shape.
    """

    name: str
    recipe: str | None = None
    teacher: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    checkpoint: str | None = None
    like: str | None = None


@dataclass(frozen=True)
class Measurement:
    """Models to be fine-tuned on tasks, seed by seed; folds of cross-validation sets, None = all."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Declaration:
    """A reproduction at one scale.

    Args:
        preset: its name, of the recipes too.
        models: in the order in which they are made.
        training: settings of all trained models alike: the same tokens for each.
        protocol: of fine-tuning: `name`, and what takes the place of its settings.
        difference, deviation: points of score that claims are to tell apart, and the deviation over seeds to assume.
        results: folder of records and tables, None: below the folder of the runs.
    """

    preset: str
    models: Mapping[str, Model]
    training: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    protocol: Mapping[str, Any]
    difference: float
    deviation: float
    results: Path | None


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
    models = {name: Model(name, **model) for name, model in content["models"].items()}
    for model in models.values():
        _check_model(model, models, file.where("models", model.name))
    measured = _known(chosen.get("models", list(models)), models, where)
    made = _with_teachers(measured, models)
    for name in made:
        if models[name].like not in (None, *made):
            raise UserError(f"{name} is like {models[name].like}, which is not among the models", where=where)
    return Declaration(
        preset=preset,
        models={name: models[name] for name in models if name in made},
        training=chosen["training"],
        measurements=tuple(_measurement(each, models, measured, where) for each in chosen["evaluation"]),
        protocol=chosen.get("protocol", {}),
        difference=float(content["power"]["difference"]),
        deviation=float(content["power"]["deviation"]),
        results=Path(chosen["results"]) if "results" in chosen else None,
    )


def _measurement(given: Mapping[str, Any], models, kept: Sequence[str], where: str) -> Measurement:
    named = _known(given.get("models", kept), models, where)
    folds = given.get("folds")
    return Measurement(
        tasks=tuple(given["tasks"]),
        models=tuple(name for name in named if name in kept),
        seeds=tuple(given["seeds"]),
        folds=None if folds is None else tuple(folds),
    )


def _check_model(model: Model, models: Mapping[str, Model], where: str) -> None:
    if (model.recipe is None) == (model.checkpoint is None):
        raise UserError("a model has a recipe or a checkpoint", where=where)
    _known([name for name in (model.teacher, model.like) if name], models, where)
    names = list(models)
    if model.teacher and names.index(model.teacher) >= names.index(model.name):
        raise UserError("a teacher stands above its students", where=where)
    if model.checkpoint is not None and (model.like is None or models[model.like].recipe is None):
        raise UserError("a checkpoint is like a model that has a recipe", where=where, remedy='like = "NAME"')


def _with_teachers(names: Sequence[str], models: Mapping[str, Model]) -> list[str]:
    found = list(names)
    for name in found:  # grows
        teacher = models[name].teacher
        if teacher and teacher not in found:
            found.append(teacher)
    return found


def _known(names: Sequence[str], models: Mapping[str, Model], where: str) -> list[str]:
    for name in names:
        if name not in models:
            raise UserError(f"no model {name!r}", where=where, remedy=f"one of {', '.join(models)}")
    return list(names)
