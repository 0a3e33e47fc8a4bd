"""The flags of a recipe: ours, and every field of transformers' TrainingArguments."""

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compact_biomed.errors import UsageError
from compact_biomed.flags import Parser
from compact_biomed.models.start import RANDOM
from compact_biomed.training import distillation_flags, trainer_flags
from compact_biomed.training.settings import FROM_TEACHER, DistillationScience, Preset, Speed

if TYPE_CHECKING:
    from transformers import TrainingArguments

    from compact_biomed.training.recipe import ContinualRecipe

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
        distillation_flags.add(parser)
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
    training: "TrainingArguments"
    dry_run: bool
    fresh: bool


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
    preset = _overridden(recipe.preset(ours.preset, getattr(ours, "variant", None)), ours)
    name = f"{recipe.name}-{ours.preset}"
    if getattr(ours, "variant", None) and ours.variant != next(iter(recipe.variants)):
        name += f"-{ours.variant}"
    folder = ours.output_dir or Path("runs") / name
    known = [o for action in parser._actions for o in action.option_strings]
    training = training_arguments(preset, rest, folder, batch_size=ours.batch_size, known=known)
    preset = replace(preset, science=replace(preset.science, batch_size=_batch_size(training)))
    return Asked(preset, training, ours.dry_run, ours.fresh)


def underscored(arguments: Sequence[str]) -> list[str]:
    """`--dry-run` and `--dry_run` are the same flag, as for transformers' own."""
    result = []
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, value = argument.partition("=")
            argument = "--" + flag[2:].replace("-", "_") + equals + value
        result.append(argument)
    return result


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
        science |= distillation_flags.science(ours)
        distillation_flags.check(ours, replace(preset.science, **science))
    speed = {k: given[k] for k in _SPEED_FLAGS if k in given}
    return replace(preset, science=replace(preset.science, **science), speed=replace(preset.speed, **speed))


def training_arguments(
    preset: Preset, rest: Sequence[str], folder: Path, *, batch_size: int | None, known: Sequence[str] = ()
) -> "TrainingArguments":
    """transformers' arguments: the preset's, then whatever the user set.

    Args:
        rest: flags that are not ours.
        folder: of the run.
        batch_size: documents a step, if the user set it.
        known: our own flags, for suggestions.

    Raises:
        UsageError: an unknown flag, one that has no effect, a value that is none, or a batch that cannot be divided
            as asked.
    """
    from transformers import HfArgumentParser, TrainingArguments

    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)
    parser.error = trainer_flags.refuse
    trainer_flags.check_flags(rest, {o for action in parser._actions for o in action.option_strings}, known)
    if rest and not rest[0].startswith("-"):
        raise UsageError(f"unexpected argument {rest[0]!r}", remedy="see --help")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    asked = {a.split("=")[0] for a in rest}
    defaults: dict[str, Any] = {
        "output_dir": str(folder),
        "report_to": "tensorboard",
        "save_total_limit": 2,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "ignore_data_skip": True,
        "dataloader_num_workers": 0,
        "optim": "adamw_torch_fused",
        **preset.arguments,
    }
    if "LOCAL_RANK" in os.environ and not _has_accelerator():
        defaults["use_cpu"] = True  # else accelerate takes the processes for strangers to each other
    defaults |= _division(preset.science.batch_size, batch_size, rest, asked, world)
    argv = [item for key, value in defaults.items() for item in (f"--{key}", str(value))]
    try:
        parsed, remaining = parser.parse_args_into_dataclasses([*argv, *rest], return_remaining_strings=True)
    except ValueError as error:
        raise UsageError(f"transformers refuses these settings: {error}") from error
    if remaining:
        raise UsageError(f"unexpected argument {remaining[0]!r}", remedy="see --help")
    trainer_flags.check_values(parsed)
    return parsed


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _division(default: int, given: int | None, rest: Sequence[str], asked: set[str], world: int) -> dict[str, int]:
    """How a step's documents are divided over processes and accumulation."""
    total = given if given is not None else default
    device, accumulation = "--per_device_train_batch_size", "--gradient_accumulation_steps"

    def value(flag: str) -> int:
        given = "1"
        for i, argument in enumerate(rest):
            if argument == flag and i + 1 < len(rest):
                given = rest[i + 1]
            elif argument.startswith(f"{flag}="):
                given = argument.partition("=")[2]
        if not given.isdecimal() or int(given) < 1:
            raise UsageError(f"{flag} {given} is not a whole number above 0")
        return int(given)

    if {device, accumulation} <= asked:
        product = value(device) * value(accumulation) * world
        if given is not None and product != given:
            raise UsageError(f"--batch_size {given} is not {device} x {accumulation} x {world} processes = {product}")
        return {}
    if device in asked:
        each, remainder = divmod(total, value(device) * world)
        if remainder or each < 1:
            raise UsageError(f"{total} documents a step cannot be divided into {value(device)} x {world} processes")
        return {"gradient_accumulation_steps": each}
    each, remainder = divmod(total, value(accumulation) * world)
    if remainder or each < 1:
        raise UsageError(f"{total} documents a step cannot be divided by {value(accumulation)} x {world} processes")
    return {"per_device_train_batch_size": each}


def _batch_size(arguments: "TrainingArguments") -> int:
    return arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
