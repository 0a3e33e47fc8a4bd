"""What a run is: the science (what is learned) and the speed (how fast), kept apart.

Changing a speed setting must not change what is learned beyond rounding (and the draw of
dropout); a test says so. A run's folder remembers its science and refuses any other.
"""

from dataclasses import asdict, dataclass, field
from typing import Any


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
class Speed:
    """Everything that decides how fast, not what.

    Args:
        precision: "auto" (bf16 where the machine computes it, else fp32), "bf16" or "fp32".
        replicas: micro-batches side by side on a CPU, one core each; 0 = one for each core.
        micro_batch_tokens: padded tokens a micro-batch; 0 = chosen for the machine.
        kernels: "auto" (our encoder on CPUs), "fast" or "transformers" (its own modules).
        pseudo_positions: sample size of the pseudo-perplexity.
        heldout_documents: most held-out documents that are measured, None = all.
        gradient_shares: log each distillation term's share of the gradient (costs a backward pass a term).
    """

    precision: str = "auto"
    replicas: int = 0
    micro_batch_tokens: int = 0
    kernels: str = "auto"
    pseudo_positions: int = 512
    heldout_documents: int | None = None
    gradient_shares: bool = False


@dataclass(frozen=True)
class Preset:
    """A recipe at one scale: science, and defaults of `TrainingArguments`' fields."""

    science: Science
    arguments: dict[str, Any] = field(default_factory=dict)
    speed: Speed = Speed()


def science_record(science: Science, arguments: Any) -> dict[str, Any]:
    """The whole science of a run as JSON values, in a fixed order."""
    record = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(science).items()}
    for name in SCIENCE_ARGUMENTS:
        value = getattr(arguments, name)
        record[name] = getattr(value, "value", value)  # enums of transformers by their value
    return record
