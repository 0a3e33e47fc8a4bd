"""The flags that only distillation has."""

import argparse
from typing import Any

from compact_biomed.models.layer_maps import LAYER_MAPS
from compact_biomed.training.settings import FIDELITY

_LOSSES = ("distilbiobert", "compactbiobert", "tinybiobert")
_QUIRKS = {
    "teacher_dropout": "the teacher's dropout is on",
    "maps_after_dropout": "attention maps are compared after dropout",
    "cell_average": "the attention KL is averaged over cells, not rows",
    "padding_in_mse": "padding takes part in the mean squared errors",
    "copy_head": "the student's vocabulary head is the teacher's, not random",
}
_PLAIN = ("teacher", "loss", "layer_map", "student_layers", "temperature")
_SWITCHES = (*_QUIRKS, "copy_embeddings", "raw_scores")


def add(parser: argparse.ArgumentParser) -> None:
    """Add them to a recipe's parser."""
    group = parser.add_argument_group("distillation (science)")
    flag = group.add_argument
    flag("--teacher", help="a masked-LM: hub name or folder (default: the recipe's own, made when it is missing)")
    flag("--loss", choices=_LOSSES, help="which of the paper's losses")
    flag("--layer_map", help=f"teacher layers of the student: {', '.join(LAYER_MAPS)}, or a list such as 0,2,4")
    flag("--student_layers", type=int, help="depth of a student that otherwise is built as its teacher")
    flag("--temperature", type=float, help="of the soft targets")
    flag("--leave_out", nargs="+", metavar="TERM", help="kinds of terms to leave out: soft_kl, attention_kl, ...")
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
