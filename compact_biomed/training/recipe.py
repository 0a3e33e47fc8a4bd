"""Recipes: one model of the paper each, with its settings at every scale.

A recipe file in `recipes/` states what is particular to its model: architecture, start weights, and for a student its
teacher, layer map and loss terms. What all recipes share is stated here: the published settings and those of the
smaller scales. Nothing heavy is imported, so that a recipe answers `--help` at once; `training.resolve` makes a run of
it.
"""

import ast
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from compact_biomed.errors import UsageError, UserError
from compact_biomed.models import RANDOM
from compact_biomed.objectives.terms import Term

PRESETS = ("smoke", "quick", "mini", "paper")
SMOKE = "smoke"  # text and tokenizer that the project makes up (corpus.smoke)
FROM_TEACHER = "teacher"  # start: the student is cut out of its teacher
SLICED = "sliced:"  # start: prefix of the wider checkpoint, or of "teacher", that the model is sliced out of
MADE_BY_RECIPE = "recipe:"  # start, teacher: prefix of the name of the recipe that makes it
RECIPES = Path(__file__).parents[2] / "recipes"  # beside the package, in a clone and where it is installed

# Published scripts of continual pretraining (the three have the same numbers). Batch: 24 per GPU on 8 GPUs. Text: title
# and abstract of every PubMed citation, so those without an abstract stay.
PUBLISHED = {
    "sources": ("nlm",),
    "require_abstract": False,
    "max_length": 256,
    "mask_probability": 0.15,
    "batch_size": 192,
    "max_steps": 200_000,
    "learning_rate": 1e-4,
    "warmup_steps": 10_000,
    "weight_decay": 0.01,
    "lr_scheduler_type": "linear",
    # Not published, ours: the scripts set no seed and hold nothing out.
    "seed": 42,
    "heldout_fraction": 0.0005,
    "heldout_documents": 4096,
    "logging_steps": 50,
    "save_steps": 500,
}
# The registry's sample has 32,637 training documents: 5,100 steps are 5 passes over it, 36 M tokens.
MINI = {
    "sources": ("registry",),
    "max_length": 256,
    "batch_size": 32,
    "max_steps": 5_100,
    "warmup_steps": 510,
    "weight_decay": 0.01,
    "lr_scheduler_type": "linear",
    "seed": 42,
    "logging_steps": 20,
    "save_steps": 200,
}
# Small batches: with few tokens to spend, the number of steps counts more than their noise (docs/log.md).
QUICK = {"batch_size": 8, "max_steps": 500, "warmup_steps": 50, "heldout_documents": 256, "pseudo_positions": 256}
SMOKE_SETTINGS = {
    "sources": (SMOKE,),
    "start": RANDOM,
    "tokenizer": SMOKE,
    "max_length": 64,
    "heldout_fraction": 0.1,
    "batch_size": 8,
    "max_steps": 12,
    "learning_rate": 1e-3,
    "warmup_steps": 2,
    "weight_decay": 0.01,
    "lr_scheduler_type": "linear",
    "seed": 42,
    "logging_steps": 2,
    "save_steps": 4,
    "decoder_bias": True,
    "pseudo_positions": 32,
}
# Published scripts of distillation: the three share all but warm-up and weight decay.
PUBLISHED_DISTILLATION = {
    **PUBLISHED,
    "start": FROM_TEACHER,
    "teacher": "dmis-lab/biobert-base-cased-v1.2",
    "max_steps": 100_000,
    "learning_rate": 5e-4,
}
MINI_DISTILLATION = {**MINI, "start": FROM_TEACHER, "learning_rate": 5e-4}
SMOKE_DISTILLATION = {**SMOKE_SETTINGS, "start": FROM_TEACHER, "decoder_bias": False}

Settings = Mapping[str, Any]
PRETRAINING_SCALES: dict[str, Settings] = {"smoke": SMOKE_SETTINGS, "quick": MINI, "mini": MINI, "paper": PUBLISHED}
DISTILLATION_SCALES: dict[str, Settings] = {
    "smoke": SMOKE_DISTILLATION,
    "quick": MINI_DISTILLATION,
    "mini": MINI_DISTILLATION,
    "paper": PUBLISHED_DISTILLATION,
}


@dataclass(frozen=True)
class Recipe:
    """Continual masked-LM pretraining of one model.

    Settings are fields of `Hyperparameters`, of `PerformanceSettings` and of transformers' `TrainingArguments`, in one
    mapping per scale; the later of these wins: what all recipes share at the scale, `settings`, the scale's own.

    Args:
        name: the recipe file's, without .py.
        model: name in `models.architectures.ARCHITECTURES`.
        settings: what this model sets at every scale.
        paper, mini, quick, smoke: what it sets at one scale; quick also takes mini's. Without a paper scale (None) the
            recipe makes what the paper takes from others, such as start weights.
        variants: name -> what a `--variant` adds to paper; the first is the default.
        note: a sentence for the start of a run, where the miniature departs from the paper.
    """

    name: str
    model: str
    settings: Settings = field(default_factory=dict)
    paper: Settings | None = field(default_factory=dict)
    mini: Settings = field(default_factory=dict)
    quick: Settings = field(default_factory=dict)
    smoke: Settings = field(default_factory=dict)
    variants: Mapping[str, Settings] = field(default_factory=dict)
    note: str = ""

    objective: ClassVar[str] = "continual masked-language modeling"
    scales: ClassVar[Mapping[str, Settings]] = PRETRAINING_SCALES

    def at(self, preset: str, variant: str | None = None) -> dict[str, Any]:
        """Return all settings at one scale, in one dictionary.

        Raises:
            UserError: an unknown preset or variant, or a variant that this scale does not have.
        """
        if preset not in PRESETS:
            raise UsageError(f"no preset {preset!r}", where="--preset", remedy=f"use one of {', '.join(PRESETS)}")
        if variant is not None and variant not in self.variants:
            known = ", ".join(self.variants) or "none"
            raise UsageError(f"no variant {variant!r} of {self.name}", where="--variant", remedy=f"there are: {known}")
        default = next(iter(self.variants), None)
        if preset != "paper" and variant not in (None, default):
            raise UsageError(
                f"--variant {variant} exists in the paper preset only: the smaller ones start from {default} weights",
                remedy=f"--preset paper, or --variant {default}",
            )
        if preset == "paper" and self.paper is None:
            raise UsageError(
                f"{self.name} has no preset paper: the models of the paper start from published weights",
                where="--preset",
                remedy=f"use one of {', '.join(PRESETS[:-1])}",
            )
        scale = {
            "smoke": self.smoke,
            "quick": {**self.mini, **QUICK, **self.quick},
            "mini": self.mini,
            "paper": {**(self.paper or {}), **self.variants.get(variant or default, {})},
        }[preset]
        return {"model": self.model, **self.scales[preset], **self._shared(preset), **scale}

    def _shared(self, preset: str) -> Settings:
        return self.settings


@dataclass(frozen=True)
class DistillationRecipe(Recipe):
    """Distillation of one student.

    Args:
        teacher: name of the recipe that makes the teacher of all scales but paper, where it comes from the hub.
        layer_map: which teacher layers the student starts from, and is matched with (`models.layer_maps`).
        terms: of the loss, with symbolic layers (`objectives.terms`).
    """

    teacher: str = ""
    layer_map: str = "even"
    terms: tuple[Term, ...] = ()

    objective: ClassVar[str] = "distillation"
    scales: ClassVar[Mapping[str, Settings]] = DISTILLATION_SCALES

    def _shared(self, preset: str) -> Settings:
        own = {"loss": self.name, "terms": self.terms, "layer_map": self.layer_map, "tokenizer": FROM_TEACHER}
        if self.teacher and preset != "paper":
            own["teacher"] = f"{MADE_BY_RECIPE}{self.teacher}"
        return {**own, **self.settings}


def scripts() -> dict[str, Path]:
    """Return all scripts in `recipes/` by name, such as "tinybiobert", "pruning" and "ablations/temperature"."""
    files = (*sorted(RECIPES.glob("*.py")), *sorted(RECIPES.glob("*/*.py")))
    return {path.relative_to(RECIPES).with_suffix("").as_posix(): path for path in files}


def summary_of(script: Path) -> str:
    """Return the first line of a script's docstring."""
    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))).partition("\n")[0]


def load_script(name: str) -> ModuleType:
    """Import a script in `recipes/` without running it.

    Raises:
        UserError: there is no such script.
    """
    known = scripts()
    if name not in known:
        raise UsageError(f"no recipe {name!r}", where=RECIPES, remedy=f"there are: {', '.join(known)}")
    spec = importlib.util.spec_from_file_location(f"recipes.{name.replace('/', '.')}", known[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load_recipe(name: str) -> Recipe:
    """Return the `RECIPE` of a file in `recipes/`.

    Args:
        name: of the file, without .py.

    Raises:
        UserError: there is no such file, or no recipe in it.
    """
    module = load_script(name)
    recipe = getattr(module, "RECIPE", None)
    if not isinstance(recipe, Recipe):
        raise UserError("this file has no RECIPE", where=module.__file__, remedy="define RECIPE = Recipe(...)")
    return recipe


def base_settings(scales: Mapping[str, Settings], preset: str) -> dict[str, Any]:
    """Return what a scale sets for a checkpoint of the user's own (`train mlm`, `train distill`)."""
    if preset not in PRESETS:
        raise UsageError(f"no preset {preset!r}", where="--preset", remedy=f"use one of {', '.join(PRESETS)}")
    return {**scales[preset], **(QUICK if preset == "quick" else {})}
