"""The flags of a recipe: ours, and every field of transformers' TrainingArguments."""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from compact_biomed.cli import guarded
from compact_biomed.cli.flags import Parser, underscored
from compact_biomed.errors import UsageError
from compact_biomed.machine import Speed
from compact_biomed.models.layer_maps import LAYER_MAPS
from compact_biomed.training.recipe import FIDELITY, FROM_TEACHER, RANDOM, ContinualRecipe, DistillationScience, Preset

# ----------------------------------------------------------------------------------------------------
# The flags that only distillation has.


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


def add_distillation_flags(parser: argparse.ArgumentParser) -> None:
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


def distillation_settings(given: argparse.Namespace) -> dict[str, Any]:
    """Fields of `DistillationScience` that the flags set; a single switch wins over `--fidelity`."""
    fields: dict[str, Any] = {k: getattr(given, k) for k in _PLAIN if getattr(given, k) is not None}
    fields |= FIDELITY.get(given.fidelity, {})
    fields |= {k: getattr(given, k) == "on" for k in _SWITCHES if getattr(given, k) is not None}
    if given.leave_out is not None:
        fields["leave_out"] = tuple(given.leave_out)
    return fields


def check_distillation_flags(given: argparse.Namespace, science: DistillationScience) -> None:
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


_EPILOG = """\
Fields of transformers.TrainingArguments can be set in their usual spelling, for instance
  --learning_rate 3e-4 --max_steps 1000 --save_steps 100 --seed 7
(those that would have no effect are refused).
--batch_size is the number of documents an optimizer step; --per_device_train_batch_size and
--gradient_accumulation_steps only say how it is divided.
"""
_SCIENCE_FLAGS = ("start", "tokenizer", "max_length", "batch_size", "mask_probability", "heldout_fraction")
NOWHERE = "none"  # `--embeddings_from none`: they start as the other weights do
_LEAST = {
    "max_length": 1,
    "batch_size": 1,
    "replicas": 0,
    "micro_batch_tokens": 0,
    "pseudo_positions": 0,
    "heldout_documents": 1,
}
_SPEED_FLAGS = tuple(f.name for f in fields(Speed))


def parser_of(recipe: "ContinualRecipe", *, program: str | None = None) -> argparse.ArgumentParser:
    """The flags that are ours; quick to build.

    Args:
        program: as it is called in the usage; by default the recipe's file.
    """
    from compact_biomed.training.recipe import PRESETS

    parser = Parser(
        prog=program or f"{recipe.name}.py",
        description=f"{recipe.task.capitalize()}: {recipe.model}.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--preset", choices=PRESETS, default="quick", help="scale of the run (default: quick, a few minutes)")
    if recipe.variants:
        add("--variant", choices=tuple(recipe.variants), help="which of the published models (paper preset)")
    add("--dry_run", action="store_true", help="print settings and expected cost, and stop")
    add("--output_dir", type=Path, help="folder of the run (default: runs/RECIPE-PRESET)")
    add("--fresh", action="store_true", help="start over; what stands in the folder is kept under another name")
    science = parser.add_argument_group("science (what is learned)")
    add = science.add_argument
    add("--sources", nargs="+", help="corpus: registry, nlm[:SUBSET], hub:OWNER/NAME, files, folders, globs")
    add("--decontaminate_against", nargs="+", help="tasks (or folders of them, or all) whose test sets are left out")
    add("--keep_title_only", action="store_true", help="keep citations without an abstract")
    add("--start", help="start weights: hub name, folder, registry:all-minilm-l6-v2 or random")
    add("--tokenizer", help="default: the start checkpoint's own")
    add("--embeddings_from", help="checkpoint whose word embeddings are projected to the model's width, or none")
    add("--max_length", type=int, help="most tokens a document")
    add("--batch_size", type=int, help="documents an optimizer step, over all processes")
    add("--mask_probability", type=float)
    add("--heldout_fraction", type=float)
    speed = parser.add_argument_group("speed (how fast; the result is the same to rounding)")
    add = speed.add_argument
    add("--precision", choices=("auto", "bf16", "fp32"))
    add("--replicas", type=int, help="micro-batches side by side on a CPU (default: 0 = one for each core)")
    add("--micro_batch_tokens", type=int, help="padded tokens a micro-batch (default: 0 = chosen for the machine)")
    add("--kernels", choices=("auto", "fast", "transformers"))
    add("--pseudo_positions", type=int, help="sample of the pseudo-perplexity, 0 = leave it out")
    add("--heldout_documents", type=int, help="most held-out documents that are measured")
    if recipe.science_type is DistillationScience:
        add_distillation_flags(parser)
    return parser


@dataclass(frozen=True)
class Asked:
    """What a command line asks of a recipe.

    Args:
        preset: science and speed, flags included.
        training: transformers' arguments; their `output_dir` is the run's folder.
        dry_run: tell the cost and stop.
        fresh: start over.
    """

    preset: Preset
    training: Any
    dry_run: bool
    fresh: bool


def main(recipe: "ContinualRecipe", arguments: Sequence[str] | None = None) -> int:
    """Run a recipe from the command line; return the exit status."""
    return guarded(lambda: run_recipe(recipe, arguments))


def run_recipe(recipe: "ContinualRecipe", arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Parse, then run or tell the cost."""
    asked = parsed(recipe, sys.argv[1:] if arguments is None else arguments, program=program)
    from compact_biomed.training.run import dry_run, run

    if asked.dry_run:
        return dry_run(recipe, asked.preset, asked.training)
    return run(recipe, asked.preset, asked.training, fresh=asked.fresh)


def parsed(recipe: "ContinualRecipe", arguments: Sequence[str], *, program: str | None = None) -> Asked:
    """The settings that a recipe has with these flags.

    Raises:
        UsageError: a flag or a value that is not known or has no effect.
    """
    parser = parser_of(recipe, program=program)
    ours, rest = parser.parse_known_args(underscored(arguments))
    from compact_biomed.training.arguments import batch_size_of, training_arguments

    preset = _overridden(recipe.preset(ours.preset, getattr(ours, "variant", None)), ours)
    name = f"{recipe.name}-{ours.preset}"
    if getattr(ours, "variant", None) and ours.variant != next(iter(recipe.variants)):
        name += f"-{ours.variant}"
    folder = ours.output_dir or Path("runs") / name
    known = [o for action in parser._actions for o in action.option_strings]
    training = training_arguments(preset, rest, folder, batch_size=ours.batch_size, known=known)
    preset = replace(preset, science=replace(preset.science, batch_size=batch_size_of(training)))
    return Asked(preset, training, ours.dry_run, ours.fresh)


def _overridden(preset: Preset, ours: argparse.Namespace) -> Preset:
    given: dict[str, Any] = {k: v for k, v in vars(ours).items() if v is not None}
    science = {k: given[k] for k in _SCIENCE_FLAGS if k in given}
    start = given.get("start", FROM_TEACHER)
    if start != FROM_TEACHER:
        science["layers_from"] = None  # a checkpoint of the user's own is loaded whole; a random one has no layers
    if start not in (FROM_TEACHER, RANDOM):
        science = {"tokenizer": start, "embeddings_from": None, **science}
    if "embeddings_from" in given:
        science["embeddings_from"] = None if given["embeddings_from"] == NOWHERE else given["embeddings_from"]
    if "sources" in given:
        science["sources"] = tuple(given["sources"])
    if "decontaminate_against" in given:
        science["decontaminate_against"] = tuple(given["decontaminate_against"])
    if ours.keep_title_only:
        science["require_abstract"] = False
    for name, low, high in (("mask_probability", 0, 1), ("heldout_fraction", 0, 1)):
        if name in science and not low < science[name] < high:
            raise UsageError(f"--{name} {science[name]} is not between {low} and {high}")
    for name, least in _LEAST.items():
        if name in given and given[name] < least:
            raise UsageError(f"--{name} {given[name]} must be at least {least}")
    if isinstance(preset.science, DistillationScience):
        science |= distillation_settings(ours)
        check_distillation_flags(ours, replace(preset.science, **science))
    speed = {k: given[k] for k in _SPEED_FLAGS if k in given}
    return replace(preset, science=replace(preset.science, **science), speed=replace(preset.speed, **speed))
