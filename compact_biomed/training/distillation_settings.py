"""Resolve what only a distillation has: its terms, with the user's changes; refuse changes without effect."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from compact_biomed.errors import UsageError, flag_of
from compact_biomed.models import RANDOM
from compact_biomed.objectives.terms import MAPPED, RELATIONS, WITH_PADDING, Term, with_temperature
from compact_biomed.training.hyperparameters import FIDELITY
from compact_biomed.training.recipe import FROM_TEACHER, SLICED, DistillationRecipe, load_recipe

OWN_STUDENT = "student"  # model of `train distill`, whose size follows from its teacher or its start weights

# Settings that only some losses read, and those that only some starts read.
_BY_LOSS = ("temperature", "layer_map", "cell_average", "maps_after_dropout", "padding_in_mse", "raw_scores")
_BY_LOSS += ("relation_heads", "relation_layer")
_BY_START = ("layer_map", "student_layers", "copy_embeddings", "copy_head")


def distillation_settings(settings: Mapping[str, Any], learned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a distillation with the user's changes in them, terms included.

    Args:
        settings: of the run, before the user's changes to hyperparameters.
        learned: these changes, `fidelity` among them.

    Raises:
        UsageError: a value that cannot be, or a setting without effect.
    """
    changed = {name: value for name, value in learned.items() if name not in ("fidelity", "embeddings_from")}
    changed = {**FIDELITY.get(learned.get("fidelity", ""), {}), **changed}  # a single switch wins over --fidelity
    merged = {**settings, **changed}
    if "terms" in changed:
        merged["loss"] = changed.get("loss", "own")
    elif "loss" in changed:
        named = load_recipe(changed["loss"])
        if not isinstance(named, DistillationRecipe):
            raise UsageError(f"the recipe {named.name} distills nothing", where="--loss", remedy="name a student's")
        merged["terms"] = named.terms
    merged["temperature"] = changed.get("temperature") or _temperature_of(merged["terms"])
    _check_distillation(merged, learned)
    merged["terms"] = _adapted(merged)
    return merged


def _temperature_of(terms: Sequence[Term]) -> float:
    return next((term.temperature for term in terms if term.is_soft), 1.0)


def _adapted(settings: Mapping[str, Any]) -> tuple[Term, ...]:
    """Return the terms as the switches and `leave_out` want them."""
    terms = settings["terms"]
    if settings["temperature"] != _temperature_of(terms):
        terms = with_temperature(terms, settings["temperature"])
    if settings.get("raw_scores"):
        terms = [
            replace(term, loss="attention_score_mse", feature="") if term.loss == "attention_mse" else term
            for term in terms
        ]
    heads, layer = settings.get("relation_heads"), settings.get("relation_layer")
    if heads is not None:
        terms = [replace(term, heads=heads) if term.loss in RELATIONS else term for term in terms]
    if layer is not None:
        terms = [replace(term, layer_T=layer) if term.loss in RELATIONS else term for term in terms]
    if settings.get("cell_average"):
        terms = [replace(term, padding=True) if term.loss == "attention_kl" else term for term in terms]
    if settings.get("padding_in_mse"):
        means = [loss for loss in WITH_PADDING if loss.endswith("mse")]
        terms = [replace(term, padding=True) if term.loss in means else term for term in terms]
    present = sorted({term.loss for term in terms})
    for loss in settings.get("leave_out", ()):
        if loss not in present:
            raise UsageError(
                f"there is no term {loss!r} to leave out", where="--leave-out", remedy=f"one of {', '.join(present)}"
            )
    remaining = tuple(term for term in terms if term.loss not in settings.get("leave_out", ()))
    if not remaining:
        raise UsageError("every term is left out", where="--leave-out", remedy="keep one")
    return remaining


def _check_distillation(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Raise a `UsageError` for a value that cannot be, or a setting without effect.

    Args:
        settings: with the user's changes in them.
        changes: the user's changes. `fidelity` sets the switches of all losses and is never without effect.
    """
    depth, start, heads = settings.get("student_layers"), settings["start"], settings.get("relation_heads")
    if "temperature" in changes and not (math.isfinite(changes["temperature"]) and changes["temperature"] > 0):
        raise UsageError(f"--temperature {changes['temperature']} must be finite and above 0")
    if depth is not None and depth < 1:
        raise UsageError(f"--student-layers {depth} must be at least 1")
    if heads is not None and heads < 1:
        raise UsageError(f"--relation-heads {heads} must be at least 1")
    if depth is None and settings["model"] == OWN_STUDENT and (start == RANDOM or start.startswith(SLICED)):
        raise UsageError(
            f"--start {start} gives the student no size", where="--student-layers", remedy="give a number of layers"
        )
    if settings.get("teacher") == RANDOM:
        raise UsageError("random weights teach nothing", where="--teacher", remedy="a hub name or a checkpoint folder")
    read_by_loss, read_by_start = _read_by_loss(settings["terms"]), _read_by_start(start)
    for name in sorted({*_BY_LOSS, *_BY_START} & set(changes)):
        if name in read_by_loss | read_by_start:
            continue
        reasons = [f"the loss {settings['loss']}"] if name in _BY_LOSS else []
        reasons += [f"--start {start}"] if name in _BY_START else []
        raise UsageError(f"{flag_of(name)} has no effect with {' and '.join(reasons)}", remedy="leave it out")


def _read_by_loss(terms: Sequence[Term]) -> set[str]:
    losses = {term.loss for term in terms}
    read = {
        "temperature": any(term.is_soft for term in terms),
        "layer_map": any(term.layer_T == MAPPED for term in terms),
        "cell_average": "attention_kl" in losses,
        "maps_after_dropout": any(term.feature == "attention" for term in terms),
        "padding_in_mse": any(loss.endswith("_mse") and loss in WITH_PADDING for loss in losses),
        "raw_scores": "attention_mse" in losses,
        "relation_heads": bool(losses & set(RELATIONS)),
        "relation_layer": bool(losses & set(RELATIONS)),
    }
    return {name for name, has_effect in read.items() if has_effect}


def _read_by_start(start: str) -> set[str]:
    if start == FROM_TEACHER:
        return set(_BY_START)
    if start.startswith(SLICED):
        return {"layer_map", "student_layers"}
    return {"student_layers"} if start == RANDOM else set()
