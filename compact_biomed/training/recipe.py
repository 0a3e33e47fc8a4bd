"""A recipe: one model of the paper, its settings at each scale, and its command line.

A recipe file states what is particular to its model; what all recipes of continual
pretraining share stands here. Nothing heavy is imported until a run starts.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from compact_biomed.errors import UsageError, UserError
from compact_biomed.models.start import RANDOM
from compact_biomed.training.settings import Preset, Science, Speed

PRESETS = ("smoke", "quick", "mini", "paper")
SMOKE = "smoke"  # text and tokenizer made by the project itself (training/smoke.py)

# Published scripts of continual pretraining (the three have the same numbers). Batch: 24 a GPU on 8
# GPUs. Text: title and abstract of every PubMed citation, so those without an abstract stay.
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
# The registry's sample has 32,637 training documents: 5,000 steps are 4.9 passes over it.
MINI = {
    "sources": ("registry",),
    "max_length": 256,
    "batch_size": 32,
    "max_steps": 5_000,
    "warmup_steps": 500,
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

_SPEED = {f.name for f in fields(Speed)}


@dataclass(frozen=True)
class ContinualRecipe:
    """Continual masked-LM pretraining of one model.

    Args:
        name: of the recipe file, without .py.
        model: name in `models.architectures.ARCHITECTURES`.
        paper: what the published run adds to `PUBLISHED`.
        mini: what the miniature adds to `MINI`.
        quick: what the first run adds to mini and `QUICK`.
        variants: name -> what a `--variant` adds to paper; the first is the default.
        note: a sentence for the start of a run, where the miniature departs from the paper.
        smoke: what the seconds-long run adds to `SMOKE_SETTINGS`.
    """

    name: str
    model: str
    paper: Mapping[str, Any]
    mini: Mapping[str, Any]
    quick: Mapping[str, Any] = field(default_factory=dict)
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    note: str = ""
    smoke: Mapping[str, Any] = field(default_factory=dict)

    science_type: ClassVar[type[Science]] = Science
    task: ClassVar[str] = "continual masked-language modeling"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": SMOKE_SETTINGS,
        "quick": MINI,
        "mini": MINI,
        "paper": PUBLISHED,
    }

    def preset(self, name: str, variant: str | None = None) -> Preset:
        """The settings at one scale.

        Raises:
            UserError: an unknown preset or variant, or a variant that this scale does not have.
        """
        if name not in PRESETS:
            raise UserError(f"no preset {name!r}", remedy=f"one of {', '.join(PRESETS)}")
        if variant is not None and variant not in self.variants:
            raise UserError(f"no variant {variant!r} of {self.name}", remedy=f"one of {', '.join(self.variants)}")
        default = next(iter(self.variants), None)
        if name != "paper" and variant not in (None, default):
            raise UsageError(
                f"--variant {variant} exists in the paper preset only: the smaller ones start from {default} weights",
                remedy=f"--preset paper, or --variant {default}",
            )
        chosen = self.variants.get(variant or default, {})
        own = {
            "smoke": self.smoke,
            "quick": {**self.mini, **QUICK, **self.quick},
            "mini": self.mini,
            "paper": {**self.paper, **chosen},
        }[name]
        return self._divide({**self.scales[name], **own}, name)

    def _divide(self, settings: dict[str, Any], preset: str) -> Preset:
        settings = {"tokenizer": settings["start"], **settings}
        names = {f.name for f in fields(self.science_type)}
        science = {k: v for k, v in settings.items() if k in names}
        speed = {k: v for k, v in settings.items() if k in _SPEED}
        arguments = {k: v for k, v in settings.items() if k not in names | _SPEED}
        science = self.science_type(recipe=self.name, preset=preset, model=self.model, **science)
        return Preset(science, arguments, Speed(**speed))

    def main(self, arguments: Sequence[str] | None = None) -> int:
        """Run the recipe from the command line; return the exit status."""
        from compact_biomed.cli import guarded
        from compact_biomed.training import command_line

        return guarded(lambda: command_line.run_recipe(self, arguments))
