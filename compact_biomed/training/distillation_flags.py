"""The flags that only distillation has."""

import argparse
import math
from typing import Any

from compact_biomed.errors import UsageError
from compact_biomed.models.layer_maps import LAYER_MAPS
from compact_biomed.models.start import RANDOM
from compact_biomed.training.settings import FIDELITY, FROM_TEACHER, DistillationScience

# What each loss reads (`objectives.published_terms`) ...
_READ = {
    "distilbiobert": ("temperature", "teacher_dropout"),
    "compactbiobert": ("layer_map", "cell_average", "maps_after_dropout", "teacher_dropout"),
    "tinybiobert": ("padding_in_mse", "maps_after_dropout", "raw_scores", "teacher_dropout"),
}
# ... and what a student's start reads (`build_distillation.build_student`); a checkpoint is loaded as it is.
_READ_BY_START = {
    FROM_TEACHER: ("layer_map", "student_layers", "copy_embeddings", "copy_head"),
    RANDOM: ("student_layers",),
}
# The kinds of terms that these losses have.
_TERMS = (
    "mlm_cross_entropy",
    "soft_kl",
    "soft_cross_entropy",
    "hidden_cosine",
    "hidden_mse",
    "attention_kl",
    "attention_mse",
    "attention_score_mse",
)
_QUIRKS = {
    "teacher_dropout": "the teacher's dropout is on",
    "maps_after_dropout": "attention maps are compared after dropout",
    "cell_average": "the attention KL is averaged over cells, not rows",
    "padding_in_mse": "padding takes part in the mean squared errors",
    "copy_head": "the student's vocabulary head is the teacher's, not random",
}
_PLAIN = ("teacher", "loss", "layer_map", "student_layers", "temperature")
_SWITCHES = (*_QUIRKS, "copy_embeddings", "raw_scores")
_OF_LOSS = {name for names in _READ.values() for name in names}
_OF_START = set(_READ_BY_START[FROM_TEACHER])


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to a recipe's parser."""
    group = parser.add_argument_group("distillation (science)")
    flag = group.add_argument
    flag("--teacher", help="a masked-LM: hub name or folder (default: the recipe's own, made when it is missing)")
    flag("--loss", choices=tuple(_READ), help="which of the paper's losses")
    flag("--layer_map", help=f"teacher layers of the student: {', '.join(LAYER_MAPS)}, or a list such as 0,2,4")
    flag("--student_layers", type=int, help="depth of a student that otherwise is built as its teacher")
    flag("--temperature", type=float, help="of the soft targets")
    flag("--leave_out", nargs="+", metavar="TERM", help=f"kinds of terms to leave out: {', '.join(_TERMS)}")
    flag("--fidelity", choices=tuple(FIDELITY), help="the published quirks all on, or all off (default: corrected)")
    for name, meaning in _QUIRKS.items():
        flag(f"--{name}", choices=("on", "off"), help=meaning)
    flag("--copy_embeddings", choices=("on", "off"), help="the student's embeddings are the teacher's")
    flag("--raw_scores", choices=("on", "off"), help="TinyBioBERT's attention term compares scores (TinyBERT's script)")
    flag("--gradient_shares", action="store_true", default=None, help="log each term's share of the gradient")


def science(given: argparse.Namespace) -> dict[str, Any]:
    """Fields of `DistillationScience` that the flags set; a single switch wins over `--fidelity`."""
    fields: dict[str, Any] = {k: getattr(given, k) for k in _PLAIN if getattr(given, k) is not None}
    fields |= FIDELITY.get(given.fidelity, {})
    fields |= {k: getattr(given, k) == "on" for k in _SWITCHES if getattr(given, k) is not None}
    if given.leave_out is not None:
        fields["leave_out"] = tuple(given.leave_out)
    return fields


def check(given: argparse.Namespace, science: DistillationScience) -> None:
    """Raise a `UsageError` for a value that cannot be, or a flag without effect.

    Args:
        given: the flags. `--fidelity` sets the switches of all losses and is no flag without effect.
        science: with the flags in it.
    """
    if not (math.isfinite(science.temperature) and science.temperature > 0):
        raise UsageError(f"--temperature {science.temperature} must be finite and above 0")
    if science.student_layers is not None and science.student_layers < 1:
        raise UsageError(f"--student_layers {science.student_layers} must be at least 1")
    if science.teacher == RANDOM:
        raise UsageError("random weights teach nothing", where="--teacher", remedy="a hub name or a checkpoint folder")
    by_start = _READ_BY_START.get(science.start, ())
    for name in sorted(_OF_LOSS | _OF_START):
        if getattr(given, name) is None or name in _READ[science.loss] or name in by_start:
            continue
        reason = f"the loss {science.loss}" if name in _OF_LOSS else ""
        if name in _OF_START:
            reason += f"{' and ' if reason else ''}--start {science.start}"
        raise UsageError(f"--{name} has no effect with {reason}", remedy="leave it out")
