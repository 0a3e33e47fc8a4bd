"""What is run, as data: the declaration of a reproduction (recipes/reproduce.toml) and of an ablation.

Imports nothing heavy, so that scripts with a declaration answer `--help` at once.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compact_biomed.errors import UserError

_TOP = {"models", "power", "presets"}
_POWER = {"difference", "deviation"}
_MODEL = {"recipe", "teacher", "settings", "checkpoint", "like"}
_PRESET = {"models", "training", "evaluation", "protocol", "results"}
_EVALUATION = {"tasks", "models", "seeds", "folds"}
_PROTOCOL = {"name", "learning_rate", "epochs", "max_train_examples"}


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
    """Models to fine-tune on tasks with several seeds; folds of cross-validation sets, None = all."""

    tasks: tuple[str, ...]
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    folds: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Declaration:
    """A reproduction at one scale.

    Args:
        preset: name of the scale, here and in the recipes.
        models: in the order of their training.
        training: settings of every training, so that all models see the same number of tokens.
        protocol: of fine-tuning: `name`, and settings that replace the protocol's.
        difference: points of score that claims have to detect.
        deviation: assumed standard deviation of a score over seeds.
        results: folder of records and tables; by default it is in the folder of the runs.
    """

    preset: str
    models: Mapping[str, DeclaredModel]
    training: Mapping[str, Any]
    measurements: tuple[Measurement, ...]
    protocol: Mapping[str, Any]
    difference: float
    deviation: float
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
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"not TOML: {error}", where=path) from error
    _check_keys(content, _TOP, path, required=_TOP)
    _check_keys(content["power"], _POWER, f"{path}: power", required=_POWER)
    presets = content["presets"]
    if preset not in presets:
        raise UserError(f"no preset {preset!r}", where=path, remedy=f"one of {', '.join(presets)}")
    chosen, where = presets[preset], f"{path}: presets.{preset}"
    _check_keys(chosen, _PRESET, where, required={"training", "evaluation"})
    for name, model in content["models"].items():
        _check_keys(model, _MODEL, f"{path}: models.{name}")
    models = {name: DeclaredModel(name, **model) for name, model in content["models"].items()}
    for model in models.values():
        _check_model(model, models, f"{path}: models.{model.name}")
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
        protocol=_checked(chosen.get("protocol", {}), _PROTOCOL, where),
        difference=float(content["power"]["difference"]),
        deviation=float(content["power"]["deviation"]),
        results=Path(chosen["results"]) if "results" in chosen else None,
    )


def _measurement(given: Mapping[str, Any], models, kept: Sequence[str], where: str) -> Measurement:
    _check_keys(given, _EVALUATION, where, required={"tasks", "seeds"})
    named = _known(given.get("models", kept), models, where)
    folds = given.get("folds")
    return Measurement(
        tasks=tuple(given["tasks"]),
        models=tuple(name for name in named if name in kept),
        seeds=tuple(given["seeds"]),
        folds=None if folds is None else tuple(folds),
    )


def _check_model(model: DeclaredModel, models: Mapping[str, DeclaredModel], where: str) -> None:
    if (model.recipe is None) == (model.checkpoint is None):
        raise UserError("a model has a recipe or a checkpoint", where=where)
    _known([name for name in (model.teacher, model.like) if name], models, where)
    names = list(models)
    if model.teacher and names.index(model.teacher) >= names.index(model.name):
        raise UserError("a teacher stands above its students", where=where)
    if model.checkpoint is not None and (model.like is None or models[model.like].recipe is None):
        raise UserError("a checkpoint is like a model that has a recipe", where=where, remedy='like = "NAME"')


def _with_teachers(names: Sequence[str], models: Mapping[str, DeclaredModel]) -> list[str]:
    found = list(names)
    for name in found:  # grows
        teacher = models[name].teacher
        if teacher and teacher not in found:
            found.append(teacher)
    return found


def _known(names: Sequence[str], models: Mapping[str, DeclaredModel], where: str) -> list[str]:
    for name in names:
        if name not in models:
            raise UserError(f"no model {name!r}", where=where, remedy=f"one of {', '.join(models)}")
    return list(names)


def _checked(given: Mapping[str, Any], known: set[str], where: str) -> Mapping[str, Any]:
    _check_keys(given, known, where)
    return given


def _check_keys(given: Mapping[str, Any], known: set[str], where: object, *, required: set[str] = frozenset()) -> None:
    if unknown := sorted(given.keys() - known):
        raise UserError(f"unknown key {unknown[0]!r}", where=where, remedy=f"one of {', '.join(sorted(known))}")
    if missing := sorted(required - given.keys()):
        raise UserError(f"no {missing[0]}", where=where)
