"""A run's TrainingArguments: the recipe's fields, then the user's; fields that would have no effect are refused."""

import difflib
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NoReturn

import torch
from transformers import HfArgumentParser, TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from compact_biomed.errors import UsageError, UserError, flag_of, hyphenated, nearest_flag

_MEASURED = "held-out documents are measured before and after training, see --heldout-documents"
_DRAWN = "the documents of a step follow from --seed"
# Fields that this engine does not honor, and what to do in their place.
_REFUSED = {
    "do_eval": _MEASURED,
    "per_device_eval_batch_size": _MEASURED,
    "prediction_loss_only": _MEASURED,
    "include_for_metrics": _MEASURED,
    "batch_eval_metrics": _MEASURED,
    "load_best_model_at_end": "the last step's weights are the result",
    "metric_for_best_model": "the last step's weights are the result",
    "greater_is_better": "the last step's weights are the result",
    "label_smoothing_factor": "a recipe states its loss in full",
    "bf16": "use --precision",
    "fp16": "use --precision",
    "bf16_full_eval": "use --precision",
    "fp16_full_eval": "use --precision",
    "resume_from_checkpoint": "a run resumes by itself: give the same command again",
    "num_train_epochs": "use --max-steps",
    "data_seed": _DRAWN,
    "dataloader_drop_last": _DRAWN,
    "train_sampling_strategy": _DRAWN,
    "length_column_name": _DRAWN,
}
# field -> (whether a finite value is allowed, in words)
_RANGES: dict[str, tuple[Callable[[float], bool], str]] = {
    "max_steps": (lambda x: x >= 0, "at least 0: runs are counted in optimizer steps (0: the start weights)"),
    "learning_rate": (lambda x: x > 0, "above 0"),
    "logging_steps": (lambda x: x > 0, "above 0"),
    "weight_decay": (lambda x: x >= 0, "at least 0"),
    "max_grad_norm": (lambda x: x >= 0, "at least 0"),
    "adam_beta1": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "adam_beta2": (lambda x: 0 <= x < 1, "at least 0 and below 1"),
    "adam_epsilon": (lambda x: x >= 0, "at least 0"),
}


def check_flags(arguments: Iterable[str], suggestions: Iterable[str] = ()) -> None:
    """Raise a `UsageError` for the first argument that is no flag of `TrainingArguments`, or one without effect.

    Args:
        arguments: flags and values.
        suggestions: further flags that a misspelled one may mean: those of the parser that left these arguments over.
    """
    known = [flag for action in _parser()._actions for flag in action.option_strings]
    for argument in arguments:
        flag = argument.partition("=")[0]
        if not flag.startswith("--"):
            continue
        if flag not in known:
            near = nearest_flag(flag, [*suggestions, *known])
            raise UsageError(f"unknown flag {flag}", remedy=f"did you mean {near}?" if near else "see --help")
        name = flag[2:].replace("-", "_")
        remedy = _MEASURED if name.startswith("eval_") else _REFUSED.get(name)
        if remedy:
            raise UsageError(f"{flag} has no effect here", remedy=remedy)


def refuse(message: str) -> NoReturn:
    """Raise argparse's error as one line; its own usage would fill the screen with every field.

    Args:
        message: argparse's: "argument --optim: invalid choice: 'foo' (choose from ...)".

    Raises:
        UsageError: always.
    """
    what, _, choices = message.partition(" (choose from ")
    if match := re.match(r"argument (?:--\w+/)?(--[\w-]+)\S*: (.*)", what):
        what = f"{match[1]}: {match[2]}"
    value = re.search(r"invalid choice: '?([^']*)", what)
    near = difflib.get_close_matches(value[1], re.findall(r"\w+", choices), n=4, cutoff=0) if value else []
    raise UsageError(what, remedy=f"for instance {', '.join(near)}" if near else "see --help")


def check_values(arguments: TrainingArguments) -> None:
    """Raise a `UsageError` for a number that transformers takes and training cannot use."""
    for name, (good, words) in _RANGES.items():
        value = getattr(arguments, name)
        if not (math.isfinite(value) and good(value)):
            raise UsageError(f"{flag_of(name)} {value} must be {words}")


# Trackers whose package has another name.
_PACKAGES = {
    "azure_ml": "azureml-core",
    "comet_ml": "comet-ml",
    "dagshub": "dagshub mlflow",
    "flyte": "flytekit",
}


def check_trackers(trackers: Sequence[str]) -> None:
    """Raise a `UsageError` for a name in --report-to that is no tracker, or a `UserError` for one that is missing."""
    installed = get_available_reporting_integrations() + ["flyte"] * (find_spec("flytekit") is not None)
    for name in trackers:
        if name not in INTEGRATION_TO_CALLBACK:
            known = ", ".join(sorted(INTEGRATION_TO_CALLBACK))
            raise UsageError(f"no tracker {name!r}", where="--report-to", remedy=f"use one of {known}")
        if name not in installed:
            remedy = f"pip install {_PACKAGES.get(name, name)}; installed: {', '.join(installed) or 'none'}"
            raise UserError(f"{name} is not installed", where=flag_of("report_to"), remedy=remedy)


def training_arguments(
    defaults: Mapping[str, Any],
    flags: Sequence[str],
    output_dir: Path,
    *,
    default_batch_size: int,
    batch_size: int | None = None,
) -> TrainingArguments:
    """Return transformers' arguments: the recipe's, then whatever the user set.

    Args:
        defaults: fields that the recipe sets.
        flags: the user's, as on a command line.
        output_dir: folder of the run.
        default_batch_size: documents per optimizer step, if the user sets nothing.
        batch_size: the same, if the user set it.

    Raises:
        UsageError: an unknown flag, one that has no effect, a value that is none, or a batch that cannot be divided
            as requested.
    """
    flags = hyphenated(flags)
    check_flags(flags)
    if flags and not flags[0].startswith("-"):
        raise UsageError(f"unexpected argument {flags[0]!r}", remedy="see --help")
    world = int(os.environ.get("WORLD_SIZE", "1"))
    flag_names = {flag.split("=")[0] for flag in flags}
    values: dict[str, Any] = {
        "output_dir": str(output_dir),
        "report_to": "tensorboard",
        "save_total_limit": 2,
        "disable_tqdm": True,
        "remove_unused_columns": False,
        "logging_nan_inf_filter": False,
        "ignore_data_skip": True,
        "dataloader_num_workers": 0,
        "optim": "adamw_torch_fused",
        **defaults,
    }
    if "LOCAL_RANK" in os.environ and not _has_accelerator():
        values["use_cpu"] = True  # else accelerate takes the processes for strangers to each other
    values |= _division(default_batch_size, batch_size, flags, flag_names, world)
    argv = [item for key, value in values.items() for item in (flag_of(key), as_flag(value))]
    try:
        parsed, remaining = _parser().parse_args_into_dataclasses([*argv, *flags], return_remaining_strings=True)
    except ValueError as error:
        raise UsageError(f"transformers refuses these settings: {error}") from error
    if remaining:
        raise UsageError(f"unexpected argument {remaining[0]!r}", remedy="see --help")
    check_values(parsed)
    check_trackers(parsed.report_to)
    return parsed


def _parser() -> HfArgumentParser:
    """Return a parser of transformers' arguments, whose errors are one line."""
    parser = HfArgumentParser(TrainingArguments, allow_abbrev=False)
    parser.error = refuse
    return parser


def _has_accelerator() -> bool:
    return torch.accelerator.is_available()


def _division(default: int, batch_size: int | None, rest: Sequence[str], flags: set[str], world: int) -> dict[str, int]:
    """Return how a step's documents are divided over processes and accumulation."""
    total = batch_size if batch_size is not None else default
    device, accumulation = "--per-device-train-batch-size", "--gradient-accumulation-steps"

    def value(flag: str) -> int:
        text = "1"
        for i, argument in enumerate(rest):
            if argument == flag and i + 1 < len(rest):
                text = rest[i + 1]
            elif argument.startswith(f"{flag}="):
                text = argument.partition("=")[2]
        if not text.isdecimal() or int(text) < 1:
            raise UsageError(f"{flag} {text} is not a whole number above 0")
        return int(text)

    if {device, accumulation} <= flags:
        product = value(device) * value(accumulation) * world
        if batch_size is not None and product != batch_size:
            raise UsageError(
                f"--batch-size {batch_size} is not {device} x {accumulation} x {world} processes = {product}"
            )
        return {}
    if device in flags:
        each, remainder = divmod(total, value(device) * world)
        if remainder or each < 1:
            raise UsageError(f"{total} documents per step cannot be divided into {value(device)} x {world} processes")
        return {"gradient_accumulation_steps": each}
    each, remainder = divmod(total, value(accumulation) * world)
    if remainder or each < 1:
        raise UsageError(f"{total} documents per step cannot be divided by {value(accumulation)} x {world} processes")
    return {"per_device_train_batch_size": each}


def as_flag(value: Any) -> str:
    """Return a value as transformers' parser reads it."""
    return json.dumps(value) if isinstance(value, dict) else str(value)


def batch_size_of(arguments: TrainingArguments) -> int:
    """Return the documents per optimizer step, over all processes and accumulation."""
    return arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps * arguments.world_size
