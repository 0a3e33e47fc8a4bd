"""A recipe: one model of the paper, its settings at each scale, and its command line.

A recipe file states what is particular to its model; what all recipes of continual
pretraining share stands here. Nothing heavy is imported until a run starts.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar

from compact_biomed.errors import UsageError, UserError
from compact_biomed.machine import Speed

# ----------------------------------------------------------------------------------------------------
# What a run is: the science (what is learned) and the speed (how fast), kept apart.
#
# Changing a speed setting must not change what is learned beyond rounding (and the draw of
# dropout); a test says so. A run's folder remembers its science and refuses any other.


@dataclass(frozen=True)
class Science:
    """Everything that decides what is learned, besides `TrainingArguments`' own optimizer fields.

    Args:
        recipe: name of the recipe.
        preset: smoke, quick, mini or paper.
        model: name in `models.architectures.ARCHITECTURES`.
        start: start weights: a hub name, a folder, `registry:all-minilm-l6-v2` or `random`.
        tokenizer: where the tokenizer comes from; the start checkpoint's own.
        sources: of the corpus, see `corpus.expand_sources`.
        max_length: most tokens a document, special tokens included.
        require_abstract: leave out citations that have a title only.
        heldout_fraction: share of documents that are never trained on.
        batch_size: documents an optimizer step, over all processes and accumulation.
        mask_probability: share of tokens that get a label.
        decoder_bias: start the vocabulary bias at the corpus' log-frequencies.
        embeddings_from: a checkpoint whose embeddings are projected to this width, or None.
        decontaminate_against: benchmarks (names of tasks, folders of their data, or "all") whose test sets the corpus
            must not repeat, or None.
        layers_from: layers of `start` that become this model's, or None if it is loaded whole.
    """

    recipe: str
    preset: str
    model: str
    start: str
    tokenizer: str
    sources: tuple[str, ...]
    max_length: int = 256
    require_abstract: bool = True
    heldout_fraction: float = 0.02
    batch_size: int = 192
    mask_probability: float = 0.15
    decoder_bias: bool = False
    embeddings_from: str | None = None
    layers_from: tuple[int, ...] | None = None
    decontaminate_against: tuple[str, ...] | None = None


RANDOM = "random"  # a start: new weights
FROM_TEACHER = "teacher"  # a start: the student is cut out of its teacher
MADE_BY_RECIPE = "recipe:"  # a teacher: before the name of the recipe that makes it


@dataclass(frozen=True)
class DistillationScience(Science):
    """What a distilled student learns, and from whom.

    `start` is "teacher" (the student is cut out of it), "random", or a masked-LM checkpoint.

    Args:
        teacher: a hub name, a folder, or "recipe:NAME" for the one that a recipe of this project makes.
        teacher_sha256: of the teacher's weights, once they are there.
        loss: name of the terms in `objectives.published_terms`.
        layer_map: which teacher layers the student starts from and is matched with (`models.layer_maps`).
        student_layers: depth of a student that otherwise is built as its teacher; None: as `model` says.
        copy_embeddings, copy_head: what else is cut out of the teacher.
        temperature: of the soft targets.
        leave_out: kinds of terms that are left out.
        raw_scores: TinyBioBERT's attention term compares scores, not probabilities (TinyBERT's own script).
        teacher_dropout, maps_after_dropout, cell_average, padding_in_mse: the published scripts' quirks
            (README, table of fidelity).
    """

    teacher: str = ""
    teacher_sha256: str = ""
    loss: str = "distilbiobert"
    layer_map: str = "even"
    student_layers: int | None = None
    copy_embeddings: bool = True
    copy_head: bool = True
    temperature: float = 1.0
    leave_out: tuple[str, ...] = ()
    raw_scores: bool = False
    teacher_dropout: bool = False
    maps_after_dropout: bool = False
    cell_average: bool = False
    padding_in_mse: bool = False


# What `--fidelity` sets. "published" is what the scripts do, "corrected" what one would defend in review.
FIDELITY: dict[str, dict[str, bool]] = {
    "corrected": {
        "teacher_dropout": False,
        "maps_after_dropout": False,
        "cell_average": False,
        "padding_in_mse": False,
        "copy_head": True,
    },
    "published": {
        "teacher_dropout": True,
        "maps_after_dropout": True,
        "cell_average": True,
        "padding_in_mse": True,
        "copy_head": False,
    },
}


# The fields of TrainingArguments that belong to the science; all its others are speed or housekeeping.
SCIENCE_ARGUMENTS = (
    "learning_rate",
    "max_steps",
    "warmup_steps",
    "weight_decay",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "optim",
    "optim_args",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "max_grad_norm",
    "seed",
)


@dataclass(frozen=True)
class Preset:
    """A recipe at one scale: science, and defaults of `TrainingArguments`' fields."""

    science: Science
    arguments: dict[str, Any] = field(default_factory=dict)
    speed: Speed = field(default_factory=Speed)


def science_record(science: Science, arguments: Any) -> dict[str, Any]:
    """The whole science of a run as JSON values, in a fixed order."""
    record = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(science).items()}
    for name in SCIENCE_ARGUMENTS:
        value = getattr(arguments, name)
        record[name] = getattr(value, "value", value)  # enums of transformers by their value
    return record


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


# ----------------------------------------------------------------------------------------------------
# A recipe of distillation: one student of the paper, its teacher, and its settings at each scale.


# Published scripts of distillation: the three share all but warm-up and weight decay.
PUBLISHED_DISTILLATION = {
    **PUBLISHED,
    "start": FROM_TEACHER,
    "teacher": "dmis-lab/biobert-base-cased-v1.2",
    "max_steps": 100_000,
    "learning_rate": 5e-4,
}
MINI_DISTILLATION = {**MINI, "start": FROM_TEACHER, "learning_rate": 5e-4}


@dataclass(frozen=True)
class DistillationRecipe(ContinualRecipe):
    """Distillation of one student.

    Args:
        teacher: the recipe that makes the teacher of all scales but paper, where it comes from the hub;
            None: the user names one.
        loss: its terms (`objectives.published_terms`).
    """

    teacher: ContinualRecipe | None = None
    loss: str = "distilbiobert"

    science_type: ClassVar[type[Science]] = DistillationScience
    task: ClassVar[str] = "distillation"
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "smoke": {**SMOKE_SETTINGS, "start": FROM_TEACHER, "decoder_bias": False},
        "quick": MINI_DISTILLATION,
        "mini": MINI_DISTILLATION,
        "paper": PUBLISHED_DISTILLATION,
    }

    def _divide(self, settings: dict[str, Any], preset: str) -> Preset:
        own = {"loss": self.loss, "tokenizer": FROM_TEACHER}
        if self.teacher is not None and preset != "paper":
            own["teacher"] = f"{MADE_BY_RECIPE}{self.teacher.name}"
        return super()._divide({**settings, **own}, preset)
