"""Students that start from their teacher, and other initial weights.

A student copies some of its teacher's layers, its embeddings, its vocabulary head: BERT to BERT, DistilBERT to
DistilBERT, or BERT to DistilBERT, whose layers are BERT's under other names. A model without a published checkpoint at
its size can start from projected embeddings and from the word frequencies of the corpus.
"""

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoModelForMaskedLM

from compact_biomed.errors import UserError

# The names of a masked-LM's parts: embeddings, layers, vocabulary head.
_PARTS = {
    "bert": ("bert.embeddings.", "bert.encoder.layer.", "cls."),
    "distilbert": ("distilbert.embeddings.", "distilbert.transformer.layer.", "vocab_"),
}
# DistilBERT's name for each part of a BERT.
_DISTILBERT_OF_BERT = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
    "predictions.transform.dense": "transform",
    "predictions.transform.LayerNorm": "layer_norm",
    "predictions.decoder": "projector",
    "predictions": "projector",
}
_TOKEN_TYPES, _POSITIONS = "token_type_embeddings.weight", "position_embeddings.weight"


def cut_student(
    teacher: nn.Module,
    config=None,
    *,
    layers: Sequence[int] = (),
    embeddings: bool = True,
    head: bool = True,
) -> nn.Module:
    """Build a student masked-LM that starts from parts of its teacher; the other parts are random.

    The decoder stays tied to the student's embeddings. The published scripts do as `head=False`:
    they save the student as a bare encoder, so the transform of its head starts at random.

    Args:
        teacher: `BertForMaskedLM` or `DistilBertForMaskedLM`.
        config: the student's; by default the teacher's with `len(layers)` layers.
        layers: teacher layer of each student layer (`layer_maps.layer_map`); if empty, none is copied.
        embeddings: copy the embeddings.
        head: copy the vocabulary head.

    Returns:
        The student, float32, sharing no memory with its teacher. Random parts come from torch's generator.

    Raises:
        UserError: heads do not divide the width, vocabularies differ, or parts do not fit the
            student; the message names what fits.
    """
    if config is None:
        config = depth_changed(teacher.config, len(layers))
    check_heads(config)
    student = AutoModelForMaskedLM.from_config(config, dtype=torch.float32)
    copy_parts(student, teacher, layers=layers, embeddings=embeddings, head=head)
    return student


def depth_changed(config, layers: int):
    """Return a copy of a configuration with another number of layers."""
    if layers < 1:
        raise UserError(
            "no depth for the student: no layers are copied",
            remedy="give layers or the student's configuration",
        )
    name = config.attribute_map.get("num_hidden_layers", "num_hidden_layers")
    others = config.to_dict()
    others.pop("layer_types", None)  # one per layer; those of the new layers follow the architecture's rule
    return type(config).from_dict(others | {name: layers})


@torch.no_grad()
def copy_parts(
    student: nn.Module,
    teacher: nn.Module,
    *,
    layers: Sequence[int] = (),
    embeddings: bool = True,
    head: bool = True,
) -> None:
    """Copy parts of a teacher into a student in place; arguments as for `cut_student`.

    DistilBERT has no token types; BERT's first type is added to the positions, which gives the
    same sums (DistilBERT, Sanh et al. 2019, section 3, drops it).

    Raises:
        UserError: as `cut_student`.
    """
    check_vocabularies(student.config, teacher.config)
    copy = (embeddings, bool(layers), head)
    if not any(copy):
        return
    _check_same_functions(student.config, teacher.config)
    if layers:
        _check_layers(layers, student.config, teacher.config)
    student_type = student.config.model_type
    source = _parts(teacher, student_type, copy, layers)
    target = {n: p for n, p in student.named_parameters() if n.startswith(_prefixes(student_type, copy))}
    if set(source) != set(target):
        raise RuntimeError(f"parts were not copied whole: {sorted(set(source) ^ set(target))}")
    for name, tensor in source.items():
        _check_shape(name, target[name], tensor)
    for name, tensor in source.items():
        target[name].copy_(tensor)


def _prefixes(model_type: str, copy: tuple[bool, ...]) -> tuple[str, ...]:
    return tuple(itertools.compress(_PARTS[model_type], copy))


def _parts(teacher: nn.Module, student_type: str, copy: tuple[bool, ...], layers: Sequence[int]) -> dict[str, Tensor]:
    """Return the teacher's parts to copy, under the names that a student of this type has for them."""
    parts = {}
    teacher_type = teacher.config.model_type
    prefixes = zip(_prefixes(teacher_type, copy), _prefixes(student_type, copy), strict=True)
    for teacher_prefix, student_prefix in prefixes:
        named = teacher.named_parameters()
        part = {n.removeprefix(teacher_prefix): p for n, p in named if n.startswith(teacher_prefix)}
        if teacher_prefix.endswith("layer."):
            part = _renumbered(part, layers)
        if teacher_type != student_type:
            part = _as_distilbert(part)
        parts |= {f"{student_prefix}{name}": tensor for name, tensor in part.items()}
    return parts


def _renumbered(parameters: dict[str, Tensor], layers: Sequence[int]) -> dict[str, Tensor]:
    """Return the parameters of some layers under their new numbers."""
    renumbered = {}
    for i, layer in enumerate(layers):
        prefix = f"{layer}."
        renumbered |= {f"{i}.{n.removeprefix(prefix)}": p for n, p in parameters.items() if n.startswith(prefix)}
    return renumbered


def _as_distilbert(parameters: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename one part of a BERT to DistilBERT's names."""
    parameters = dict(parameters)
    if _TOKEN_TYPES in parameters:
        parameters[_POSITIONS] = parameters[_POSITIONS] + parameters.pop(_TOKEN_TYPES)[0]

    def renamed(name: str) -> str:
        number, dot, rest = name.partition(".") if name[0].isdigit() else ("", "", name)
        module, _, kind = rest.rpartition(".")
        return f"{number}{dot}{_DISTILBERT_OF_BERT.get(module, module)}.{kind}"

    return {renamed(name): tensor for name, tensor in parameters.items()}


def check_heads(config) -> None:
    """Raise a `UserError` unless the attention heads divide the width."""
    width, heads = config.hidden_size, config.num_attention_heads
    if width % heads:
        fitting = [n for n in range(1, width + 1) if width % n == 0 and width // n >= 8]
        raise UserError(
            f"{heads} attention heads do not divide the width {width}",
            remedy=f"use one of these numbers of heads: {', '.join(map(str, fitting))}",
        )


def check_vocabularies(student_config, teacher_config) -> None:
    """Raise a `UserError` unless vocabularies match: logits are compared and embeddings copied row by row."""
    if student_config.vocab_size != teacher_config.vocab_size:
        raise UserError(
            f"the student's vocabulary has {student_config.vocab_size:,} entries, the teacher's "
            f"{teacher_config.vocab_size:,}",
            remedy="build the student for the teacher's tokenizer",
        )


def _check_same_functions(student, teacher) -> None:
    """Raise a `UserError` unless a layer of the teacher computes the same function in the student."""
    pair = (teacher.model_type, student.model_type)
    if teacher.model_type not in _PARTS or pair not in {("bert", "bert"), ("distilbert",) * 2, ("bert", "distilbert")}:
        raise UserError(
            f"a {student.model_type} cannot take parts of a {teacher.model_type}",
            remedy="start it at random (no layers, no embeddings, no head), or from a BERT of the same width",
        )
    for quantity, of_student, of_teacher in (
        ("width", student.hidden_size, teacher.hidden_size),
        ("attention heads", student.num_attention_heads, teacher.num_attention_heads),
        ("activation", _activation(student), _activation(teacher)),
    ):
        if of_student != of_teacher:
            raise UserError(
                f"{quantity}: {of_student} in the student, {of_teacher} in the teacher; nothing can be copied",
                remedy="give the student the teacher's, or start it at random (no layers, embeddings or head)",
            )


def _activation(config) -> str:
    return config.activation if config.model_type == "distilbert" else config.hidden_act


def _check_layers(layers: Sequence[int], student, teacher) -> None:
    if len(layers) != student.num_hidden_layers:
        raise UserError(
            f"{len(layers)} teacher layers for a student of {student.num_hidden_layers}",
            remedy="name one teacher layer for each student layer",
        )
    if any(not 0 <= layer < teacher.num_hidden_layers for layer in layers):
        raise UserError(
            f"the teacher has {teacher.num_hidden_layers} layers (asked for: {', '.join(map(str, layers))})",
            remedy=f"choose among layers 0 to {teacher.num_hidden_layers - 1}",
        )


def _check_shape(name: str, target: Tensor, source: Tensor) -> None:
    if target.shape != source.shape:
        in_student, in_teacher = (" x ".join(map(str, tensor.shape)) for tensor in (target, source))
        raise UserError(
            f"{name} is {in_student} in the student and {in_teacher} in the teacher",
            remedy="give the student the teacher's sizes, or do not copy this part",
        )


# ---- Initial weights of models that have no published checkpoint at their size
# Each is a named setting of a recipe, off in `paper`, and was measured (docs/log.md). None of them changes a model
# whose start weights are published.


# Standard deviation of projected embeddings. The usual 0.02 leaves the logits of a tied decoder
# nearly flat; measured in docs/log.md.
_EMBEDDING_STD = 0.1


@torch.no_grad()
def set_decoder_bias(model: nn.Module, log_frequencies: np.ndarray) -> None:
    """Set the vocabulary head's bias to the log-frequencies of the corpus, float32 [vocabulary].

    A model with near-zero hidden states then predicts the unigram distribution from its
    first step, instead of learning it in hundreds of steps. Rows beyond the tokenizer's vocabulary, which pad
    the embedding, are as rare as the rarest word.

    Raises:
        UserError: the head has no bias.
    """
    bias = model.get_output_embeddings().bias
    if bias is None:
        raise UserError(
            f"the vocabulary head of this {model.config.model_type} has no bias", where="--decoder-bias", remedy="off"
        )
    padded = np.pad(log_frequencies, (0, len(bias) - len(log_frequencies)), constant_values=log_frequencies.min())
    bias.copy_(torch.from_numpy(padded - log_frequencies.mean()))


@torch.no_grad()
def project_embeddings(model: nn.Module, source: torch.Tensor) -> float:
    """Set word embeddings to the leading principal directions of a larger model's.

    MobileBERT's vocabulary head has more columns than the tied embedding; they take the
    directions that follow. Its embedding transformation is set to pass the three words (next,
    this, previous) on side by side: as nothing in between is normalized, the head then sees a
    masked word's neighbors from the first step.

    Args:
        model: a masked-LM of the same vocabulary.
        source: [vocabulary, width], width at least the number of columns to fill.

    Returns:
        The share of the source's variance that the word embeddings preserve.

    Raises:
        UserError: the source has another vocabulary or is too narrow.
    """
    target = model.get_input_embeddings().weight
    extra = getattr(getattr(getattr(model, "cls", None), "predictions", None), "dense", None)
    columns = target.shape[1] + (extra.weight.shape[0] if extra is not None else 0)
    if source.shape[0] != target.shape[0] or source.shape[1] < columns:
        raise UserError(
            f"embeddings of {' x '.join(map(str, source.shape))} cannot fill {target.shape[0]} x {columns}",
            remedy="choose a source of the same vocabulary that is at least as wide",
        )
    centered = (source - source.mean(0)).double()
    # 384 x 384: the eigenvectors of the covariance are the right singular vectors.
    variances, directions = torch.linalg.eigh(centered.T @ centered)
    projected = centered @ directions.flip(1)[:, :columns]
    # One factor for all columns keeps distances between words in proportion.
    width = target.shape[1]
    projected *= _EMBEDDING_STD / projected[:, :width].std()
    target.copy_(projected[:, :width])
    if extra is not None:
        extra.weight.copy_(projected[:, width:].T)
    transformation = getattr(model.base_model.embeddings, "embedding_transformation", None)
    if transformation is not None:
        torch.nn.init.eye_(transformation.weight)
    return float(variances.flip(0)[:width].sum() / variances.sum())
