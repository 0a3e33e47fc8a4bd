"""What a run learns: its hyperparameters, apart from the performance settings that only decide how fast.

Changing a performance setting must not change what is learned beyond rounding (and the draw of dropout); a test says
so. A run's folder remembers its hyperparameters and refuses any others.
"""

from dataclasses import dataclass, fields
from typing import Any

from compact_biomed.machine import KERNEL_CHOICES, PRECISION_CHOICES
from compact_biomed.objectives.terms import Term, as_json


@dataclass(frozen=True)
class Hyperparameters:
    """Everything that decides what is learned, besides `TrainingArguments`' own optimizer fields.

    Args:
        recipe: name of the recipe.
        preset: smoke, quick, mini or paper.
        model: name in `models.architectures.ARCHITECTURES`.
        start: start weights: a hub name, a folder, `registry:all-minilm-l6-v2`, `random`, "sliced:NAME" (cut out of
            that wider checkpoint, `models.slicing`), or "recipe:NAME" for those that a recipe of this project makes.
        tokenizer: where the tokenizer comes from; by default the start checkpoint's own.
        sources: of the corpus, see `corpus.sources.expand_sources`.
        max_length: most tokens per document, special tokens included.
        require_abstract: leave out citations that have a title only.
        heldout_fraction: share of documents that are never trained on.
        batch_size: documents per optimizer step, over all processes and accumulation.
        mask_probability: share of tokens that get a label; 0 only in distillation without a term on logits.
        decoder_bias: start the vocabulary bias at the corpus' log-frequencies.
        embeddings_from: a checkpoint whose embeddings are projected to this width, or None.
        layers_from: layers of `start` that become this model's, or None if it is loaded whole.
        decontaminate_against: benchmarks (names of tasks, folders of their data, or "all") whose test sets the corpus
            must not repeat, or None.
        documents: which of the training documents are read, a key of `training.data.SHARES`.
        start_sha256: of the start weights that a recipe makes, as soon as they exist.
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
    documents: str = "all"
    start_sha256: str = ""

    # Read of every run, but fields, and in records, of a distillation alone. An annotation, even as a ClassVar, would
    # move these fields to the front of those of the subclass, and so in its records.
    teacher = ""
    student_layers = None
    layer_map = "spaced"


@dataclass(frozen=True)
class DistillationHyperparameters(Hyperparameters):
    """What a distilled student learns, and from whom.

    `start` is also "teacher" (the student is cut out of it), or "sliced:teacher" (cut out of a wider one).

    Args:
        teacher: a hub name, a folder, or "recipe:NAME" for the one that a recipe of this project makes.
        teacher_sha256: of the teacher's weights, as soon as they exist.
        loss: name of the recipe whose terms these are, or of the user's file.
        terms: of the loss, switches below applied, layers still symbolic.
        layer_map: which teacher layers the student starts from and is matched with (`models.layer_maps`).
        student_layers: depth of a student that otherwise is built as its teacher; None: as `model` says.
        copy_embeddings, copy_head: what else is cut out of the teacher.
        temperature: of the soft targets.
        leave_out: losses whose terms are left out.
        relation_heads: relation heads of the terms on relations; None: as the terms state.
        relation_layer: the teacher layer of the terms on relations: a number from 0, "last" or "upper-middle"; None:
            as the terms state.
        raw_scores: TinyBioBERT's attention term compares scores, not probabilities (TinyBERT's own script).
        teacher_dropout, maps_after_dropout, cell_average, padding_in_mse: the published scripts' quirks
            (docs/distillation.md, table of fidelity).
    """

    teacher: str = ""
    teacher_sha256: str = ""
    loss: str = ""
    terms: tuple[Term, ...] = ()
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
    relation_heads: int | None = None
    relation_layer: int | str | None = None


# Left out of a record at their defaults: they came later, and what they do not change keeps its key.
_OPTIONAL = ("documents", "start_sha256", "relation_heads", "relation_layer")

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

# Settings with a fixed choice of values, and those that are on or off.
CHOICES = {
    "fidelity": tuple(FIDELITY),
    "kernels": KERNEL_CHOICES,
    "loss_backend": ("own", "textbrewer"),
    "precision": PRECISION_CHOICES,
    "documents": ("all", "start", "rest"),
}
SWITCHES = {
    "teacher_dropout": "apply dropout in the teacher",
    "maps_after_dropout": "compare attention maps after dropout",
    "cell_average": "average the attention KL over cells, not rows",
    "padding_in_mse": "include padding in the mean squared errors",
    "copy_head": "start the student's vocabulary head from the teacher's, not at random",
    "copy_embeddings": "start the student's embeddings from the teacher's",
    "raw_scores": "compare raw attention scores where TinyBioBERT compares probabilities (TinyBERT's script)",
}

# The fields of TrainingArguments that are hyperparameters; all its others are performance or housekeeping.
OPTIMIZER_FIELDS = (
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


def as_record(hyperparameters: Hyperparameters, arguments: Any) -> dict[str, Any]:
    """Return all hyperparameters of a run as JSON values, in a fixed order."""
    record: dict[str, Any] = {}
    for field in fields(hyperparameters):
        name, value = field.name, getattr(hyperparameters, field.name)
        if name in _OPTIONAL and value == field.default:
            continue
        if name == "terms":
            value = [as_json(term) for term in value]
        record[name] = list(value) if isinstance(value, tuple) else value
    for name in OPTIMIZER_FIELDS:
        value = getattr(arguments, name)
        record[name] = getattr(value, "value", value)  # enums of transformers by their value
    return record
