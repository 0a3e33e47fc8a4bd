"""One run, resolved: recipe, preset, the user's changes and the machine's arguments in one frozen object.

Everything downstream takes a `Run`. The command line and the Python interface make it by the same function, so that the
same names and defaults mean the same.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

from transformers import TrainingArguments

from compact_biomed.errors import UsageError, UserError, flag_of
from compact_biomed.machine import PerformanceSettings
from compact_biomed.models import RANDOM
from compact_biomed.objectives.terms import Term, relation_layer
from compact_biomed.parameters import as_list, as_typed
from compact_biomed.training.arguments import as_flag, batch_size_of, training_arguments
from compact_biomed.training.distillation_settings import OWN_STUDENT, distillation_settings
from compact_biomed.training.hyperparameters import (
    CHOICES,
    SWITCHES,
    DistillationHyperparameters,
    Hyperparameters,
    as_record,
)
from compact_biomed.training.recipe import (
    DISTILLATION_SCALES,
    FROM_TEACHER,
    PRETRAINING_SCALES,
    SLICED,
    DistillationRecipe,
    Recipe,
    base_settings,
    load_recipe,
)

DEFAULT_LOSS = "distilbiobert"  # of `train distill`: it needs neither equal heads nor equal widths of attention
NOWHERE = "none"  # embeddings_from: they start as the other weights do
_MLM = Term("mlm_cross_entropy", 1.0)  # what pretraining without a teacher minimizes
_PERFORMANCE = {field.name for field in fields(PerformanceSettings)}
_LEAST = {
    "max_length": 1,
    "batch_size": 1,
    "replicas": 0,
    "micro_batch_tokens": 0,
    "pseudo_positions": 0,
    "heldout_documents": 1,
}
_CHECKPOINTS = ("start", "teacher", "tokenizer", "embeddings_from")
# Setting -> type of what a caller gives. Of some, more is taken than the type that a run has.
_TYPES: dict[str, Any] = {
    **get_type_hints(DistillationHyperparameters),
    **get_type_hints(PerformanceSettings),
    **dict.fromkeys(_CHECKPOINTS, str | Path),
    **dict.fromkeys(("sources", "leave_out", "decontaminate_against"), str | Path | Sequence[str | Path]),
    **dict.fromkeys(SWITCHES, bool | str),
    "keep_title_only": bool,
    "layer_map": str | Sequence[int],
    "layers_from": Sequence[int],
    "terms": Sequence[Term],
}


@dataclass(frozen=True)
class Run:
    """One training, from the start weights to the record.

    Args:
        objective: what is trained, in words.
        hyperparameters: what is learned.
        performance: how fast.
        arguments: transformers' arguments; their `output_dir` is the run's folder.
        note: a sentence for the start of the run.
    """

    objective: str
    hyperparameters: Hyperparameters
    performance: PerformanceSettings
    arguments: TrainingArguments
    note: str = ""

    @property
    def folder(self) -> Path:
        """The folder of checkpoints, model and record."""
        return Path(self.arguments.output_dir)

    @property
    def is_distillation(self) -> bool:
        """Whether a teacher takes part."""
        return isinstance(self.hyperparameters, DistillationHyperparameters)

    def record(self) -> dict[str, Any]:
        """Return all hyperparameters as JSON values: what a run's folder is compared by."""
        return as_record(self.hyperparameters, self.arguments)


def resolve(
    recipe: Recipe,
    preset: str = "quick",
    variant: str | None = None,
    *,
    output_dir: Path | str | None = None,
    changes: Mapping[str, Any] | None = None,
    argument_flags: Sequence[str] = (),
) -> Run:
    """Return the run of a recipe at one scale.

    Args:
        recipe: see `load_recipe`.
        preset: smoke, quick, mini or paper.
        variant: one of the recipe's, at the paper's scale.
        output_dir: folder of the run; by default runs/RECIPE-PRESET.
        changes: what the user sets in place of the recipe's settings; None values count as not set.
        argument_flags: further flags of transformers' `TrainingArguments`, as on a command line.

    Raises:
        UserError: a setting that is unknown, cannot be, or has no effect.
    """
    if output_dir is None:
        named = f"{recipe.name}-{preset}"
        if variant and variant != next(iter(recipe.variants), None):
            named += f"-{variant}"
        output_dir = Path("runs") / named
    identity = {"recipe": recipe.name, "preset": preset}
    return _resolve(
        {**recipe.at(preset, variant), **identity},
        changes or {},
        objective=recipe.objective,
        distillation=isinstance(recipe, DistillationRecipe),
        note=recipe.note if preset in ("quick", "mini") else "",
        output_dir=Path(output_dir),
        argument_flags=argument_flags,
    )


def resolve_own(
    distillation: bool,
    preset: str = "quick",
    *,
    output_dir: Path | str | None = None,
    changes: Mapping[str, Any],
    argument_flags: Sequence[str] = (),
) -> Run:
    """Return the run of a checkpoint of the user's own: further pretraining of `start`, or distillation from `teacher`.

    Args:
        distillation: whether a teacher takes part.
        preset, output_dir, argument_flags: as for `resolve`.
        changes: with `start`, or with `teacher` and `student_layers` or `start`.

    Raises:
        UserError: one of these is missing, or as for `resolve`.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    required = ("teacher", "a teacher") if distillation else ("start", "start weights")
    if required[0] not in changes:
        raise UsageError(
            f"{required[1]} is needed" if distillation else f"{required[1]} are needed",
            where=flag_of(required[0]),
            remedy="give a hub name or a checkpoint folder",
        )
    if distillation and not {"student_layers", "start"} & set(changes):
        raise UsageError(
            "a student is needed",
            where="--student-layers",
            remedy="give a number of layers, or --start with a checkpoint",
        )
    name = "train-distill" if distillation else "train-mlm"
    settings = {"recipe": name, "preset": preset, "model": OWN_STUDENT if distillation else "biominilm"}
    if distillation:
        settings |= {"tokenizer": FROM_TEACHER, "layer_map": "spaced", "loss": DEFAULT_LOSS}
        settings["terms"] = load_recipe(DEFAULT_LOSS).terms
    else:
        settings["start"] = RANDOM
    return _resolve(
        {**base_settings(DISTILLATION_SCALES if distillation else PRETRAINING_SCALES, preset), **settings},
        changes,
        objective=(DistillationRecipe if distillation else Recipe).objective,
        distillation=distillation,
        note="",
        output_dir=Path(output_dir or Path("runs") / f"{name}-{preset}"),
        argument_flags=argument_flags,
    )


def _resolve(
    settings: Mapping[str, Any],
    changes: Mapping[str, Any],
    *,
    objective: str,
    distillation: bool,
    note: str,
    output_dir: Path,
    argument_flags: Sequence[str] = (),
) -> Run:
    """Return the run of some settings and the user's changes; see `resolve`."""
    changes = _checked(changes)
    kind = DistillationHyperparameters if distillation else Hyperparameters
    known = {field.name for field in fields(kind)} | ({"fidelity"} if distillation else set())
    learned = {name: value for name, value in changes.items() if name in known}
    speed = {name: value for name, value in changes.items() if name in _PERFORMANCE}
    if "start" not in settings:
        raise UserError(
            f"{settings['recipe']} states no start weights at preset {settings['preset']}",
            where="--start",
            remedy="name some, or state them in the recipe",
        )
    start = learned.get("start", settings["start"])
    if "embeddings_from" in learned and start != RANDOM:
        raise UsageError(
            f"--embeddings-from would change nothing but the embeddings of --start {start}",
            remedy="add --start random, or leave it out",
        )
    merged = {"tokenizer": _source_of(settings["start"]), **settings, **_start(learned), **speed}
    if distillation:
        merged |= distillation_settings(merged, learned)
    else:
        merged |= {name: value for name, value in learned.items() if name != "embeddings_from"}
    merged = {name: tuple(v) if isinstance(v, list) else v for name, v in merged.items() if name != "fidelity"}
    if merged.get("mask_probability") == 0 and any(term.feature == "logits" for term in merged.get("terms", (_MLM,))):
        raise UsageError(
            "--mask-probability 0 leaves no word to predict", remedy="give one above 0, such as --mask-probability 0.15"
        )
    hyperparameters = kind(**{name: merged[name] for name in merged if name in known})
    defaults = {name: value for name, value in merged.items() if name not in known | _PERFORMANCE}
    others = [name for name in changes if name not in known | _PERFORMANCE]
    flags = [*(part for name in others for part in (flag_of(name), as_flag(changes[name]))), *argument_flags]
    arguments = training_arguments(
        defaults,
        flags,
        output_dir,
        default_batch_size=settings.get("batch_size", 192),
        batch_size=changes.get("batch_size"),
    )
    return Run(
        objective,
        replace(hyperparameters, batch_size=batch_size_of(arguments)),
        PerformanceSettings(**{name: merged[name] for name in merged if name in _PERFORMANCE}),
        arguments,
        note,
    )


def _start(learned: Mapping[str, Any]) -> dict[str, Any]:
    """Return what follows from the user's start weights and embeddings for the recipe's other settings."""
    settings: dict[str, Any] = {}
    start = learned.get("start", FROM_TEACHER)
    if start != FROM_TEACHER:
        settings["layers_from"] = None  # a checkpoint of the user's own is loaded whole; a random one has no layers
    if _source_of(start) not in (FROM_TEACHER, RANDOM):
        settings |= {"tokenizer": _source_of(start), "embeddings_from": None}
    if "embeddings_from" in learned:
        source = learned["embeddings_from"]
        settings["embeddings_from"] = None if source == NOWHERE else source
    return settings


def _source_of(start: str) -> str:
    """Return the checkpoint behind a start, whose tokenizer the model needs."""
    return start.removeprefix(SLICED)


def _checked(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's changes with switches as booleans and lists as tuples.

    Raises:
        UsageError: a value of another type, out of range, or none of the choices.
    """
    checked = {
        name: as_typed(flag_of(name), value, _TYPES.get(name, Any))
        for name, value in changes.items()
        if value is not None
    }
    checked |= {name: str(checked[name]) for name in _CHECKPOINTS if name in checked}
    if checked.pop("keep_title_only", False):
        checked["require_abstract"] = False
    for name in ("sources", "leave_out", "decontaminate_against"):
        if name in checked:
            value = checked[name]
            checked[name] = tuple(map(str, as_list(value)))
    for name in SWITCHES:
        if checked.get(name, True) not in (True, False, "on", "off"):
            raise UsageError(f"{flag_of(name)} {checked[name]} must be on or off")
        if name in checked:
            checked[name] = checked[name] in (True, "on")
    for name, choices in CHOICES.items():
        if name in checked and checked[name] not in choices:
            raise UsageError(f"{flag_of(name)} {checked[name]} must be one of {', '.join(choices)}")
    for name, least in (("mask_probability", 0.0), ("heldout_fraction", math.nextafter(0, 1))):
        if name in checked and not least <= checked[name] < 1:
            raise UsageError(f"{flag_of(name)} {checked[name]} is not between 0 and 1")
    if "relation_layer" in checked:
        checked["relation_layer"] = relation_layer(checked["relation_layer"])
    for name, least in _LEAST.items():
        if name in checked and checked[name] < least:
            raise UsageError(f"{flag_of(name)} {checked[name]} must be at least {least}")
    return checked
