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
    "label_smoothing_factor",
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
    """

    precision: str = "auto"
    replicas: int = 0
    micro_batch_tokens: int = 0
    kernels: str = "auto"
    pseudo_positions: int = 512
    heldout_documents: int | None = None


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
